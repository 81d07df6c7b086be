"""Metrics of several processes, killed and started again: counters never go back or count twice, gauges end with their
process, files do not pile up, and whoever reads meanwhile reads sense."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cosygate.kit import meters, slots

FILES = 5  # of a slot: counters, histograms, three kinds of gauges


class Metered:
    """tests/support/metered.py, and what a scrape of its folder tells."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PROMETHEUS_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.metered", str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=clean,
        )  # fmt: skip

    def live(self, slot: str, name: str, count: int) -> int:
        """One life in the slot; how many increments it made."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{slot} {name} {count}\n")
        return int(self.process.stdout.readline())

    def samples(self) -> dict[tuple[str, str], float]:
        """(name, first label's value) → value."""
        text = meters.exposition().decode()
        found: list[Any] = [s for family in text_string_to_metric_families(text) for s in family.samples]
        return {(s.name, next(iter(s.labels.values()), "")): s.value for s in found}


@pytest.fixture
def metered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Metered]:
    monkeypatch.setenv(slots.FOLDER, str(tmp_path))
    running = Metered(tmp_path)
    yield running
    running.process.kill()
    running.process.communicate()


@pytest.mark.timeout(300)
def test_a_thousand_restarts_leave_the_files_of_one(metered: Metered) -> None:
    metered.live("g0", "x", 1)
    files = {path.name: path.stat().st_size for path in metered.folder.iterdir()}
    assert len(files) == FILES
    for _ in range(999):
        metered.live("g0", "x", 1)
    assert {path.name: path.stat().st_size for path in metered.folder.iterdir()} == files
    assert metered.samples()["cv_rejected_total", "x"] == 1000


def test_killed_at_any_moment_nothing_is_lost_or_counted_twice(metered: Metered) -> None:
    metered.live("g1", "x", 5)  # another process's, which stays
    made, kills = 5, 40
    over = threading.Event()
    seen: list[float] = []

    def scrape() -> None:
        while not over.is_set():
            seen.append(metered.samples()["cv_rejected_total", "x"])

    reader = threading.Thread(target=scrape)
    reader.start()
    for _ in range(kills):
        made += metered.live("g0", "x", 0)
    over.set()
    reader.join()
    # Between an increment and its being told, a kill may have come.
    assert made <= metered.samples()["cv_rejected_total", "x"] <= made + kills
    assert made > 5
    assert len(seen) > 10 and seen == sorted(seen)


def test_gauges_end_with_their_process_and_counters_do_not(metered: Metered) -> None:
    for slot in ("g0", "g1", "g10"):
        metered.live(slot, "x", 2)
    assert metered.samples()["cv_live_sessions", ""] == 3
    slots.forget(metered.folder, "g1")
    after = metered.samples()
    assert after["cv_live_sessions", ""] == 2  # g10 is another one
    assert after["cv_rejected_total", "x"] == 6
    slots.forget(metered.folder, "g0")
    slots.forget(metered.folder, "g10")
    assert ("cv_engine_queue_len", "") not in metered.samples()
    metered.live("g1", "x", 1)
    assert metered.samples()["cv_live_sessions", ""] == 1
    assert metered.samples()["cv_rejected_total", "x"] == 7


def test_a_file_that_has_just_been_made_is_passed_over(metered: Metered) -> None:
    metered.live("g0", "x", 1)
    (metered.folder / "counter_g1.db").touch()  # between open and truncate
    (metered.folder / "histogram_g1.db").write_bytes(bytes(65536))  # between truncate and the first word
    assert metered.samples()["cv_rejected_total", "x"] == 1
