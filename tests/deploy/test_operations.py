"""The runbook's commands run as they stand: a server is started, drained, backed up, stopped, restored, looked at."""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.api.conftest import wav
from tests.docs.test_against_server import blocks
from tests.docs.test_pages import logged

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
SCRIPTS = Path(sys.executable).parent

# The test's own: a recording before the backup, which must be there after the restore; then one at which the engine
# hangs; credentials that hold until they are revoked.
_SEND = """
MINE="Authorization: Bearer $(cosygate token --sub owner)"
SENT=$(curl -fsS -X PUT -H "$MINE" --data-binary @"$RECORDING" "$URL/v1/audio/kept/0?is_last=1")
TASK=$(echo "$SENT" | grep -oE '[0-9a-f]{32}' | head -n 1)
"""
_KEPT = """
curl -fsS -H "$MINE" "$URL/v1/task/$TASK/transcript?format=txt"
curl -fsS -H "$MINE" "$URL/v1/task/$TASK/audio" | cmp - "$RECORDING" && echo the recording is the same
"""
_HANGS = """
export COSYGATE_DATA_DIR=$RESTORED
SENT=$(curl -fsS -X PUT -H "$MINE" --data-binary @"$HANGS" "$URL/v1/audio/hangs/0?is_last=1")
TASK=$(echo "$SENT" | grep -oE '[0-9a-f]{32}' | head -n 1)
until curl -fsS -H "$MINE" "$URL/v1/task/$TASK" | grep '"state":"failed"'; do sleep 0.2; done
"""
_LENT = """
LENT=("$(cosygate token --sub recorder-5)" "$(cosygate keys create --sub recorder-5)")
answered() { curl -sS -o /dev/null -w '%{http_code}' -H "Authorization: Bearer $1" "$URL/v1/tasks"; }
for CREDENTIAL in "${LENT[@]}"; do echo "lent: $(answered "$CREDENTIAL")"; done
"""
_TAKEN_BACK = """
SECONDS=0
for CREDENTIAL in "${LENT[@]}"; do
    until [ "$(answered "$CREDENTIAL")" = 401 ] || [ "$SECONDS" -gt 20 ]; do sleep 0.2; done
    echo "taken back: $(answered "$CREDENTIAL")"
done
"""
HANGS_S = 1.25  # recordings of this length hang the recogniser


def sections(text: str) -> dict[str, str]:
    """Heading of the third level → what stands below it."""
    parts = re.split(r"^### (.+)$", text, flags=re.MULTILINE)
    return {title: body.split("\n## ")[0] for title, body in zip(parts[1::2], parts[2::2], strict=True)}


def script() -> str:
    day, alerts = PAGE.split("\n## Objectives")
    story = ["set -eu -o pipefail", *blocks("sh", day.split("\n### ")[0])]
    for title, body in sections(day).items():
        looks = title == "Look"  # a grep that finds nothing has found that
        story += [f"echo == {title}", "set +e" * looks, *blocks("sh", body), "set -e" * looks]
        own = {"Start": [_SEND], "Restore": [_KEPT, _HANGS], "Upgrade": [_LENT], "Secrets": [_TAKEN_BACK]}
        story += own.get(title, [])
    story.append("set +e")
    for title, body in sections(alerts).items():
        story += [f"echo == {title}", *blocks("sh", body)]
    return "\n".join([*story, 'echo == end; kill -TERM "$SERVER"; wait "$SERVER"'])


@pytest.mark.timeout(300)  # it starts two servers, a doctor, and commands by the dozen
@pytest.mark.needs("bash", "curl", "python3")
def test_the_commands_run(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    (tmp_path / "recording.wav").write_bytes(wav())
    (tmp_path / "hangs.wav").write_bytes(wav(HANGS_S))
    rule = {"when": {"seconds": [HANGS_S - 0.01, HANGS_S + 0.01]}, "do": "hang"}
    (tmp_path / "script.json").write_text(json.dumps({"rules": [rule]}))
    here = script()
    for theirs, ours in (
        ("http://127.0.0.1:8000", f"http://127.0.0.1:{port}"),
        ("/var/lib/cosygate", str(tmp_path / "data")),
        ("/var/log/cosygate.log", str(tmp_path / "log")),
    ):
        assert theirs in here
        here = here.replace(theirs, ours)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("COSYGATE_")}
    settings = {"COSYGATE_RECOGNISER": "scripted", "COSYGATE_PORT": port, "COSYGATE_DRAIN_S": "1"}
    settings |= {"COSYGATE_SCRIPT": str(tmp_path / "script.json"), "COSYGATE_ENGINE_IDLE_S": "1"}
    own = {"PATH": f"{SCRIPTS}:{os.environ['PATH']}", "TMPDIR": str(tmp_path), "NO_PROXY": "*"}
    own |= {"RECORDING": str(tmp_path / "recording.wav"), "HANGS": str(tmp_path / "hangs.wav")}
    running = subprocess.Popen(
        ["bash", "-c", here],
        env={**clean, **settings, **own},
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        told, wrong = running.communicate(timeout=280)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)  # the server, where the story ended too early
        running.communicate()
    revoked = "revoked: all tokens of default/recorder-5 until now, and 1 API keys\n"
    assert (running.returncode, wrong) == (0, revoked), told
    assert "the recording is the same" in told and "The first words" in told
    assert '"reasons":[]' in told and '"status":"ok"' in told and "cv_engine_queue_len 0" in told
    pieces = re.split(r"== (.*)\n", told)  # an answer need not end its line
    parts = dict(zip(pieces[1::2], pieces[2::2], strict=True))
    assert "cv_engine_slots" in parts["Look"]
    assert parts["Drain"].count('"drained_since"') == 2 and '"drained_since":null' in parts["Drain"]
    assert "problem+json" not in told and '"title":' not in told
    assert told.count("lent: 200") == told.count("taken back: 401") == 2 and "default/recorder-5" in parts["Secrets"]
    assert '"child":"gateway 0"' in parts["Stacks"]
    # That a call hung is told at level info, by the gateway alone; what went well is not in its way.
    assert '"state":"failed"' in parts["CosyGateTasksFailingFast"]
    for title in ("CosyGateTasksFailingFast", "CosyGateBreakerOpen"):
        assert parts[title].count('"outcome":"engine_failed"') == 3, parts[title]
        assert '"outcome":"ok"' not in parts[title]
    assert '"action":"task.requeued"' in parts["CosyGateQueueOld"]


def test_the_unit_is_well_formed_and_starts_what_there_is() -> None:
    unit = configparser.ConfigParser()
    unit.optionxform = str  # type: ignore[assignment, method-assign]  # configparser's own way to keep case
    unit.read_string(blocks("ini", PAGE)[0])
    program, command = shlex.split(unit["Service"]["ExecStart"])
    assert Path(program).name == "cosygate" and command == "serve"
    assert unit["Service"]["Environment"] == "COSYGATE_DATA_DIR=/var/lib/cosygate"


def test_log_lines_that_the_runbook_looks_for_are_written() -> None:
    found = re.findall(r'"action":"\(?([^")]+)\)?"', PAGE)
    actions = {action for group in found for action in group.split("|")}
    assert len(actions) > 10
    assert actions <= logged()
