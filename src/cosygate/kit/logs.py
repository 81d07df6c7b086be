"""JSON log lines on stderr (wire.md, "Log line"): ts, level, action, trace_id, user_id, tenant, cost_ms, …

Never audio, transcript text, a token or a secret. The context (trace_id and caller) travels in contextvars.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

import orjson
import structlog

_RENAMED = {"event": "action", "timestamp": "ts"}


def _rename(_logger: Any, _method: str, line: structlog.types.EventDict) -> structlog.types.EventDict:
    for old, new in _RENAMED.items():
        if old in line:
            line[new] = line.pop(old)
    return line


def _dump(line: Any, **_: Any) -> str:
    return orjson.dumps(line, default=str).decode()


def _shared() -> list[structlog.types.Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _rename,
    ]


class _Lossy(io.TextIOBase):
    """A stream that may be full or gone (a log file on a full disk, a closed pipe): then the line is lost, and the work
    that it tells of goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def configure(level: str = "info") -> None:
    """Once per process, before the first line. Lines of libraries that use `logging` get the same shape."""
    shared = _shared()
    stream = cast("TextIO", _Lossy(sys.stderr))
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(serializer=_dump)],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(serializer=_dump),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Every line logged within carries `fields`."""
    with structlog.contextvars.bound_contextvars(**fields):
        yield


def logger() -> Any:
    """`log.info("task.claimed", task_id=…)`: a stable dotted action first, then fields."""
    return structlog.get_logger()
