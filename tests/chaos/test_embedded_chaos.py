"""The chaos run in small: one `cosygate serve`, whose gateways and engines are killed, stopped and restarted, and which
is killed as a whole, under clients that are told things; and then the checker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.cluster.running import Plan, embedded, run


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_what_clients_were_told_is_so(tmp_path: Path) -> None:
    asked = Plan(seed=11, recordings=60, live=5, seconds=20, every_s=2.5, at_once=8)
    with embedded(tmp_path) as server:
        outcome = run(server, tmp_path, asked)
    assert outcome.passed, outcome.text()
    counts = outcome.report["counts"]
    assert counts["recordings asked for"] == 60
    assert counts["recordings acknowledged"] >= 50, "else there was little to check"
    assert counts["live sessions done"] == 5
    assert counts["connections cut, as clients saw it"] > 0, "nothing happened"
    assert outcome.faults.total() >= 3
    assert counts["webhooks received"] > 0
