"""docs/live.md: its messages, close codes and bounds are the code's, and its worked session is one that could be."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cosygate import errors
from cosygate.api import live, live_connection, live_http, live_socket
from cosygate.errors import live as live_errors
from cosygate.flows.live import keeping, outlet, session, sound
from cosygate.model import live_messages, timeline
from cosygate.model.live import LiveFormat
from cosygate.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "live.md").read_text()
LIVE = ROOT / "src" / "cosygate" / "flows" / "live"
OF_SOCKETS = {1000, 1001, 1006, 1007, 1009}  # close codes that no error of ours has
MIB = 1024**2
OF_JOURNALS = {"snapshot", "decided", "hole"}  # types of messages that nobody is sent


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of every table's row."""
    return [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]


def quoted(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


def client_members() -> dict[str, set[str]]:
    """What the page says: of `start` and `resume` in tables of their own, of the others in a row."""
    said = section("What the client says")
    found: dict[str, set[str]] = {}
    for kind in ("start", "resume"):
        table = said.split(f"| `{kind}` has |")[1].split("\n\n")[0]
        found[kind] = {name for row in rows(table) for name in quoted(row[0])}
    for row in rows(said.split("| message | members |")[1]):
        if kinds := quoted(row[0]):
            found[kinds.pop()] = quoted(row[1])
    return found


def taken_members() -> dict[str, set[str]]:
    """What the code takes: the names that each parser gives `_only`."""
    found: dict[str, set[str]] = {}
    for kind, parser in live_messages._PARSERS.items():
        calls = [n for n in ast.walk(ast.parse(inspect.getsource(parser))) if isinstance(n, ast.Call)]
        only = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "_only"]
        found[kind] = {a.value for c in only for a in c.args if isinstance(a, ast.Constant)}
    return found


def test_client_messages_and_their_members_are_the_parsers() -> None:
    assert client_members() == taken_members()


@pytest.mark.parametrize("kind", ["start", "resume", "finalize", "gap", "end"])
def test_members_that_are_not_named_are_refused(kind: str) -> None:
    with pytest.raises(errors.LiveProtocol, match="no member"):
        live_messages.parse_message(json.dumps({"type": kind, "smaples": 1}))


def test_rates_and_formats() -> None:
    told = {row[0].strip(): row[1] for row in rows(section("What the client says")) if len(row) > 1}
    assert {int(n) for n in re.findall(r"\d{4,}", told["`sample_rate`"])} == live_messages.RATES
    assert set(LiveFormat) <= quoted(told["`format`"])
    for name in ("audio_format", "channels", "priority"):
        assert name in quoted(told["`options`"])
        with pytest.raises(errors.OptionUnsupported):
            live_messages.parse_message(json.dumps({"type": "start", "sample_rate": 8000, "options": {name: "1"}}))


def sent_types() -> Iterator[str]:
    """Every `{"type": "…"}` that the flows and the door make, `close` and such of ASGI left out."""
    for path in (*LIVE.glob("*.py"), ROOT / "src" / "cosygate" / "api" / "live_connection.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Dict) and node.keys and isinstance(node.keys[0], ast.Constant):
                value = node.values[0]
                if node.keys[0].value == "type" and isinstance(value, ast.Constant) and "." not in str(value.value):
                    yield str(value.value)


def test_server_messages_are_those_that_are_sent() -> None:
    told = {kind for row in rows(section("What the server says").split("| close code |")[0]) for kind in quoted(row[0])}
    assert told == set(sent_types()) - OF_JOURNALS - {"finalize", "end"}  # these two only the client says


def test_close_codes_are_those_of_the_errors() -> None:
    table = section("What the server says").split("| close code |")[1]
    told: dict[int, set[str]] = {}
    for row in rows(table):
        for code in re.findall(r"\b\d{4}\b", row[0]):
            told.setdefault(int(code), set()).update(quoted(row[1]))
    assert set(told) - OF_SOCKETS == {error.close_code for error in errors.all_errors()}
    named = told[4400] - {"finalize", "end", "media_…"}
    assert named <= {error.code for error in errors.all_errors() if error.close_code == 4400}
    assert all(error.close_code == 4400 for error in errors.all_errors() if error.code.startswith("media_"))
    ours = [e for e in vars(live_errors).values() if inspect.isclass(e) and e.__module__ == live_errors.__name__]
    missing = {e.code for e in ours if e.close_code == 4400} - told[4400]
    assert len(ours) > 8 and missing == set()


def test_bounds_are_the_constants() -> None:
    bounds = {row[0].strip(): row[1] for row in rows(section("What is behind it"))}
    waits = bounds["messages that wait for a reader"]
    assert f"{outlet._MOST}, {live_socket._WRITE_BUFFER >> 10} KiB" in waits
    assert (
        bounds["audio that waits for the journal"]
        .strip()
        .startswith(f"{session._UNWRITTEN_BYTES >> 10} KiB, or {session._UNWRITTEN} frames")
    )
    behind = bounds["audio that the engine is behind"]
    assert behind.strip().startswith(f"{session._BACKLOG_S:g} s (of `webm-opus`: {session._BACKLOG_BYTES >> 20} MiB)")
    alone = bounds["audio that the journal alone has, as the store or the database is away"]
    assert alone.strip().startswith("`window_s` of it (of `webm-opus`: 1 MiB a minute), and a part;")
    assert session._BACKLOG_BYTES / session._BACKLOG_S == MIB / 60
    assert f"{timeline.MARKS_MAX:,} and {timeline.GAPS_MAX}" in bounds["`finalize`, `gap` that wait for the engine"]
    assert bounds["a gap"].strip() == "twice `window_s`"
    assert "2 * self._live.limits.window_s" in inspect.getsource(live_connection.Connection._control)
    assert f'"expires_in": {live_http.TICKET_S:g}}}' in PAGE
    assert f"a message has at most {live.MESSAGE_BYTES >> 10} KiB" in " ".join(PAGE.split())
    assert live_connection._FIRST_S == 10 and "The first message has to come within ten seconds (4408)" in PAGE
    assert session._SIGN_OF_LIFE_S == 2 and "an `ack` every two\nseconds" in PAGE
    assert keeping._COMPACT_BYTES == 1 << 20 and "opt 1 MiB of the journal is stored elsewhere" in PAGE
    assert f"{sound.PART_BYTES // 2:,} samples (of `webm-opus` {sound.PART_BYTES:,} bytes)" in PAGE


def test_defaults_are_the_settings() -> None:
    for name, default in re.findall(r"`COSYGATE_([A-Z_]+)` \((\d+)\)", PAGE):
        assert Settings.model_fields[name.lower()].default == int(default), name


def worked() -> list[tuple[str, Any]]:
    """The lines of the worked session: who speaks, and the index of a frame, or a message."""
    found: list[tuple[str, Any]] = []
    for block in re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL):
        for line in block.splitlines():
            if frame := re.match(r"> ([0-9a-f]{16}) \+ 3,200 bytes", line):
                found.append((">", int(frame[1], 16)))
            elif line != "…":
                whole = line[2:].replace(", …}", "}").replace("0193…6a", "0193" * 8).replace("qL…x", "q" * 32)
                found.append((line[0], json.loads(whole)))
    return found


def test_the_client_of_the_worked_session_says_what_is_valid() -> None:
    expected = 0
    for who, said in worked():
        if who == "<":
            expected = said.get("offset", said.get("samples", expected))
        elif isinstance(said, int):
            assert said == expected
            expected += 1600
        else:
            live_messages.parse_message(json.dumps(said))


def test_the_server_of_the_worked_session_says_what_could_be() -> None:
    restart = acked = finals = 0
    ended_at: float | None = None
    for said in (said for who, said in worked() if who == "<"):
        match said["type"]:
            case "ack":
                acked, parts = said["samples"], 2 * said["samples"] // sound.PART_BYTES
                assert said["safe"] == min(restart, parts * sound.PART_BYTES // 2)
            case "ready":
                assert said["offset"] == acked
            case "speech_ended":
                ended_at = said["at"]
            case "final" if "text" in said:
                times = [said["start_sample"] / 16_000, said["end_sample"] / 16_000]
                assert [said["start"], said["end"]] == times
                if said["id"] == finals:  # else lines before it are left out
                    assert ended_at == said["end"]
                restart, finals = said["end_sample"], said["id"] + 1
            case "final":
                assert said["id"] == finals
                finals = said["id"] + 1
            case "done":
                assert said["finals"] == finals
    assert finals == 6
