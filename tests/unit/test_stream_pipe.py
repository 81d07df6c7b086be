"""What a streaming child owes, seen from the gateway: no child here, the test holds the other ends of the pipes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from cosygate import errors
from cosygate.adapters.decoder_sandbox.frames import Kind, write, write_json
from cosygate.adapters.decoder_sandbox.stream_source import MAX_SILENT_BYTES, PIPE_BYTES, StreamSource
from cosygate.adapters.decoder_sandbox.streaming import Feeding, StreamReader
from tests.support.streams import HeldFeed

IDLE_S = 0.3


@dataclass(frozen=True, slots=True)
class Child:
    feed: HeldFeed
    reader: StreamReader
    stdin: int
    stdout: int

    async def takes(self, count: int) -> None:
        def read() -> None:
            taken = 0
            while taken < count and (data := os.read(self.stdin, PIPE_BYTES)):
                taken += len(data)

        await asyncio.to_thread(read)


@asynccontextmanager
async def child() -> AsyncIterator[Child]:
    feed = HeldFeed()
    ended: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
    ended.set_result(0)
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    async with Feeding(feed) as feeding:
        stdin = os.dup(feeding.source)
        feeding.begin()
        reader = StreamReader(ours, ended, IDLE_S, feeding)
        try:
            yield Child(feed, reader, stdin, theirs)
        finally:
            reader.close()
            os.close(theirs)
            os.close(stdin)


async def test_a_child_that_has_read_everything_may_be_silent() -> None:
    async with child() as c:
        waits = asyncio.create_task(c.reader.next())
        for _ in range(3):
            c.feed.say(b"ten bytes.")
            await c.takes(10)
            await asyncio.sleep(2.5 * IDLE_S)
        assert not waits.done()
        write(c.stdout, Kind.PCM, b"\x01\x02")
        assert await waits == (Kind.PCM, b"\x01\x02")


async def test_bytes_that_come_just_before_the_child_is_judged_do_not_count_yet() -> None:
    async with child() as c:
        waits = asyncio.create_task(c.reader.next())
        await asyncio.sleep(0.7 * IDLE_S)
        c.feed.say(b"ten bytes.")
        await asyncio.sleep(0.6 * IDLE_S)
        assert not waits.done()
        write(c.stdout, Kind.PCM, b"\x01\x02")
        assert await waits == (Kind.PCM, b"\x01\x02")


async def test_a_child_that_reads_slowly_is_not_stuck() -> None:
    async with child() as c:
        waits = asyncio.create_task(c.reader.next())
        c.feed.say(bytes(100))
        for _ in range(8):
            await asyncio.sleep(0.4 * IDLE_S)
            os.read(c.stdin, 1)
        assert not waits.done()
        waits.cancel()


async def test_a_child_that_leaves_bytes_unread_is_stuck() -> None:
    async with child() as c:
        c.feed.say(bytes(100))
        await asyncio.to_thread(os.read, c.stdin, 1)
        with pytest.raises(errors.DecoderTimeout):
            await c.reader.next()


async def test_a_child_that_says_nothing_after_the_end_is_stuck() -> None:
    async with child() as c:
        c.feed.say(bytes(100))
        c.feed.end()
        await c.takes(100)
        with pytest.raises(errors.DecoderTimeout):
            await c.reader.next()


async def test_a_child_that_reads_no_more_is_heard_to_its_end() -> None:
    """Its own pipe tells how it ended, not that it cannot be written to."""
    async with child() as c:
        waits = asyncio.create_task(c.reader.next())
        os.close(c.stdin)
        c.feed.say(b"nobody reads this")
        await asyncio.sleep(0.5 * IDLE_S)
        assert not waits.done()
        write(c.stdout, Kind.PCM, b"\x01\x02")
        assert await waits == (Kind.PCM, b"\x01\x02")
        with pytest.raises(errors.DecoderTimeout):
            await c.reader.next()
        os.dup2(c.stdout, c.stdin)  # for the fixture to close


@pytest.mark.parametrize("attended", [True, False])
async def test_a_child_that_swallows_everything_is_dead(attended: bool) -> None:
    """What it swallows while nobody waits for its next frame counts, too."""
    async with child() as c:
        write_json(c.stdout, Kind.INFO, {})
        assert (await c.reader.next())[0] is Kind.INFO
        if attended:
            waits = asyncio.create_task(c.reader.next())
        c.feed.say(bytes(MAX_SILENT_BYTES))
        await c.takes(MAX_SILENT_BYTES)
        if not attended:
            waits = asyncio.create_task(c.reader.next())
        await asyncio.sleep(2.5 * IDLE_S)
        assert not waits.done()
        c.feed.say(bytes(3 * PIPE_BYTES))
        await c.takes(3 * PIPE_BYTES)
        with pytest.raises(errors.DecoderDied):
            await asyncio.wait_for(waits, 20)


async def test_a_reader_that_is_closed_while_it_waits_touches_nobody_elses_descriptor() -> None:
    async with child() as c:
        waits = asyncio.create_task(c.reader.next())
        await asyncio.sleep(0)
        number = c.reader._fd
        c.reader.close()
        other, theirs = os.pipe()
        assert number == other, "the system gives the least number that is free"
        loop, heard = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(other, heard.set)
        waits.cancel()
        await asyncio.wait([waits])
        assert waits.cancelled()
        os.write(theirs, b"x")
        await asyncio.wait_for(heard.wait(), 5)
        loop.remove_reader(other)
        os.close(theirs)
        c.reader._fd = other  # for the fixture to close


async def test_a_source_gives_what_is_asked_for_however_it_came() -> None:
    ours, theirs = os.pipe()
    source = StreamSource(ours)
    os.write(theirs, b"abc")
    assert source.read(2) == b"ab"
    asking = asyncio.create_task(asyncio.to_thread(source.read, 4))
    for byte in b"def":
        os.write(theirs, bytes([byte]))
    assert await asking == b"cdef"
    os.write(theirs, b"g")
    os.close(theirs)
    assert source.read(4) == b"g"
    assert source.read(4) == b""
    os.close(ours)


async def test_a_source_counts_to_the_last_byte_what_was_in_vain() -> None:
    ours, theirs = os.pipe()
    source = StreamSource(ours)
    writing = asyncio.create_task(asyncio.to_thread(os.write, theirs, bytes(2 * MAX_SILENT_BYTES)))

    def read_all() -> None:
        for _ in range(MAX_SILENT_BYTES // 1024):
            source.read(1024)

    await asyncio.to_thread(read_all)
    source.heard()
    await asyncio.to_thread(read_all)
    await writing
    with pytest.raises(errors.MediaUndecodable):
        source.read(1)
    os.close(ours)
    os.close(theirs)
