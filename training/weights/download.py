"""Downloads by a zoo's own client, and what it meets where there is no network."""

import contextlib
import sys
from collections.abc import Iterator

from training.errors import TrainingError


@contextlib.contextmanager
def download(model: str, file: str) -> Iterator[None]:
    """Raises TrainingError for whatever goes wrong inside: a hub's client, its HTTP client and the reader of the file
    (which may not be the one that its name's hash says) raise their own."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # torch says "Downloading" where one JSON document belongs
            yield
    except Exception as error:
        raise TrainingError(
            f"the weights of {model} are not here and cannot be downloaded: {error}",
            f"fetch {file} elsewhere and --from {file}; --recipe few-photos or photos train from scratch",
        ) from error
