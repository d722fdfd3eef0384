"""The one place that says how log lines look: plain with ``action=``, or JSON when ``FIG_LOG_FORMAT=json``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import orjson

_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in record.__dict__.items() if key not in _OWN}


class Plain(logging.Formatter):
    """``2026-01-02T03:04:05.678Z INFO capture: flow started action=flow_started context=inventory``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the stack trace below it when there is one."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        facts = "".join(f" {key}={value}" for key, value in _extras(record).items())
        text = f"{at} {record.levelname} {record.name.removeprefix('stranglerfig.')}: {record.getMessage()}{facts}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class Json(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extras(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def install(
    environment: Mapping[str, str], *, level: int = logging.INFO, file: Path | None = None, terminal: bool = True
) -> None:
    """Send log lines to standard error (``terminal``) and ``file``, in the format that the environment asks for."""
    outs: list[logging.Handler] = []
    if terminal:
        outs.append(logging.StreamHandler(sys.stderr))
    if file is not None:
        outs.append(logging.FileHandler(file, encoding="utf-8"))
    for out in outs:
        out.setFormatter(Json() if environment.get("FIG_LOG_FORMAT") == "json" else Plain())
    root = logging.getLogger()
    root.handlers[:] = outs
    root.setLevel(level)
    for noisy in ("asyncio", "aiohttp.access", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
