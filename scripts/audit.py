"""Asks PyPI's advisory database whether a locked dependency has a known vulnerability (pip-audit). Part of
`make check`.

Exit status 1 when one has; advisories that do not concern us stand in ACCEPTED with the reason. An index that has no
advisories answers "nothing known" about everything, so an old release that is known to be vulnerable is asked about,
too: unless that is told, the check says that it is skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LOCK = Path(__file__).resolve().parent.parent / "requirements.lock"
ACCEPTED: dict[str, str] = {}  # advisory id → why it does not concern us
CANARY = "tablib==0.11.4"  # CVE-2017-2810; nothing here depends on it
_WAIT_S = 150


def audit(requirements: str) -> list[dict[str, Any]] | str:
    """What is known of each requirement, or why that cannot be had."""
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "asked.txt"
        asked.write_text(requirements)
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(asked), "--no-deps", "--disable-pip"]
        command += ["--format", "json", "--progress-spinner", "off", "--cache-dir", f"{folder}/cache", "--timeout", "5"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_WAIT_S, env={**os.environ})
        except subprocess.TimeoutExpired:
            return f"it did not answer within {_WAIT_S} s"
    if not done.stdout.lstrip().startswith("{"):
        return f"pip-audit ended with status {done.returncode}: {(done.stderr.strip().splitlines() or ['nothing'])[-1]}"
    found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    return found


def vulnerable(dependencies: list[dict[str, Any]]) -> list[str]:
    """A line for every advisory that is not accepted, and for every package of which nothing could be learnt."""
    found = []
    for package in dependencies:
        if "skip_reason" in package:
            found.append(f"{package['name']}: {package['skip_reason']}")
        for advisory in package.get("vulns", ()):
            if advisory["id"] not in ACCEPTED and not ACCEPTED.keys() & set(advisory.get("aliases", ())):
                fixed = ", ".join(advisory.get("fix_versions", ())) or "no version yet"
                found.append(f"{package['name']} {package['version']}: {advisory['id']}, fixed by {fixed}")
    return found


def main() -> int:
    told = audit(CANARY)
    if isinstance(told, str) or not any(package.get("vulns") for package in told):
        why = told if isinstance(told, str) else "it knows nothing even of an old vulnerable release"
        print(f"dependency audit: skipped, the advisory database cannot be used here: {why}")
        return 0
    asked = audit(LOCK.read_text())
    found = [asked] if isinstance(asked, str) else vulnerable(asked)
    for line in found:
        print(f"dependency audit: {line}", file=sys.stderr)
    if not found:
        print("dependency audit: nothing known against any locked dependency")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
