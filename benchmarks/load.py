"""Load from an existing generator: wrk. Its script sends the body and prints one line of JSON."""

import json
import os
import resource
import subprocess
from dataclasses import dataclass
from pathlib import Path

_BOUNDARY = b"-" * 24 + b"d74496d66958873eUAXjyW"  # as long as curl's: the time to look for it goes by that
_LUA = """
function init(args)
  local file = io.open(args[1], "rb")
  wrk.method, wrk.body = "POST", file:read("*a")
  wrk.headers["Content-Type"] = args[2]
  file:close()
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '{"requests":%d,"seconds":%f,"errors":%d,"not_2xx":%d,"p50_ms":%f,"p95_ms":%f,"p99_ms":%f}\\n',
    summary.requests, summary.duration / 1e6, e.connect + e.read + e.write + e.timeout, e.status,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3))
end
"""


@dataclass(frozen=True)
class Load:
    """What one run of the generator saw; times in milliseconds, `generator_cpu_s` is its own CPU."""

    requests: int
    seconds: float
    errors: int
    not_2xx: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    generator_cpu_s: float

    @property
    def per_second(self) -> float:
        """Answers per second."""
        return self.requests / self.seconds


def multipart(image: bytes) -> tuple[bytes, str]:
    """The body that `curl -F file=@...` sends, and its Content-Type."""
    start = b'--%b\r\nContent-Disposition: form-data; name="file"; filename="p.jpg"\r\n' % _BOUNDARY
    body = start + b"Content-Type: image/jpeg\r\n\r\n" + image + b"\r\n--%b--\r\n" % _BOUNDARY
    return body, f"multipart/form-data; boundary={_BOUNDARY.decode()}"


def closed_loop(url: str, body: bytes, content_type: str, connections: int, seconds: int, folder: Path) -> Load:
    """`connections` clients, each sending its next request when it has the answer to the last."""
    script, payload = folder / "post.lua", folder / "body"
    script.write_text(_LUA)
    payload.write_bytes(body)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    generator = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script)]
    done = subprocess.run(
        [*generator, f"{url}/predict", "--", str(payload), content_type],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"LC_ALL": "C"},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seen = json.loads(done.stdout.splitlines()[-1])
    return Load(**seen, generator_cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
