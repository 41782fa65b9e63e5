"""The log: one line for each request and each event, on stderr, for people or for machines."""

import asyncio
import json
import logging
import sys
import time
import warnings
from datetime import UTC, datetime
from typing import Any

from app.metrics import STAGES

logger = logging.getLogger("sightglass")


def configure(log_format: str) -> None:
    """Everything to stderr, uvicorn's messages too; its own access log is off because ours says more."""
    # the caller's place, thread and process are never printed; https://docs.python.org/3/howto/logging.html#optimization
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.captureWarnings(True)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # about what is odd in a client's file
    handler = _Together()
    handler.setFormatter(_Formatter(log_format == "json"))
    logging.root.handlers = [handler]
    logging.root.setLevel(logging.WARNING)
    logger.setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.INFO)


def event(name: str, text: str, level: int = logging.INFO, **facts: Any) -> None:
    """A line that belongs to no request: start, ready, drain, stop."""
    logger.log(level, f"{name:<6} {text}", extra={"facts": {"event": name, "message": text, **facts}})


class _Together(logging.Handler):
    """The lines of one turn of the event loop in one write: each for itself takes 0.03 ms more."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Warnings, and what is said outside of an event loop, are written at once."""
        try:
            self._lines.append(self.format(record) + "\n")
            loop = asyncio._get_running_loop()
            if loop is None or record.levelno > logging.INFO:
                self.flush()
            elif len(self._lines) == 1:
                loop.call_soon(self.flush)
        except Exception:  # as every handler of the standard library does
            self.handleError(record)

    def flush(self) -> None:
        """Write what has gathered."""
        self.acquire()
        lines, self._lines = self._lines, []
        self.release()
        if lines:
            sys.stderr.write("".join(lines))
            sys.stderr.flush()


class _Formatter(logging.Formatter):
    """Text for people or JSON for machines; both UTC, one line but for a traceback."""

    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """The record with its `facts`, if the caller gave any."""
        facts = getattr(record, "facts", None) or {"event": "log", "message": record.getMessage()}
        trouble = self.formatException(record.exc_info) if record.exc_info else ""
        if not self._as_json:
            when = time.strftime("%H:%M:%S", time.gmtime(record.created))
            level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()} "
            text = _request_line(facts) if facts["event"] == "request" else record.getMessage()
            return f"{when} {level}{text}" + (f"\n{trouble}" if trouble else "")
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"ts": when, "level": record.levelname.lower(), **facts}
        return json.dumps(line | ({"traceback": trouble} if trouble else {}), ensure_ascii=False)


def _request_line(facts: dict[str, Any]) -> str:
    """E.g. `200 POST /predict 6.1ms cat 0.97 (decode 0.4 queue 0.2 inference 4.8) batch=3 id=9f2c`."""
    line = f"{facts['status']} {facts['method']} {facts['route']} {facts['duration_ms']}ms"
    if "prediction" in facts:
        line += f" {_visible(facts['prediction'])} {facts['confidence']:.2f}"
    if "images" in facts:
        line += f" images={facts['images']}"
    if "errors" in facts:
        line += f" errors={facts['errors']}"
    if "code" in facts:
        line += f" {facts['code']}"
    if stages := [f"{stage} {facts[f'{stage}_ms']:.1f}" for stage in STAGES if f"{stage}_ms" in facts]:
        line += f" ({' '.join(stages)})"
    if "batch_size" in facts:
        line += f" batch={facts['batch_size']}"
    if "key" in facts:
        line += f" key={facts['key']}"
    return f"{line} id={facts['request_id']}"


def _visible(label: str) -> str:
    """Without what moves a terminal's cursor or turns its text around: a label is whatever a folder was called."""
    return label if label.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in label)
