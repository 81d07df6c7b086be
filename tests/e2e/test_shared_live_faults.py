"""Live speech on the shared topology while a gateway or an engine of it goes: the stream goes on at another, and its
transcript is the undisturbed one. Rows of reliability.md that need several processes; embedded: tests/chaos."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx2
import pytest

from cosygate.client import Final, LiveEvent, Reconnected
from deploy.local_cluster.processes import Engine, Gateway
from deploy.local_cluster.topology import LocalCluster
from tests.support.live import LiveCaller, Story, compare
from tests.support.live_runs import Played, check_kept, recordings, rehearse, wait_engines
from tests.support.shared_cluster import Door, front, log_lines, revive, shared_cluster

pytestmark = [pytest.mark.needs("postgres", "redis-server", "nginx"), pytest.mark.slow, pytest.mark.timeout(300)]

SCRIPT = {"hear": "digest", "segment_s": 0.7}
DRAIN_S = 3.0
RESUMED_S = 2.0
STREAMS = 4


@pytest.fixture(scope="module")
def module_cluster() -> Iterator[LocalCluster]:
    settings = {"workers": 1, "drain_s": DRAIN_S, "engine_idle_s": 2, "live_engine_idle_s": 2, "live_window_s": 60}
    with shared_cluster(SCRIPT, **settings) as running:
        yield running


@pytest.fixture
def cluster(module_cluster: LocalCluster) -> LocalCluster:
    """Every part runs, whatever the test before did to it."""
    revive(module_cluster)
    wait_engines(front(module_cluster))
    return module_cluster


@pytest.fixture(scope="module")
def library(module_cluster: LocalCluster) -> list[Played]:
    """What is said, and how it sounds undisturbed; the first has no ends of utterances that the client asked for."""
    return asyncio.run(rehearse(front(module_cluster), recordings("shared", 1 + STREAMS)))


@dataclass
class Talk:
    """One session of cosygate.client, spoken in real time by a thread of its own."""

    door: Door
    played: Played
    session: str = ""
    task_id: str = ""
    told: list[LiveEvent] = field(default_factory=list)

    def run(self) -> None:
        recording = self.played.recording
        with (
            self.door.client() as client,
            client.live(recording.rate, format=recording.format, on_event=self.told.append) as live,
        ):
            self.session = live.session or ""
            began = time.monotonic()
            for start, end in recording.frames(0):
                time.sleep(max(0.0, began + end / recording.rate - time.monotonic()))
                live.send(recording.bytes_of(start, end))
        self.task_id = live.task_id or ""

    def check(self) -> None:
        """Every final once, and as it would have been."""
        finals = [each for each in self.told if isinstance(each, Final)]
        assert [(each.id, each.start_sample, each.end_sample, each.text) for each in finals] == [
            (each["id"], each["start_sample"], each["end_sample"], each["text"]) for each in self.played.finals
        ]


@dataclass
class Speaking:
    """Streams in the middle of what they say, in front of nginx."""

    callers: list[LiveCaller]
    talk: Talk

    def told(self, process: Gateway, *actions: str) -> set[str]:
        """Those of our sessions that this gateway has said this of."""
        ours = {self.talk.session, *(caller.story.session for caller in self.callers)}
        return ours & {line["session"] for action in actions for line in log_lines(process, action)}


@asynccontextmanager
async def speaking(cluster: LocalCluster, library: list[Played]) -> AsyncIterator[Speaking]:
    """In the block, each has got finals; behind it, all have ended, with the right transcript and sound."""
    door = front(cluster)
    first, *others = library
    callers = [
        LiveCaller(door.port, door.token(), played.recording, speed=1.0, silence_s=20, seed=n)
        for n, played in enumerate(others)
    ]
    own = Talk(door, first)
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(caller.run()) for caller in callers]
        group.create_task(asyncio.to_thread(own.run))
        while not own.told or any(len(caller.story.finals) < 2 for caller in callers):
            await asyncio.sleep(0.01)
        yield Speaking(callers, own)
    own.check()
    await check_kept(door, own.task_id, first)
    for task, played in zip(running, others, strict=True):
        story = task.result()
        compare(story, played.finals)
        assert story.done is not None
        await check_kept(door, story.done["task_id"], played)


def held_by(now: Speaking, gateway: Gateway) -> set[str]:
    held = now.told(gateway, "live.started", "live.resumed")
    assert held, "nginx gives it none"
    return held


def parted(now: Speaking, held: set[str]) -> tuple[list[Story], list[Story]]:
    """Whose gateway went, and whose did not."""
    stories = [caller.story for caller in now.callers]
    return [s for s in stories if s.session in held], [s for s in stories if s.session not in held]


@pytest.mark.parametrize("fault", ["hung", "killed"])
async def test_an_engine_that_goes_is_nobodys_business(
    cluster: LocalCluster, library: list[Played], fault: str
) -> None:
    engine: Engine = cluster.engines[0]
    async with speaking(cluster, library) as now:
        assert set.union(*(now.told(gateway, "live.engine_away") for gateway in cluster.gateways)) == set()
        await asyncio.to_thread(engine.kill if fault == "killed" else engine.pause)
    away = set.union(*(now.told(gateway, "live.engine_away") for gateway in cluster.gateways))
    assert away, "it was in nobody's way"
    assert [len(caller.story.contacts) for caller in now.callers] == [1] * STREAMS
    assert not [each for each in now.talk.told if isinstance(each, Reconnected)]


def check_moved(now: Speaking, held: set[str]) -> None:
    """Who was at the gateway that went has come back once, and who was not has noticed nothing."""
    _, stayed = parted(now, held)
    assert [len(story.contacts) for story in stayed] == [1] * len(stayed)
    again = [each.after_s for each in now.talk.told if isinstance(each, Reconnected)]
    assert len(again) == (now.talk.session in held)


async def test_a_killed_gateways_streams_go_on_at_the_other_within_two_seconds(
    cluster: LocalCluster, library: list[Played]
) -> None:
    killed, other = cluster.gateways
    async with speaking(cluster, library) as now:
        held = held_by(now, killed)
        at = time.monotonic()
        await asyncio.to_thread(killed.kill)
    gone, _ = parted(now, held)
    for story in gone:
        assert story.contacts[0].closed == 1006
        back = next(contact.ready for contact in story.contacts[1:] if contact.ready is not None)
        assert back - at <= RESUMED_S, story.contacts
    check_moved(now, held)
    assert all(each.after_s <= RESUMED_S for each in now.talk.told if isinstance(each, Reconnected))
    assert now.told(other, "live.resumed") == held


async def test_a_rolling_restart_moves_streams_at_once(module_cluster: LocalCluster, library: list[Played]) -> None:
    """One gateway has just been restarted, which nginx noticed, when the other is told to end."""
    other, ended = module_cluster.gateways
    await asyncio.to_thread(restart, module_cluster, other)
    async with speaking(module_cluster, library) as now:
        held = held_by(now, ended)
        process = ended.process
        at = time.monotonic()
        await asyncio.to_thread(ended.stop)
        assert time.monotonic() - at < DRAIN_S + 5
        assert process is not None and process.returncode == 0
    gone, _ = parted(now, held)
    for story in gone:
        [(told_at, moved)] = story.of("moved")
        assert 0 < moved["reconnect_in_ms"] <= 5000
        assert story.contacts[0].closed == 1012
        assert story.contacts[-1].closed == 1000
        assert story.of("error") == []
        back = next(contact.ready for contact in story.contacts[1:] if contact.ready is not None)
        assert back - told_at <= moved["reconnect_in_ms"] / 1000 + RESUMED_S, story.contacts
    check_moved(now, held)
    assert now.told(other, "live.resumed") == held


def restart(cluster: LocalCluster, gateway: Gateway) -> None:
    gateway.kill()
    for _ in range(4):  # whatever it is that clients want meanwhile, they get it from the other
        assert httpx2.post(f"{cluster.url}/v1/live/tickets", timeout=30).status_code == 401
    revive(cluster)
