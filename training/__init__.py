"""How an artifact is made."""


class TrainingError(Exception):
    """Something the user can mend: what happened, with the value, and what to type next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
