"""JSON log lines on stderr (wire.md, "Log line"): ts, level, action, trace_id, user_id, tenant, cost_ms, …

Never audio, transcript text, a token or a secret; so of an exception the stack is told, but its words only where they
cannot quote what was sent. The context (trace_id and caller) travels in contextvars.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

import orjson
import structlog

from cosygate.kit.stacks import stack_of

_RENAMED = {"event": "action", "timestamp": "ts"}
_SAID_MAX = 300  # characters of a library's message


def _rename(_logger: Any, _method: str, line: structlog.types.EventDict) -> structlog.types.EventDict:
    for old, new in _RENAMED.items():
        if old in line:
            line[new] = line.pop(old)
    return line


def _exception(_logger: Any, _method: str, line: structlog.types.EventDict) -> structlog.types.EventDict:
    """What `exc_info` stands for, as `exception`."""
    given = line.pop("exc_info", None)
    error = given[1] if isinstance(given, tuple) else given
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        line["exception"] = stack_of(error)
    return line


def _dump(_logger: Any, _method: str, line: structlog.types.EventDict) -> bytes:
    try:
        return orjson.dumps(line, default=str)
    except TypeError:  # a lone surrogate in what a caller sent: JSON can say it, UTF-8 cannot
        return json.dumps(line, default=str).encode()


class _Stderr:
    """One line, one write: lines of several processes and threads never mix. Where it cannot be written (a log file on
    a full disk, a closed pipe) the line is lost, and the work that it tells of goes on."""

    def __init__(self, *_: Any) -> None:
        pass

    def msg(self, line: bytes) -> None:
        with suppress(OSError):
            os.write(2, line + b"\n")

    debug = info = warning = error = critical = exception = msg


class _Libraries(logging.Handler):
    """Lines of those who use `logging`, and Python's warnings: their own words, without what they fill in, which may be
    what somebody sent."""

    def emit(self, record: logging.LogRecord) -> None:
        said = str(record.msg)
        if record.name == "py.warnings" and record.args:
            said = str(record.args[0] if isinstance(record.args, tuple) else record.args)
        elif record.name == "asyncio":
            said = said.partition("(")[0]  # "Exception in callback f(its arguments)"
        told = {"logger": record.name, "message": said.partition("\n")[0][:_SAID_MAX], "exc_info": record.exc_info}
        if record.levelno >= logging.ERROR:
            _log.error("library.said", **told)
        else:
            _log.warning("library.said", **told)


def configure(level: str = "info") -> None:
    """Once per process, before the first line, and before gRPC is loaded. Everything that Python has to say on stderr
    is a line of the same shape from here on, the last words of a process or a thread too."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C++ part writes lines of its own; what matters is a status
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _exception,
            _rename,
            _dump,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=_Stderr,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Libraries()]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    sys.excepthook = _process_crashed
    sys.unraisablehook = _unraisable
    threading.excepthook = _thread_crashed


def _process_crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        _log.error("process.crashed", exc_info=error.with_traceback(trace))


def _thread_crashed(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        _log.error("thread.crashed", thread=args.thread.name if args.thread else None, exc_info=args.exc_value)


def _unraisable(args: sys.UnraisableHookArgs) -> None:
    """Nobody was there to be told: raised while something was collected."""
    _log.error("process.unraisable", where=args.err_msg, exc_info=args.exc_value)


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Every line logged within carries `fields`."""
    with structlog.contextvars.bound_contextvars(**fields):
        yield


def logger() -> Any:
    """`log.info("task.claimed", task_id=…)`: a stable dotted action first, then fields."""
    return structlog.get_logger()


_log = logger()
