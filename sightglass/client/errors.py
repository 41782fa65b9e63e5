"""What can go wrong, as one family: whoever catches ClientError has caught all of it."""


class ClientError(Exception):
    """`code`: stable, for programs; `detail`: a sentence; `status`: of HTTP, or 0 without an answer; `request_id`: what
    the service's log calls this request, or empty; `temporary`: whether the same request may succeed later, and
    `retry_after`: in how many seconds, if the service said so.
    """

    def __init__(
        self,
        detail: str,
        code: str = "",
        *,
        status: int = 0,
        request_id: str = "",
        temporary: bool = False,
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.status = status
        self.request_id = request_id
        self.temporary = temporary
        self.retry_after = retry_after


class ServiceError(ClientError):
    """The service answered with a problem document; docs/errors.md lists every `code`."""


class Unreachable(ClientError):
    """No whole answer came: `code` is `unreachable`, or `timeout` when the time was over."""


class UnexpectedAnswer(ClientError):
    """Something answered that is no Sightglass, a proxy for instance; `code` is `unexpected_answer`."""


class UnreadableFile(ClientError):
    """The image could not be read on this side; `code` is `unreadable_file`."""
