"""An exception's stack as text for a log line: where it came from, and of its words only what cannot quote speech, a
token or anything else that somebody sent. Of int("…"), a KeyError or a validation's error it is the words that would.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator

_WORDS_MAX = 500  # characters
_CHAIN_MAX = 8  # exceptions
_LEFT_OUT = "(its words are left out: they may quote what was sent)"
# Whose words name types, names, files and states, never values.
_PLAIN: tuple[type[Exception], ...] = (
    *(TypeError, AttributeError, NameError, ImportError, OSError, RuntimeError),
    *(MemoryError, IndexError, EOFError, ArithmeticError, BufferError),
)
_OURS = ("cosygate", "sqlite3", "sqlalchemy")  # packages that have taken care of it: SQL comes without its parameters


def stack_of(error: BaseException) -> str:
    """The innermost cause first, as Python shows it."""
    return "\n".join(reversed(list(_chain(error))))


def _chain(error: BaseException) -> Iterator[str]:
    waiting: list[BaseException] = [error]
    seen: set[int] = set()
    while waiting and len(seen) < _CHAIN_MAX:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield _one(one)
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
        if one.__cause__ is not None:
            waiting.append(one.__cause__)
        elif one.__context__ is not None and not one.__suppress_context__:
            waiting.append(one.__context__)


def _one(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    frames = "".join(traceback.format_tb(error.__traceback__))
    head = "Traceback (most recent call last):\n" if frames else ""
    return f"{head}{frames}{name}: {_words(error)}".removesuffix(": ")


def _words(error: BaseException) -> str:
    package = type(error).__module__.partition(".")[0]
    if package in _OURS or (package == "builtins" and isinstance(error, _PLAIN)):
        return _text(error)
    code = getattr(error, "code", None)
    if package == "grpc" and callable(code):
        return str(code())  # but for its details, which its peer has written
    return _LEFT_OUT if _text(error) else ""


def _text(error: BaseException) -> str:
    try:
        return str(error)[:_WORDS_MAX]
    except Exception:  # somebody else's class
        return ""
