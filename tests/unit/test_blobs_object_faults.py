"""An object store that hangs, is cut off, or loses its answers: bounded time, the right error, nothing half visible."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cosygate import errors
from cosygate.adapters.blobs_object import ObjectStore
from cosygate.model.upload import LastMark, Listing
from deploy.local_cluster.services import ObjectStore as Server
from tests.support import services
from tests.support.blob_stores import object_store, put, read
from tests.support.proxy import Fault, FaultProxy, Kind, Way

MIB = 1024**2
TIMEOUT_S = 1.0
BOUND_S = 2 * TIMEOUT_S + 4.0  # what two mebibytes may take, and a loaded machine


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Its own: it is paused."""
    with services.object_store() as running:
        yield running


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    with FaultProxy(server.port) as running:
        yield running


@pytest.fixture
async def store(proxy: FaultProxy, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    endpoint = f"http://127.0.0.1:{proxy.port}"
    async with object_store(tmp_path, endpoint=endpoint, count_every_s=600, timeout_s=TIMEOUT_S) as opened:
        yield opened
        proxy.heal()


@pytest.fixture
async def witness(server: Server, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    """The same store by another way."""
    async with object_store(tmp_path, endpoint=server.endpoint, count_every_s=600) as opened:
        yield opened


async def test_a_store_that_hangs_fails_a_put_in_time_and_takes_it_afterwards(
    server: Server, store: ObjectStore
) -> None:
    await put(store, "u1", 0, b"a")
    server.pause()
    try:
        began = time.monotonic()
        with pytest.raises(errors.StorageUnavailable):
            await put(store, "u1", 1, bytes(MIB))
        with pytest.raises(errors.StorageUnavailable):
            await store.parts.list("u1")
        with pytest.raises(errors.StorageUnavailable):
            await store.results.put("j1", 1, b"{}")
        assert time.monotonic() - began < 3 * BOUND_S
    finally:
        server.resume()
    assert await put(store, "u1", 1, bytes(MIB), LastMark(1, "{}")) == Listing({0: 1, 1: MIB}, LastMark(1, "{}"))


async def test_readiness_notices_a_store_that_is_away(proxy: FaultProxy, store: ObjectStore) -> None:
    await store.survey.check_room()
    store._bucket.answered_at = float("-inf")  # a while ago
    proxy.refuse()
    with pytest.raises(errors.StorageUnavailable):
        await store.survey.check_room()
    proxy.heal()
    await store.survey.check_room()


async def test_a_put_that_is_cut_off_leaves_no_part_and_can_be_repeated(
    proxy: FaultProxy, store: ObjectStore, witness: ObjectStore
) -> None:
    await put(store, "u1", 0, b"a")
    data = os.urandom(2 * MIB)
    proxy.cut()  # kept connections
    for _ in range(8):  # each attempt is cut in the middle of the body
        proxy.arm(Fault(Kind.CUT, Way.UP, at=500_000))
    began = time.monotonic()
    with pytest.raises(errors.StorageUnavailable):
        await put(store, "u1", 1, data)
    assert time.monotonic() - began < BOUND_S
    assert await witness.parts.list("u1") == Listing({0: 1})
    proxy.heal()
    listing = await put(store, "u1", 1, data)
    assert await read(witness, "u1", listing) == b"a" + data


async def test_a_put_whose_answer_is_lost_is_our_own_when_it_is_tried_again(
    proxy: FaultProxy, store: ObjectStore
) -> None:
    """The store has the object; the second attempt finds it there, and is no conflict."""
    await put(store, "u1", 0, b"a")
    for seq in range(1, 5):
        proxy.cut()  # kept connections: the next request makes a new one
        proxy.arm(Fault(Kind.CUT, Way.DOWN, at=1))
        assert seq in (await put(store, "u1", seq, b"b" * seq)).parts
    assert any(link.struck for link in proxy.links())


async def test_a_first_part_with_its_mark_survives_lost_answers(
    proxy: FaultProxy, store: ObjectStore, witness: ObjectStore
) -> None:
    for n in range(4):
        proxy.cut()
        proxy.arm(Fault(Kind.CUT, Way.DOWN, at=1))
        listing = await put(store, f"u{n}", 0, b"all", LastMark(0, "{}"))
        assert listing.complete
        assert await witness.parts.list(f"u{n}") == listing


@pytest.mark.parametrize("kind", [Kind.CUT, Kind.RESET, Kind.STALL])
async def test_a_read_that_breaks_off_goes_on_or_fails_in_time(
    proxy: FaultProxy, store: ObjectStore, kind: Kind
) -> None:
    data = os.urandom(6 * MIB)
    listing = await put(store, "u1", 0, data, LastMark(0, "{}"))
    proxy.cut()
    proxy.arm(Fault(kind, Way.DOWN, at=300_000))
    began = time.monotonic()
    got = b""
    try:
        async for piece in store.parts.read("u1", listing, 0, len(data)):
            got += piece
        assert got == data
    except errors.StorageUnavailable:
        assert data.startswith(got)  # in order, and nothing made up
    assert time.monotonic() - began < 2 * BOUND_S
    proxy.heal()
    assert await read(store, "u1", listing) == data


async def test_a_recording_that_cannot_be_fetched_leaves_no_file_and_no_descriptor(
    proxy: FaultProxy, store: ObjectStore, tmp_path: Path
) -> None:
    for n in range(3):
        listing = await put(store, "u1", n, os.urandom(MIB))
    before = len(os.listdir("/proc/self/fd"))
    proxy.refuse()
    with pytest.raises(errors.StorageUnavailable):
        await store.recordings.open("u1", listing)
    assert list((tmp_path / "scratch").iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) <= before
    proxy.heal()
    os.close(await store.recordings.open("u1", listing))


async def test_a_cancelled_put_does_not_hold_its_place(proxy: FaultProxy, store: ObjectStore, server: Server) -> None:
    """A client that leaves while the store hangs must not cost the others theirs."""
    await put(store, "u1", 0, b"a")
    server.pause()
    try:
        puts = [asyncio.create_task(put(store, "u1", n, bytes(MIB))) for n in range(1, 100)]
        for _ in range(500):
            if store._tally._coming > 50 * MIB:
                break
            await asyncio.sleep(0.01)
        for one in puts:
            one.cancel()
        await asyncio.gather(*puts, return_exceptions=True)
    finally:
        server.resume()
    assert store._bucket._places._value == 64
    assert store._bucket._budget._left == store._bucket._budget._most
    assert store._tally._coming == 0
    assert store._scratch.arriving == 0
    assert (await put(store, "u1", 1, bytes(MIB))).parts[0] == 1


async def test_erasing_goes_on_where_it_was_cut_off(
    proxy: FaultProxy, store: ObjectStore, witness: ObjectStore
) -> None:
    for n in range(3):
        await put(store, "u1", n, b"x")
    proxy.refuse()
    with pytest.raises(errors.StorageUnavailable):
        await store.parts.erase("u1")
    proxy.heal()
    await store.parts.erase("u1")
    assert await witness.parts.list("u1") == Listing({})
    assert await witness.survey.uploads() == {}


async def test_a_store_that_does_not_answer_ends_the_start_in_time(tmp_path: Path, server: Server) -> None:
    server.pause()
    began = time.monotonic()
    try:
        with pytest.raises(errors.StorageUnavailable):
            async with object_store(tmp_path, endpoint=server.endpoint, timeout_s=0.3):
                pass
    finally:
        server.resume()
    assert time.monotonic() - began < 20.0


async def test_a_store_that_comes_back_during_the_start_is_waited_for(tmp_path: Path, proxy: FaultProxy) -> None:
    proxy.refuse()
    opening = asyncio.create_task(
        object_store(tmp_path, endpoint=f"http://127.0.0.1:{proxy.port}", timeout_s=TIMEOUT_S).start()
    )
    await asyncio.sleep(0.3)
    proxy.heal()
    await opening
