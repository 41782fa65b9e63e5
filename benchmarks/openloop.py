"""Load at a fixed rate, whatever the server does with it, from an existing generator: h2load, speaking HTTP/1.1.

How open it is. Each of 400 connections has a timer of its own, started one after the other so that requests come evenly
spread. A request whose connection still waits for the answer before is sent as soon as that has come, so that the rate
is kept on average, but its latency counts from there: this is where coordinated omission could hide. It needs an answer
that takes longer than a connection's interval, 400 / rate seconds; `late` is the share of such answers, and while it is
0 the loop was open and every latency is from the moment that the schedule asked for. 400 connections are three times
what the service admits (SIGHTGLASS_MAX_QUEUE), so that overload shows as 429 and not as waiting connections. What was
offered is counted from the generator's log of requests, not taken from its command line. One thing stays hidden: on a
machine that it shares with the server, the generator may wait for a core with a request that is due.

hey, the other candidate, starts all its timers at once (400 requests in one burst, then nothing); wrk and ab are closed
loops; httperf opens a connection a request.
"""

import math
import resource
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CONNECTIONS = 400


@dataclass(frozen=True)
class Open:
    """What one run saw; per second or share of the offered requests. Percentiles are of the 200s, in milliseconds.

    `goodput`: 200s within the deadline; `failed`: connections that broke; `generator_cpu` in cores.
    """

    offered: float
    goodput: float
    rejected: float
    late: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    server_errors: float
    failed: float
    generator_cpu: float


def open_loop(
    url: str, body: bytes, content_type: str, rate: float, seconds: int, deadline_ms: int, folder: Path
) -> Open:
    """`rate` requests a second for `seconds`, after the time that all the connections take to begin."""
    payload, log = folder / "open-body", folder / "open-log"
    payload.write_bytes(body)
    log.unlink(missing_ok=True)  # h2load appends
    period = math.ceil(1000 / rate)  # of milliseconds, which is as fine as h2load has it
    begin = CONNECTIONS * period / 1000
    requests = math.ceil(rate * (seconds + begin) / CONNECTIONS) * CONNECTIONS
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    generator = ["h2load", "--h1", "-t1", f"-c{CONNECTIONS}", f"-n{requests}", "-r1", f"--rate-period={period}ms"]
    generator += [f"--rps={rate / CONNECTIONS:.6f}", f"--data={payload}", f"--log-file={log}"]
    generator += ["-H", f"content-type: {content_type}", f"{url}/predict"]
    subprocess.run(generator, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return _read(log, begin, seconds, CONNECTIONS / rate, deadline_ms, cpu / (seconds + begin))


def _read(log: Path, begin: float, seconds: float, interval: float, deadline_ms: int, cpu: float) -> Open:
    """`log`: microseconds since 1970, status or -1, microseconds; a line a request. Its first `begin` seconds go."""
    started, status, micros = np.loadtxt(log, ndmin=2).T[:3]
    since = (started - started.min()) / 1e6 - begin
    during = (since >= 0) & (since < seconds)
    status, ms = status[during], micros[during] / 1e3
    accepted = ms[status == 200]
    p50, p95, p99 = np.percentile(accepted, (50, 95, 99)) if len(accepted) else [math.nan] * 3
    return Open(
        offered=len(ms) / seconds,
        goodput=float((accepted <= deadline_ms).sum()) / seconds,
        rejected=float((status == 429).mean()),
        late=float((ms > interval * 1e3).mean()),
        p50_ms=float(p50),
        p95_ms=float(p95),
        p99_ms=float(p99),
        server_errors=float((status >= 500).sum()),
        failed=float((status < 0).sum()),
        generator_cpu=cpu,
    )
