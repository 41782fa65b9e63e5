"""What describes the machine and the deployment; what describes the model is in its manifest."""

import difflib
import ipaddress
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app import machine
from app.artifact.decoder.decode import MAX_PIXELS
from app.engines.variants import VARIANTS

if TYPE_CHECKING:
    VariantName = str
else:
    VariantName = Literal["auto", *VARIANTS]

PREFIX = "SIGHTGLASS_"
DEFAULT_MODEL = Path(__file__).resolve().parent.parent / "exports/cifar10/1"
# the command line's own: tracebacks instead of one-sentence errors, and what `predict --url` shows to a service
_NOT_SETTINGS = {"SIGHTGLASS_DEBUG", "SIGHTGLASS_API_KEY"}
_SERVICE_LINK = re.compile(PREFIX + r"(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_\w+)?)")
_SEGMENT = re.compile(r"[\w.~!$&'()*+,;=:@-]+", re.ASCII)  # of a path; RFC 3986, 3.3
_SOCKET_PATH_BYTES = 107  # of sun_path, without its end; unix(7)
Count = Annotated[int, Field(ge=1)]


class SettingsError(Exception):
    """A setting is unknown or has no such value; the message is one sentence."""


class Settings(BaseSettings):
    """Every field is the environment variable SIGHTGLASS_<NAME>."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    model: Path = DEFAULT_MODEL
    """An artifact folder; a relative path starts at the current directory."""
    variant: VariantName = "auto"
    device: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto"
    host: str = "127.0.0.1"
    """A name or an address, or `*`: every address of IPv4 and IPv6, as `::` is."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """0 takes a free port."""
    uds: Path | None = None
    """The path of a Unix socket, in place of host and port."""
    root_path: str = ""
    """The path prefix that a proxy in front strips."""
    workers: Count | None = None
    """Processes that share the port; default: see loading.workers_for."""
    threads: Count | None = None
    """Engine and decoder threads of each worker; default: the usable cores divided by the workers."""
    max_batch: Count = 16
    """Images per engine run."""
    batch_delay_ms: Annotated[int, Field(ge=0, le=1000)] = 0
    """How long a batch that is not full waits for more; only where a larger batch costs hardly more, as on a GPU."""
    max_queue: Count = 128
    """Images admitted and not yet answered, over all workers; beyond it, 429."""
    max_upload_bytes: Count = 10_000_000
    max_pixels: Annotated[int, Field(ge=1, le=MAX_PIXELS)] = 64_000_000
    """Width times height of an image, checked before it is decoded."""
    deadline_ms: Count = 30_000
    """From the end of a request's headers to its answer; beyond it, 504."""
    header_timeout_ms: Count = 20_000
    """From a connection's start, or the first byte of a further request, to the end of the request's headers."""
    api_keys: SecretStr | None = None
    """NAME:KEY, several with commas; with any, requests need one. See app.http.middleware.api_keys."""
    api_keys_file: Path | None = None
    """The same, one a line; read at the start only."""
    cors_origins: str = ""
    """Whose pages may call from a browser: https://example.com, several with commas, or `*`."""
    cors_headers: str = ""
    """What those pages may send beside the usual headers: X-One, several with commas, or `*`."""
    security_headers: Literal["off", "on"] = "off"
    drain_ms: Annotated[int, Field(ge=0)] = 0
    """After SIGTERM, how long to answer on while /health/ready says 503, before the port closes."""
    log_format: Literal["text", "json"] = "text"

    @field_validator("host")
    @classmethod
    def _one_host(cls, given: str) -> str:
        host = given[1:-1] if given.startswith("[") and given.endswith("]") else given
        if "/" in host or host.startswith("unix:"):
            raise ValueError(f"a name or an address; a Unix socket's path is {PREFIX}UDS")
        if ":" in host and not _is_ipv6(host):
            raise ValueError(f"a name or an address without a port; the port is {PREFIX}PORT")
        if not host or host.split() != [host]:
            raise ValueError("a name or an address is needed: 127.0.0.1, or * for all of this machine")
        return host

    @field_validator("uds")
    @classmethod
    def _one_path(cls, given: Path | None) -> Path | None:
        if given is not None and (given == Path() or len(os.fsencode(given)) > _SOCKET_PATH_BYTES):
            raise ValueError(f"the path of a Unix socket has from 1 to {_SOCKET_PATH_BYTES} bytes")
        return given

    @field_validator("root_path")
    @classmethod
    def _one_prefix(cls, given: str) -> str:
        """`/vision` of `vision`, `/vision/` and `//vision`."""
        parts = [part for part in given.split("/") if part]
        if "://" in given or not all(_SEGMENT.fullmatch(part) and part.strip(".") for part in parts):
            raise ValueError("a path such as /vision, without a host, a query or spaces")
        return "".join(f"/{part}" for part in parts)

    @property
    def processes(self) -> int:
        """`workers`, or one while nobody has decided."""
        return self.workers or 1

    @property
    def threads_per_worker(self) -> int:
        """`threads`, or this worker's share of the usable cores."""
        return self.threads or max(1, machine.cores().usable // self.processes)

    @property
    def threads_reason(self) -> str:
        """Where the number of threads comes from."""
        if self.threads:
            return f"{PREFIX}THREADS"
        return f"{machine.cores().reason}, {self.processes} worker{'s' if self.processes > 1 else ''}"


def load(**overrides: Any) -> Settings:
    """Settings from the environment, with `overrides` above it. Raises SettingsError."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | _NOT_SETTINGS
    for name in os.environ:
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            raise SettingsError(f"{name} is no setting{_suggest(name.upper(), known - _NOT_SETTINGS)}")
    try:
        return Settings(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        where = field if field in overrides else f"{PREFIX}{field.upper()}"
        why = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"].lower()
        raise SettingsError(f"{where}={first['input']}: {why}{_injected(where)}") from error


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def _suggest(name: str, known: set[str]) -> str:
    if injected := _injected(name):
        return injected
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(sorted(known))}"


def _injected(name: str) -> str:
    """Kubernetes gives every pod <SERVICE>_PORT=tcp://... and the like for a Service of that name."""
    if not _SERVICE_LINK.fullmatch(name) or not (name != f"{PREFIX}PORT" or "tcp://" in os.environ.get(name, "")):
        return ""
    return "; Kubernetes set it for a Service of that name: enableServiceLinks: false in the pod stops that"
