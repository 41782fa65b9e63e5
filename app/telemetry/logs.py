"""The log: one line for each request and each event, on stderr, for people or for machines."""

import asyncio
import json
import logging
import time
import warnings
from datetime import UTC, datetime
from typing import Any

from app.telemetry.metrics import STAGES
from app.telemetry.stderr import PatientHandler

logger = logging.getLogger("sightglass")
_SHOWN = {"batch_size": "batch", "key": "key", "request_id": "id"}


def configure(log_format: str) -> None:
    """Everything to stderr, uvicorn's messages too; its own access log is off because ours says more."""
    # the caller's place, thread and process are never printed; https://docs.python.org/3/howto/logging.html#optimization
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.captureWarnings(True)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # about what is odd in a client's file
    handler = PatientHandler(_dropped)
    handler.take_over()
    handler.setFormatter(_Formatter(log_format == "json"))
    logging.root.handlers = [handler]
    logging.root.setLevel(logging.WARNING)
    logger.setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.INFO)


def event(name: str, text: str, level: int = logging.INFO, **facts: Any) -> None:
    """A line that belongs to no request: start, ready, drain, stop."""
    logger.log(level, f"{name:<6} {text}", extra={"facts": [{"event": name, "message": text, **facts}]})


def _dropped(lines: int) -> logging.LogRecord:
    text = f"{lines} lines of the log were dropped: nobody read stderr"
    facts = {"event": "dropped", "message": text, "lines": lines}
    return logging.makeLogRecord(
        {"msg": f"drop   {text}", "levelno": logging.WARNING, "levelname": "WARNING", "facts": [facts]}
    )


class Requests:
    """One line for each request: those of one turn of the event loop in one record and one write, each of which takes
    longer than a line. Events and tracebacks of the same turn come before them."""

    def __init__(self) -> None:
        self._waiting: list[dict[str, Any]] = []

    def add(self, facts: dict[str, Any]) -> None:
        """`stages`: name -> seconds; the others are JSON values as they are."""
        self._waiting.append(facts)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        logger.info("requests", extra={"facts": waiting})


class _Formatter(logging.Formatter):
    """Text for people or JSON for machines; both UTC, one line but for a traceback."""

    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """A line for each of the record's `facts`, or one where the caller gave none."""
        told = getattr(record, "facts", None) or [{"event": "log", "message": record.getMessage()}]
        trouble = self.formatException(record.exc_info) if record.exc_info else ""
        if self._as_json:
            return "\n".join([_json_line(record, facts, trouble) for facts in told])
        when = time.strftime("%H:%M:%S", time.gmtime(record.created))
        head = when if record.levelno == logging.INFO else f"{when} {record.levelname.lower()}"
        texts = [_request_line(facts) if facts["event"] == "request" else record.getMessage() for facts in told]
        return "\n".join([f"{head} {text}" for text in texts]) + (f"\n{trouble}" if trouble else "")


def _json_line(record: logging.LogRecord, facts: dict[str, Any], trouble: str) -> str:
    when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    line = {"ts": when, "level": record.levelname.lower(), **facts}
    if facts["event"] == "request":
        line |= {f"{name}_ms": round(seconds * 1e3, 2) for name, seconds in line.pop("stages").items()}
    return json.dumps(line | ({"traceback": trouble} if trouble else {}), ensure_ascii=False)


def _request_line(facts: dict[str, Any]) -> str:
    """E.g. `200 POST /predict 6.13ms cat 0.97 (decode 0.4 queue 0.2 inference 4.8) batch=3 id=9f2c`."""
    seconds = facts["stages"]
    parts = [f"{facts['status']} {facts['method']} {facts['route']} {round(seconds['duration'] * 1e3, 2)}ms"]
    if label := facts.get("prediction"):
        if not label.isprintable():  # it moves a terminal's cursor, or turns text around: whatever a folder was called
            label = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in label)
        parts.append(f"{label} {facts['confidence']:.2f}" + (" unfamiliar" if facts.get("unfamiliar") else ""))
    parts += [f"{name}={facts[name]}" for name in ("images", "errors") if name in facts]
    if "code" in facts:
        parts.append(facts["code"])
    if stages := [f"{stage} {seconds[stage] * 1e3:.1f}" for stage in STAGES if stage in seconds]:
        parts.append(f"({' '.join(stages)})")
    parts += [f"{shown}={facts[name]}" for name, shown in _SHOWN.items() if name in facts]
    return " ".join(parts)
