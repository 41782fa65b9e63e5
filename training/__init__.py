"""How an artifact is made."""


class TrainingError(Exception):
    """Something the user can mend: what happened, with the value, and what to type next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Refused(TrainingError):
    """A gate said no; exit code 3."""


class Stopped(Exception):
    """The user asked to stop; the current epoch is given up, the run stays valid. Exit code 130."""
