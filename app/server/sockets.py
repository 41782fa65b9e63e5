"""Where the service listens: bound before anything is said to be ready, and the same for any number of workers."""

import errno
import os
import shlex
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.settings import PREFIX, Settings, SettingsError

_ALL = ("*", "::", "0.0.0.0")  # noqa: S104  # what people write to mean every address
BACKLOG = 2048  # connections that nobody has accepted yet
_ANOTHER = f"choose another with {PREFIX}PORT or --port"


@dataclass(frozen=True)
class Endpoint:
    """Sockets that are bound. `where` and `url` are for the log, `curl` and `page` for people on this machine."""

    sockets: list[socket.socket]
    where: str
    url: str
    curl: str
    page: str


@contextmanager
def bound(chosen: Settings) -> Iterator[Endpoint]:
    """What the settings say. Raises SettingsError, one sentence that names the setting, where that cannot be."""
    with ExitStack() as until_the_end:
        if chosen.uds is not None:
            unix = until_the_end.enter_context(_unix(chosen.uds))
            path, quoted = str(chosen.uds), shlex.quote(str(chosen.uds))
            yield Endpoint([unix], path, f"unix socket {path}", f"--unix-socket {quoted} http://localhost", "")
            return
        sockets = _tcp(chosen.host, chosen.port)
        for each in sockets:
            until_the_end.enter_context(each)
        port = sockets[0].getsockname()[1]
        for each in sockets:
            until_the_end.enter_context(_claim(each, port))
        host = written(chosen.host if chosen.host != "*" else sockets[0].getsockname()[0])
        near = "localhost" if chosen.host in (*_ALL, "127.0.0.1") else host
        url = f"http://{near}:{port}"
        yield Endpoint(sockets, f"{host}:{port}", f"http://{host}:{port}", url, url)


def written(host: str) -> str:
    """As it stands in a URL."""
    return f"[{host.replace('%', '%25')}]" if ":" in host else host


def another_queue(of: socket.socket) -> socket.socket:
    """A socket at the same address to which the kernel deals connections of its own; both have SO_REUSEPORT."""
    own = socket.socket(of.family)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if of.family == socket.AF_INET6:
        only = of.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        own.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
    own.bind(of.getsockname())
    return own


def _tcp(host: str, port: int) -> list[socket.socket]:
    """One for each address that the name has, all with the same port."""
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    for family, address in _addresses(host, port):
        if port == 0 and sockets:
            address = (address[0], sockets[0].getsockname()[1], *address[2:])
        try:
            sockets.append(_bind(family, address))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                for each in sockets:
                    each.close()
                raise refusal(error, host, port) from error
            missing = error
        if host == "*" and sockets:  # of both families, or of the one that there is
            break
    if not sockets:
        raise refusal(missing or OSError(errno.EADDRNOTAVAIL, ""), host, port) from missing
    return sockets


def _addresses(host: str, port: int) -> list[tuple[int, Any]]:
    if host == "*":
        return [(socket.AF_INET6, ("::", port)), (socket.AF_INET, ("0.0.0.0", port))]  # noqa: S104
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, socket.gaierror) else "it is no name"
        raise SettingsError(f"{PREFIX}HOST={host}: no such host ({why})") from error
    return list(dict.fromkeys((int(family), address) for family, _, _, _, address in found))


def _bind(family: int, address: Any) -> socket.socket:
    bound = socket.socket(family)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # `::` means every address, not every one of IPv6
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address[0] == "::" else 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


@contextmanager
def _claim(bound: socket.socket, port: int) -> Iterator[None]:
    """Keep another Sightglass away that starts at the same time, when nobody listens yet, and from a port that workers
    share: a name that the kernel forgets with the process."""
    if sys.platform != "linux":
        yield
        return
    host = bound.getsockname()[0]
    with socket.socket(socket.AF_UNIX) as claim:
        try:
            claim.bind(f"\0sightglass {host}:{port}")
        except OSError as error:
            raise refusal(error, host, port) from error
        yield


def refusal(error: OSError, host: str, port: int) -> SettingsError:
    """Why it is not possible to listen there, in one sentence."""
    if error.errno == errno.EADDRINUSE:
        return SettingsError(f"port {port} of {host}: address already in use; {_ANOTHER}")
    if error.errno in (errno.EACCES, errno.EPERM):
        return SettingsError(f"port {port}: this user may not listen there, below 1024 usually only root; {_ANOTHER}")
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return SettingsError(f"{PREFIX}HOST={host}: this machine has no such address; 127.0.0.1 or * always work")
    return SettingsError(f"{PREFIX}HOST={host}, port {port}: {error.strerror or error}")


@contextmanager
def _unix(path: Path) -> Iterator[socket.socket]:
    """At a path, open to whoever may enter its folder; what a service left behind that was killed is replaced."""
    where = f"{PREFIX}UDS={path}"
    with socket.socket(socket.AF_UNIX) as bound:
        try:
            if _is_stale(path, where):
                path.unlink()
            bound.bind(str(path))
            path.chmod(0o666)
            bound.listen(BACKLOG)  # at once: another that starts now must see that somebody is there
        except OSError as error:
            raise SettingsError(f"{where}: {(error.strerror or str(error)).lower()}") from error
        ours = path.stat().st_ino
        try:
            yield bound
        finally:
            with suppress(OSError):  # another has replaced it
                if path.stat().st_ino == ours:
                    path.unlink()


def _is_stale(path: Path, where: str) -> bool:
    """Whether there is a socket at which nobody listens. Raises SettingsError where there is anything else."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(mode):
        raise SettingsError(f"{where}: there is a file that is no socket; move it away or choose another path")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return True
        raise SettingsError(f"{where}: another service listens there; end it or choose another path")
