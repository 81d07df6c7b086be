"""Which engines there are, as look-ups tell it, and what becomes of those that join and leave: a real room, on a clock
that tests move, over engines that do as told."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from cosygate import errors
from cosygate.adapters.names_dns import DnsNames
from cosygate.flows.choose_engine import EngineRoom
from cosygate.flows.fleet import Fleet
from cosygate.kit import metrics
from cosygate.kit.breaker import Phase
from cosygate.model.engine_addresses import EngineAddress, parse_addresses
from cosygate.model.options import TranscribeOptions
from cosygate.ports.names import LookupFailed
from tests.support.breakers import breakers
from tests.support.clock import MovedClock
from tests.support.fleet import NAME, ToldNames
from tests.support.told_engines import ToldEngine


class Connection(ToldEngine):
    def __init__(self, address: str, name: str) -> None:
        super().__init__()
        self.address, self.name = address, name
        self.closed = False
        self.leaves = asyncio.Event()
        self.lost = False
        self.asked = 0

    async def describe(self) -> Any:
        self.asked += 1
        return await super().describe()

    async def leaving(self) -> None:
        await self.leaves.wait()
        if self.lost:
            raise errors.EngineUnavailable

    async def close(self) -> None:
        self.closed = True


class Site:
    def __init__(self, text: str, *found: str) -> None:
        self.clock = MovedClock()
        self.names = ToldNames(*found)
        self.made: dict[str, list[Connection]] = {}
        self.breakers = breakers(self.clock)
        self.room = EngineRoom({}, self.clock, self.breakers)
        self.fleet = Fleet(self.room, parse_addresses(text), self.names, self._connect, self.clock, every_s=5.0)
        self.fleet.begin()

    def _connect(self, address: str, name: str) -> Connection:
        made = Connection(address, name)
        self.made.setdefault(address, []).append(made)
        return made

    async def passes(self, seconds: float) -> None:
        await self.clock.advance(seconds)
        await self.clock.advance(0)

    @property
    def keys(self) -> list[str]:
        return [engine.key for engine in self.room.status()]

    async def called(self) -> str:
        async with self.room.borrow(TranscribeOptions()) as lent:
            return lent.key


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site(f"dns:{NAME}:50", "10.0.0.1")
    await made.passes(0)
    yield made
    await made.fleet.close()


async def test_fixed_addresses_are_there_at_once() -> None:
    site = Site("a:1, [::1]:2 a:1")
    assert site.keys == ["a:1", "[::1]:2"]
    assert [made.name for [made] in site.made.values()] == ["a", "::1"], "what their certificates are for"
    assert site.names.asked == 0
    await site.fleet.close()
    assert all(made.closed for [made] in site.made.values())


async def test_an_engine_is_called_within_one_look_up_of_its_joining(site: Site) -> None:
    assert await site.called() == "10.0.0.1:50"
    site.names.found = ("10.0.0.1", "10.0.0.2", "fd00::1")
    await site.passes(5)
    assert site.keys == ["10.0.0.1:50", "10.0.0.2:50", "[fd00::1]:50"]
    assert all(engine.up for engine in site.room.status()), "it was asked when it joined"
    assert site.made["10.0.0.2:50"][0].name == NAME


@pytest.mark.parametrize("found", [None, ()])
async def test_a_look_up_that_finds_nothing_changes_nothing(site: Site, found: tuple[str, ...] | None) -> None:
    site.names.found = found
    with capture_logs() as told:
        for _ in range(11):
            await site.passes(5)
    assert site.keys == ["10.0.0.1:50"]
    failed = [line for line in told if line["event"] == "engine.lookup_failed"]
    assert [(line["name"], line["kept"]) for line in failed] == [(NAME, 1)], "once a minute"
    site.names.found = ("10.0.0.2",)
    await site.passes(5)
    assert site.keys == ["10.0.0.2:50"]


async def test_one_that_leaves_keeps_its_calls_and_gets_no_more(site: Site) -> None:
    [gone] = site.made["10.0.0.1:50"]
    async with site.room.borrow(TranscribeOptions()) as lent:
        site.names.found = ("10.0.0.2",)
        await site.passes(5)
        assert site.keys == ["10.0.0.2:50"]
        assert await site.called() == "10.0.0.2:50"
        assert (lent.key, gone.closed) == ("10.0.0.1:50", False)
    await site.passes(0)
    assert gone.closed
    assert site.fleet._leaving == {}


async def test_one_that_left_and_is_back_is_called_while_its_old_calls_go_on(site: Site) -> None:
    async with site.room.borrow(TranscribeOptions()):
        for found in (("10.0.0.2",), ("10.0.0.1",)):
            site.names.found = found
            await site.passes(5)
        assert site.keys == ["10.0.0.1:50"]
        assert [made.closed for made in site.made["10.0.0.1:50"]] == [False, False]
        assert await site.called() == "10.0.0.1:50"
    await site.passes(0)
    assert [made.closed for made in site.made["10.0.0.1:50"]] == [True, False]


async def test_one_that_leaves_takes_its_breaker_from_the_metrics_and_finds_it_again(site: Site) -> None:
    key = "10.0.0.1:50"
    for _ in range(5):
        site.breakers.failed(key)
    await site.passes(0)
    assert site.room.status()[0].breaker is Phase.OPEN
    metrics.breaker_state.labels(key).set(2)
    site.names.found = ("10.0.0.2",)
    await site.passes(5)
    assert f'cv_breaker_state{{engine="{key}"}} 0.0' in metrics.exposition().decode()
    assert (site.room.blocked_s(), await site.called()) == (0, "10.0.0.2:50")
    site.names.found = ("10.0.0.1",)
    await site.passes(5)
    assert site.room.status()[0].breaker is Phase.OPEN


async def test_one_that_leaves_while_its_probe_is_taken_is_not_called(site: Site) -> None:
    key = "10.0.0.1:50"
    for _ in range(5):
        site.breakers.failed(key)
    await site.passes(0)
    await site.passes(67)
    held, asked = asyncio.Event(), asyncio.Event()
    change = site.breakers._board.change

    async def slowly(*given: Any) -> Any:
        asked.set()
        await held.wait()
        return await change(*given)

    site.breakers._board.change = slowly  # type: ignore[method-assign]
    calling = asyncio.create_task(site.called())
    await asyncio.wait_for(asked.wait(), 5)
    site.names.found = ("10.0.0.2",)
    await site.passes(5)
    held.set()
    with pytest.raises(errors.EngineUnavailable):
        await calling
    assert site.made[key][0].closed
    assert site.made[key][0].calls == 0


async def test_an_engine_that_says_it_leaves_is_asked_before_it_is_called(site: Site) -> None:
    [engine] = site.made["10.0.0.1:50"]
    assert await site.called() == "10.0.0.1:50"
    engine.away = True
    engine.leaves.set()
    await site.passes(0)
    assert not site.room.status()[0].up
    with pytest.raises(errors.EngineUnavailable):
        await site.called()
    engine.away, engine.leaves = False, asyncio.Event()
    assert await site.called() == "10.0.0.1:50"


async def test_one_that_cannot_be_heard_any_more_is_asked_too(site: Site) -> None:
    [engine] = site.made["10.0.0.1:50"]
    asked = engine.asked
    assert await site.called() == "10.0.0.1:50"
    assert engine.asked == asked
    await site.passes(2)
    engine.lost = True
    engine.leaves.set()
    await site.passes(0)
    for _ in range(3):
        await site.called()
    assert engine.asked == asked + 1, "though it never can be listened to again"


async def test_it_is_said_of_one_that_is_away_and_not_too_often(site: Site) -> None:
    [engine] = site.made["10.0.0.1:50"]
    engine.away = True
    with capture_logs() as told:
        for _ in range(7):
            await site.passes(10)
            await site.room.refresh()
    assert [line["engine"] for line in told if line["event"] == "engine.away"] == ["10.0.0.1:50"] * 2
    site.names.found = ("10.0.0.1", "10.0.0.3")
    with capture_logs() as told:
        await site.passes(5)
        late = site.made["10.0.0.3:50"][0]
        late.away = True
        engine.away = False
        await site.room.refresh(force=True)
        await site.passes(4)
        await site.room.refresh(force=True)
    assert [line["engine"] for line in told if line["event"] == "engine.away"] == ["10.0.0.3:50"], "it was up"


def test_addresses_are_read() -> None:
    told = "one:1,two.example:22  dns:engines.svc:50051,10.0.0.1:3, [2001:db8::1]:4"
    assert parse_addresses(told) == (
        EngineAddress("one", 1),
        EngineAddress("two.example", 22),
        EngineAddress("engines.svc", 50051, each=True),
        EngineAddress("10.0.0.1", 3),
        EngineAddress("2001:db8::1", 4),
    )
    assert [str(one) for one in parse_addresses(told)][-1] == "[2001:db8::1]:4"
    assert parse_addresses("") == ()


@pytest.mark.parametrize(
    "bad",
    [
        "one",
        "one:",
        ":1",
        "one:0",
        "one:65536",
        "one:x",
        "http://one:1",
        "dns:one",
        "[one]:1",
        "dns:[::1]:1",
        "one:²",
        "o/ne:1",
        "one:1:2",
    ],
)
def test_addresses_that_are_none_are_refused(bad: str) -> None:
    with pytest.raises(ValueError, match=r"it is host:port|no IPv6 address"):
        parse_addresses(bad)


def test_so_many_engines_are_too_many() -> None:
    with pytest.raises(ValueError, match="at most 1024"):
        parse_addresses(" ".join(f"one:{port}" for port in range(1, 1026)))


# --- the resolver ---


def found(*addresses: str) -> Sequence[Any]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]


async def test_a_name_stands_for_its_addresses() -> None:
    assert set(await DnsNames().addresses("localhost")) <= {"127.0.0.1", "::1"}
    assert await DnsNames(look=lambda _: found("10.0.0.2", "10.0.0.1", "10.0.0.2")).addresses("x") == (
        "10.0.0.2",
        "10.0.0.1",
    )


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_AGAIN, "try again"), OSError(5, "broken")])
async def test_a_resolver_that_fails_says_so(error: OSError) -> None:
    def fails(_: str) -> Sequence[Any]:
        raise error

    with pytest.raises(LookupFailed, match=r"try again|broken"):
        await DnsNames(look=fails).addresses("x")


async def test_a_name_that_is_known_to_have_no_address_has_none() -> None:
    def none(_: str) -> Sequence[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    assert await DnsNames(look=none).addresses("x") == ()
    with pytest.raises(LookupFailed, match="no name of a host"):
        await DnsNames().addresses("x" * 100)


async def test_a_resolver_that_hangs_is_asked_once_and_waited_for_in_vain() -> None:
    hangs, asked = threading.Event(), 0

    def hang(_: str) -> Sequence[Any]:
        nonlocal asked
        asked += 1
        hangs.wait(20)
        return found("10.0.0.1")

    names = DnsNames(0.05, look=hang)
    began = time.monotonic()
    for _ in range(5):
        with pytest.raises(LookupFailed, match=r"no answer within 0\.05 s"):
            await names.addresses("x")
    assert (asked, time.monotonic() - began < 5) == (1, True)
    hangs.set()
    async with asyncio.timeout(5):
        while names._looking:
            await asyncio.sleep(0.01)
    assert await names.addresses("x") == ("10.0.0.1",)
