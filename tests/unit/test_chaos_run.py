"""The chaos run's own parts: its schedule of faults, what its clients will do, its control socket."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import sys
import threading
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest
from standardwebhooks import Webhook

import tests.chaos.cluster.__main__ as program
from cosygate.client import ClientError
from tests.chaos.cluster import plan
from tests.chaos.cluster.asking import Door
from tests.chaos.cluster.clients import _Told
from tests.chaos.cluster.control import controlled
from tests.chaos.cluster.faults import WAYS, Fault, Faults, Remote, schedule
from tests.chaos.cluster.floors import shortfalls
from tests.chaos.cluster.journal import Journal, read
from tests.chaos.cluster.running import Outcome
from tests.chaos.cluster.sending import give_up
from tests.support.live_recordings import noise
from tests.support.receiver import Receiver

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


def test_a_part_that_was_skipped_can_be_struck_later(tmp_path: Path) -> None:
    """And does not count as away when another of its kind is next."""
    cluster, journal = _Cluster(), tmp_path / "journal.jsonl"
    cluster.parts["gateway-0"].there = False
    faults = Faults(cluster, Journal(journal))
    faults.run([Fault(0.0, "gateway", "gateway-0", "kill", 0.1)])
    faults.run([Fault(0.0, "gateway", "gateway-1", "kill", 0.1)])
    cluster.parts["gateway-0"].there = True
    faults.run([Fault(0.0, "gateway", "gateway-0", "kill", 0.1)])
    assert [line.kind for line in read(journal)] == ["fault_skipped", *["fault", "fault_over"] * 2]


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


# --- whether a run says anything

PLANNED = schedule(1, 300, KINDS)
COUNTS = {
    "recordings asked for": 100, "recordings to be kept": 80, "recordings kept, acknowledged": 80,
    "live sessions asked for": 5, "live sessions done": 5, "given up by clients": 0,
}  # fmt: skip
MADE = Counter(dict.fromkeys(KINDS, 10))


def short(counts: dict[str, int], made: Counter[str] = MADE, **other: Any) -> list[str]:
    asked = {"recordings": 100, "live": 5, "seconds": 300.0, "planned": PLANNED}
    return shortfalls(COUNTS | counts, made=made, **{**asked, **other})


def test_a_run_in_which_all_worked_and_all_was_struck_is_enough() -> None:
    assert short({}) == []
    assert short({}, made=Counter(), planned=None) == [], "none was wanted"
    few = Counter({"gateway": len(PLANNED) // 3 + 1})
    assert short({}, made=few, seconds=60.0) == [], "a short run may be unlucky"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"recordings asked for": 99}, "recordings asked for: 99 of 100"),
        ({"recordings kept, acknowledged": 79}, "recordings to be kept, acknowledged: 79 of 80"),
        ({"live sessions asked for": 4}, "live sessions asked for: 4 of 5"),
        ({"live sessions done": 4}, "live sessions done: 4 of 5"),
        ({"given up by clients": 1}, "1 times a client gave up"),
    ],
)
def test_what_did_not_work_is_told(change: dict[str, int], told: str) -> None:
    assert short(change) == [told]


def test_what_was_not_struck_is_told() -> None:
    assert short({}, made=MADE - Counter(redis=10)) == ["nothing happened to: redis"]
    few = Counter(dict.fromkeys(KINDS, 1))
    assert short({}, made=few) == [f"faults: 7 of {round(len(PLANNED) / 3)}"]
    assert short({}, made=Counter(), planned=[], seconds=1.0) == ["faults: 0 of 1"]


@pytest.mark.parametrize(("status", "missed", "exit_status"), [(0, [], 0), (1, [], 1), (0, ["faults: 0 of 1"], 1)])
def test_the_program_fails_when_too_little_worked(
    status: int, missed: list[str], exit_status: int, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    outcome = Outcome(status, "told", {}, short=missed)
    monkeypatch.setattr(program, "embedded", contextlib.nullcontext)
    monkeypatch.setattr(program, "run", lambda *_: outcome)
    monkeypatch.setattr(program.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["chaos", "--embedded"])
    assert program.main() == exit_status
    told = capsys.readouterr()
    assert ("too little: faults: 0 of 1" in told.out) == bool(missed)
    if kept := re.search("journal, report and logs: (.+)", told.err):
        Path(kept[1]).rmdir()
    assert bool(kept) == bool(exit_status)


# --- what the clients tell


def test_a_webhook_is_told_with_the_tenant_that_signed_it(tmp_path: Path) -> None:
    secrets = {tenant: "whsec_" + base64.b64encode(tenant.encode() * 8).decode() for tenant in ("acme", "birch", "x")}
    door = Door("http://127.0.0.1:1", Journal(tmp_path / "journal.jsonl"), {})
    body = json.dumps({"data": {"task_id": "t0", "state": "succeeded"}}).encode()
    now = datetime.now(UTC)
    told = _Told(door, {tenant: secrets[tenant] for tenant in ("acme", "birch")})
    with Receiver(told.behaviour) as receiver:
        for tenant, secret in secrets.items():
            signed = Webhook(secret).sign(f"msg_{tenant}", now, body.decode())
            headers = {
                "webhook-id": f"msg_{tenant}",
                "webhook-timestamp": str(int(now.timestamp())),
                "webhook-signature": signed,
            }
            httpx2.post(f"{receiver.url}/r0", content=body, headers=headers, trust_env=False)
    assert [(x.data["by"], x.data["tenant"]) for x in read(tmp_path / "journal.jsonl")] == [
        ("r0", "acme"), ("r0", "birch"), ("r0", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "retryable", "kinds"),
    [
        (409, False, ["refused", "gave_up"]),
        (429, True, ["gave_up"]),
        (500, False, ["gave_up"]),
        (None, False, ["gave_up"]),
    ],
)
def test_what_the_library_was_refused_is_told(
    status: int | None, retryable: bool, kinds: list[str], tmp_path: Path
) -> None:
    door = Door("", Journal(tmp_path / "journal.jsonl"), {})
    give_up(door, "r0", "library", ClientError("x", code="y", status=status, retryable=retryable))
    assert [line.kind for line in read(tmp_path / "journal.jsonl")] == kinds


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
