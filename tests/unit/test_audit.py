"""The dependency audit tells what it found, and does not take silence for good news."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from scripts import audit

GOOD = {"name": "kind", "version": "1", "vulns": []}
BAD = {"name": "tablib", "version": "0.11.4", "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2"]}]}
UNKNOWN = {"name": "odd", "skip_reason": "not found"}


def test_advisories_and_gaps_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert audit.vulnerable([GOOD]) == []
    assert audit.vulnerable([GOOD, BAD, UNKNOWN]) == ["tablib 0.11.4: PYSEC-1, fixed by 2", "odd: not found"]
    monkeypatch.setattr(audit, "ACCEPTED", {"CVE-1": "a test"})
    assert audit.vulnerable([BAD]) == []


@pytest.mark.parametrize(
    ("canary", "locked", "status"),
    [([BAD], [GOOD], 0), ([BAD], [BAD], 1), ([BAD], [UNKNOWN], 1), ([GOOD], [GOOD], 0), ([UNKNOWN], [UNKNOWN], 0)],
    ids=["clean", "vulnerable", "unknown", "an index without advisories", "no index"],
)
def test_the_exit_status(
    canary: object, locked: object, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked = Path(command[command.index("--requirement") + 1]).read_text()
        found = canary if asked == audit.CANARY else locked
        return subprocess.CompletedProcess(command, 1, json.dumps({"dependencies": found}), "")

    monkeypatch.setattr(audit.subprocess, "run", run)
    assert audit.main() == status
    assert ("skipped" in capsys.readouterr().out) == (canary != [BAD])
