"""Log lines: everything that a Python process has to say on stderr is one JSON object a line, and no exception's words
carry what somebody sent."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from typing import Any

import pydantic
import pytest
import sqlalchemy as sa

from cosygate import errors
from cosygate.kit.stacks import stack_of

CANARY = "the quick brown canary"


def run(code: str, level: str = "info", **how: Any) -> list[dict[str, Any]]:
    """The lines of a process that configures its log and runs `code`."""
    head = f"from cosygate.kit import logs\nlogs.configure({level!r})\nlog = logs.logger()\nCANARY = {CANARY!r}\n"
    ended = subprocess.run([sys.executable, "-c", head + code], capture_output=True, text=True, timeout=30, **how)
    assert CANARY not in ended.stderr
    assert ended.stdout == ""
    return [json.loads(line) for line in ended.stderr.splitlines()]


def test_a_line_has_its_time_level_and_action_first_and_the_context_around_it() -> None:
    [line, later] = run(
        "with logs.bound(trace_id='t', user_id='u', tenant='n'):\n log.info('a.b', cost_ms=1.5)\nlog.warning('c.d')\n"
    )
    assert line.pop("ts").endswith("Z")
    assert line == {
        "action": "a.b", "level": "info", "trace_id": "t", "user_id": "u", "tenant": "n", "cost_ms": 1.5
    }  # fmt: skip
    assert later.keys() == {"ts", "level", "action"}


@pytest.mark.parametrize(("level", "shown"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_least_level_shown(level: str, shown: int) -> None:
    lines = run("for name in ('debug', 'info', 'warning', 'error'):\n getattr(log, name)('a.b')\n", level)
    assert len(lines) == shown


def test_what_utf_8_cannot_say_is_said_all_the_same() -> None:
    [line] = run(r"log.info('a.b', who='\ud800', what=object())")
    assert line["who"] == "\ud800"


def test_libraries_and_warnings_have_the_same_shape_and_one_line_of_words() -> None:
    lines = run(
        """
import logging, warnings
logging.getLogger("some.library").error("it %s\\nfuture: %s", "broke", CANARY)
logging.getLogger("some.library").warning("these do not fit: %d", "x")
logging.getLogger("some.library").info("not told")
warnings.warn("old", DeprecationWarning, stacklevel=1)
"""
    )
    assert [line["action"] for line in lines] == ["library.said"] * 3
    assert lines[0]["logger"] == "some.library"
    assert lines[0]["message"] == "it %s"  # its own words, and not what it fills in
    assert "DeprecationWarning: old" in lines[2]["message"]


def test_libraries_debug_lines_stay_silent_at_the_level_debug() -> None:
    """websockets, for one, shows every header in them, tokens too."""
    assert run("import logging\nlogging.getLogger('websockets').debug(CANARY)\n", "debug") == []


@pytest.mark.parametrize(
    ("code", "action"),
    [
        ("raise ValueError(CANARY)", "process.crashed"),
        ("import threading\nt = threading.Thread(target=lambda: int(CANARY))\nt.start()\nt.join()", "thread.crashed"),
        ("class X:\n def __del__(self):\n  {}[CANARY]\nX()", "process.unraisable"),
        (
            "import asyncio\nasync def f():\n {}[CANARY]\nasync def main():\n t = asyncio.create_task(f())\n"
            " await asyncio.sleep(0.01)\n del t\nasyncio.run(main())",
            "library.said",
        ),
        (
            "import asyncio\nasync def main():\n asyncio.get_running_loop().call_soon(int, CANARY)\n"
            " await asyncio.sleep(0.01)\nasyncio.run(main())",
            "library.said",
        ),
        ("try:\n int(CANARY)\nexcept ValueError:\n log.exception('a.b', trace_id='t')", "a.b"),
        ("import asyncio\ntry:\n int(CANARY)\nexcept ValueError as e:\n log.error('a.b', exc_info=e)", "a.b"),
    ],
)
def test_an_exception_that_nobody_caught_is_a_line_with_its_stack(code: str, action: str) -> None:
    [line] = run(code)
    assert line["action"] == action
    assert line["level"] == "error"
    assert line["exception"].startswith("Traceback")
    assert "left out" in line["exception"]


def test_a_full_disk_costs_the_line_and_not_the_work() -> None:
    code = "from cosygate.kit import logs\nlogs.configure()\nlogs.logger().info('a.b')\nprint('done')"
    with open("/dev/full", "w") as full:
        ended = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=full, text=True, timeout=30)
    assert ended.stdout == "done\n"


# --- stacks --------------------------------------------------------------------------------------------------------


class _Speech(pydantic.BaseModel):
    number: int


def _raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def _validation() -> BaseException:
    try:
        _Speech.model_validate({"number": CANARY})
    except pydantic.ValidationError as error:
        return error
    raise AssertionError


def _noted() -> BaseException:
    error = RuntimeError("plain")
    error.add_note(CANARY)
    return _raised(error)


def _database() -> BaseException:
    engine = sa.create_engine("sqlite://", hide_parameters=True)
    try:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT * FROM nowhere WHERE x = :x"), {"x": CANARY})
    except sa.exc.SQLAlchemyError as error:
        return error
    finally:
        engine.dispose()
    raise AssertionError


@pytest.mark.parametrize(
    "error",
    [
        _raised(ValueError(CANARY)),
        _raised(KeyError(CANARY)),
        _raised(UnicodeDecodeError("utf-8", CANARY.encode(), 0, 1, CANARY)),
        _raised(RuntimeError("plain"), ValueError(CANARY)),
        _raised(ExceptionGroup("several", [ValueError(CANARY), KeyError(CANARY)])),
        _raised(Exception(CANARY)),
        _validation(),
        _noted(),
        _database(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_stack_quotes_nothing_that_was_sent(error: BaseException) -> None:
    told = stack_of(error)
    assert CANARY not in told
    assert __file__ in told
    assert type(error).__name__ in told


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (AttributeError("'NoneType' object has no attribute 'x'"), "has no attribute 'x'"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (errors.StorageFull(), errors.StorageFull().detail),
        (RuntimeError("cannot start"), "cannot start"),
    ],
)
def test_words_that_help_and_quote_nothing_stay(error: Exception, words: str) -> None:
    assert words in stack_of(_raised(error))


def test_causes_come_first_and_there_is_an_end_to_them() -> None:
    error: BaseException = RuntimeError("the first")
    for number in range(50):
        error = _raised(RuntimeError(f"number {number}"), error)
    told = stack_of(error)
    assert told.endswith("RuntimeError: number 49")
    assert told.count("Traceback") == 8
    looped = RuntimeError("itself")
    looped.__cause__ = looped
    assert stack_of(looped) == "RuntimeError: itself"
