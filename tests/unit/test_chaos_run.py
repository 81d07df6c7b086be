"""The chaos run's own parts: its schedule of faults, what its clients will do, its control socket."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.cluster import plan
from tests.chaos.cluster.control import controlled
from tests.chaos.cluster.faults import WAYS, Fault, Faults, Remote, schedule
from tests.chaos.cluster.journal import Journal, read
from tests.support.live_recordings import noise

KINDS = {
    "gateway": ("gateway-0", "gateway-1"), "worker": ("worker-0", "worker-1"), "engine": ("engine-0", "engine-1"),
    "redis": ("redis",), "postgres": ("postgres",), "nginx": ("nginx",), "store": ("store",),
}  # fmt: skip
SEEDS = range(30)


def test_a_schedule_is_its_seeds_alone() -> None:
    assert schedule(3, 60, KINDS) == schedule(3, 60, KINDS)
    assert schedule(3, 60, KINDS) != schedule(4, 60, KINDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_minute_has_every_kind_of_fault_every_few_seconds(seed: int) -> None:
    faults = schedule(seed, 60, KINDS)
    assert {fault.kind for fault in faults} == set(KINDS)
    assert len(faults) >= 14
    assert max(after.at_s - before.at_s for before, after in pairwise(faults)) < 10
    assert all(fault.until_s <= 60 for fault in faults)
    assert all(WAYS[f.kind].outage[0] <= f.for_s <= WAYS[f.kind].outage[1] for f in faults)


def test_five_minutes_have_every_way_of_it() -> None:
    done: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for fault in schedule(1, 300, KINDS):
        done[fault.kind][fault.do] += 1
    assert {kind: set(ways) for kind, ways in done.items()} == {kind: set(WAYS[kind].do) for kind in KINDS}


@pytest.mark.parametrize("seed", SEEDS)
def test_somebody_is_always_left(seed: int) -> None:
    for kinds in (KINDS, KINDS | {"gateway": ("gateway-0", "gateway-1", "gateway-2")}):
        faults = schedule(seed, 120, kinds, every_s=0.5)
        for fault in faults:
            away = [f for f in faults if f.at_s <= fault.at_s < f.until_s + WAYS[f.kind].settle_s]
            assert len([f for f in away if len(kinds[f.kind]) == 1]) <= 1, "single services one at a time"
            same = [f.part for f in away if f.kind == fault.kind]
            assert len(same) == len(set(same))
            assert len(kinds[fault.kind]) == 1 or len(same) < len(kinds[fault.kind])


def test_the_whole_server_goes_alone() -> None:
    kinds = {"gateway": ("gateway-0", "gateway-1"), "server": ("server",)}
    faults = schedule(5, 200, kinds)
    assert {fault.kind for fault in faults} == {"gateway", "server"}
    for one in faults:
        for other in faults:
            if one.kind == "server" and one is not other:
                apart = one.until_s + WAYS["server"].settle_s <= other.at_s
                assert apart or other.until_s + WAYS[other.kind].settle_s <= one.at_s


class _Part:
    def __init__(self, told: list[str], name: str) -> None:
        self._told = told
        self._name = name
        self.there = True

    def __getattr__(self, do: str) -> Any:
        if do not in ("kill", "pause", "resume", "stop", "start"):
            raise AttributeError(do)

        def act() -> Any:
            self._told.append(f"{do} {self._name}")
            self.there = do in ("resume", "start")
            return self  # which is not for the wire

        return act

    def running(self) -> bool:
        return self.there


class _Cluster:
    def __init__(self) -> None:
        self.told: list[str] = []
        self.parts = {name: _Part(self.told, name) for names in KINDS.values() for name in names}

    def kinds(self) -> dict[str, tuple[str, ...]]:
        return KINDS

    def part(self, name: str) -> _Part:
        return self.parts[name]

    def cut_store(self, cut: bool) -> None:
        self.told.append("cut" if cut else "heal")


def test_each_fault_is_made_ended_and_told(tmp_path: Path) -> None:
    cluster, journal = _Cluster(), tmp_path / "journal.jsonl"
    faults = [
        Fault(0.00, "gateway", "gateway-0", "kill", 0.3),
        Fault(0.05, "engine", "engine-1", "pause", 0.3),
        Fault(0.10, "postgres", "postgres", "restart", 0.3),
        Fault(0.15, "store", "store", "cut", 0.3),
        Fault(0.20, "gateway", "gateway-1", "kill", 0.1),  # the other one is still away
    ]
    with controlled(cluster, tmp_path / "control") as control:
        remote = Remote(control)
        assert remote.kinds() == {kind: list(names) for kind, names in KINDS.items()}
        Faults(remote, Journal(journal)).run(faults)
        with pytest.raises(RuntimeError, match="KeyError"):
            remote.part("nobody").kill()
    assert cluster.told == [
        "kill gateway-0", "pause engine-1", "stop postgres", "cut",
        "start gateway-0", "resume engine-1", "start postgres", "heal",
    ]  # fmt: skip
    told = [(line.kind, line.data["part"], line.data["do"]) for line in read(journal)]
    assert told[:4] == [("fault", f.part, f.do) for f in faults[:4]]
    assert told[4] == ("fault_skipped", "gateway-1", "kill")
    assert {what for what, *_ in told[5:]} == {"fault_over"} and len(told) == 9


def test_faults_end_early_and_leave_all_as_it_was(tmp_path: Path) -> None:
    cluster = _Cluster()
    faults = Faults(cluster, Journal(tmp_path / "journal.jsonl"))
    threading.Timer(0.2, faults.over.set).start()
    began = time.monotonic()
    faults.run([Fault(0.0, "engine", "engine-0", "kill", 60), Fault(30.0, "redis", "redis", "kill", 1)])
    assert time.monotonic() - began < 5
    assert cluster.told == ["kill engine-0", "start engine-0"]


@pytest.mark.parametrize("failures", [2, 3])
def test_what_does_not_come_up_is_started_again(tmp_path: Path, failures: int) -> None:
    cluster, journal = _Cluster(), tmp_path / "journal.jsonl"
    left = [RuntimeError("not in time")] * failures

    def start() -> None:
        if left:
            raise left.pop()
        cluster.told.append("started")

    cluster.parts["redis"].start = start
    faults = Faults(cluster, Journal(journal))
    if failures < 3:
        faults.run([Fault(0.0, "redis", "redis", "kill", 0.1)])
        assert cluster.told == ["kill redis", "started"]
    else:
        with pytest.raises(RuntimeError, match="not in time"):
            faults.run([Fault(0.0, "redis", "redis", "kill", 0.1)])
    ends = ["fault_slow", "fault_slow", "fault_over" if failures < 3 else "fault_failed"]
    assert [line.kind for line in read(journal)] == ["fault", *ends]


# --- what the clients will do


def test_a_plan_is_its_seeds_alone_and_has_everything_in_it() -> None:
    work = plan.recordings(1, 400, 60)
    assert work == plan.recordings(1, 400, 60) != plan.recordings(2, 400, 60)
    assert {one.fate for one in work} == set(plan.FATES)
    assert {one.follow for one in work} == set(plan.FOLLOWS)
    assert {one.principal for one in work} == set(plan.PRINCIPALS)
    for name in ("library", "parallel", "low", "webhook"):
        assert {getattr(one, name) for one in work} == {True, False}, name
    assert {chunk.form for one in work for chunk in one.chunks} == {True, False}
    assert len({one.session for one in work}) == len(work)
    assert [one.at_s for one in work] == sorted(one.at_s for one in work)


def test_chunks_are_the_whole_recording() -> None:
    for one in plan.recordings(7, 40, 10):
        sound = one.sound()
        parts = sorted(one.chunks, key=lambda chunk: chunk.seq)
        assert [part.seq for part in parts] == list(range(one.last + 1))
        assert b"".join(sound[part.start : part.end] for part in parts) == sound


def test_a_recordings_text_is_its_own() -> None:
    """Swapped, truncated or shuffled, it would have another."""
    work = plan.recordings(7, 40, 10)
    texts = [" ".join(one.texts()) for one in work]
    assert len(set(texts)) == len(texts)
    pcm = work[0].sound()[44:]
    assert plan.texts(pcm) == work[0].texts()
    assert plan.texts(pcm[:-2]) != work[0].texts()
    assert plan.texts(pcm[plan.PIECE * 2 :] + pcm[: plan.PIECE * 2]) != work[0].texts()


def test_finals_are_cut_at_pieces_and_where_the_client_says_so() -> None:
    sound = noise("finals", 1.3, finalizes=1)
    [mark] = sound.finalizes
    speech = plan.Speech("l0", plan.PRINCIPALS[0], 0.0, 1.0, sound, False)
    finals = speech.finals()
    assert finals[0][0] == 0 and finals[-1][1] == sound.samples
    assert all(before[1] == after[0] for before, after in pairwise(finals))
    assert mark in {end for _, end, _ in finals}
    assert all(end - start <= plan.PIECE for start, end, _ in finals)
    start, end, text = finals[0]
    assert text == plan.digest(sound.audio[2 * start : 2 * end])
