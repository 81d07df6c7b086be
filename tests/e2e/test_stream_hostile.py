"""Hostile streams, and children that die or hang over one: bounded memory, bounded time, a stable code each."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import numpy as np
import psutil
import pytest
import pytest_asyncio

from cosygate import errors
from cosygate.adapters.decoder_sandbox.decoder import SandboxDecoder
from cosygate.adapters.decoder_sandbox.stream_source import MAX_SILENT_BYTES
from cosygate.model.audio import AudioLimits, Container
from cosygate.ports.decoder import DecodeRequest
from tests.support import media
from tests.support.decoding import newest_server, only_child
from tests.support.streams import CONTAINERS, HeldFeed, decode_stream, live

pytestmark = pytest.mark.asyncio(loop_scope="module")
WEBM = DecodeRequest(Container.MATROSKA)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[SandboxDecoder]:
    async with SandboxDecoder() as decoder:
        yield decoder


# --- what is no audio --------------------------------------------------------------------------------------------


def element(number: str, body: bytes = b"", claimed: int | None = None) -> bytes:
    """An EBML element (RFC 8794 §4): id, the size in eight bytes, what is in it."""
    return bytes.fromhex(number) + ((len(body) if claimed is None else claimed) | 1 << 56).to_bytes(8, "big") + body


UNKNOWN = (1 << 56) - 1  # a size that is not known yet
EBML = element("1a45dfa3", element("4282", b"webm"))
SEGMENT = EBML + element("18538067", claimed=UNKNOWN)
TRACK = element("d7", b"\x01") + element("83", b"\x02") + element("86", b"A_OPUS")
ENDLESS = {
    "nothing but zeros": b"",
    "a header that never ends": element("1a45dfa3", claimed=1 << 40),
    "a header of empty elements": element("1a45dfa3", claimed=UNKNOWN) + element("ec") * 30_000,
    "a void of an exabyte": SEGMENT + element("ec", claimed=1 << 55),
    "tags of 200 MB": SEGMENT + element("1254c367", element("7373", element("67c8", b"", 200 << 20))),
    "a codec's data of 200 MB": SEGMENT + element("1654ae6b", element("ae", TRACK + element("63a2", b"", 200 << 20))),
    "a packet of 200 MB": SEGMENT
    + element("1654ae6b", element("ae", TRACK))
    + element("1f43b675", element("e7", b"\x00") + element("a3", b"\x81\x00\x00\x80", 200 << 20), UNKNOWN),
    "a tree without end": SEGMENT + element("1f43b675", claimed=UNKNOWN) * 30_000,
    "clusters without a track": SEGMENT + element("1f43b675", element("a3", bytes(1_000))) * 400,
    "pages without a codec": b"".join(b"OggS\x00\x02" + bytes(20) + b"\x01\xff" + bytes(255) for _ in range(1_200)),
}


@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.parametrize("container", CONTAINERS.values())
async def test_a_stream_that_never_says_anything_ends(sandbox: SandboxDecoder, name: str, container: Container) -> None:
    """By itself, after a bounded number of bytes: its feed has no end."""
    fed = 0

    async def feed() -> AsyncIterator[bytes]:
        nonlocal fed
        yield ENDLESS[name]
        while True:
            fed += 4_096
            yield bytes(4_096)

    async with asyncio.timeout(10):
        with pytest.raises((errors.MediaUndecodable, errors.MediaNoAudio)):
            async with aclosing(feed()) as endless, sandbox.stream(endless, DecodeRequest(container)):
                pass
    assert fed < 2 * MAX_SILENT_BYTES


async def test_one_that_stops_saying_anything_ends_as_well(sandbox: SandboxDecoder) -> None:
    good = b"".join(live("webm", 2.0))

    async def feed() -> AsyncIterator[bytes]:
        yield good
        yield element("ec", claimed=1 << 40)
        while True:
            yield bytes(4_096)

    heard = 0
    async with asyncio.timeout(10), aclosing(feed()) as endless, sandbox.stream(endless, WEBM) as decoding:
        with pytest.raises(errors.MediaUndecodable):
            async for piece in decoding.pcm():
                heard += len(piece)
    assert heard > 1.9 * 32_000


NOT_MEDIA = {
    "HLS": b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
    "ffconcat": b"ffconcat version 1.0\nfile /etc/hostname\n",
    "random": random.Random(2).randbytes(100_000),
    "mp4": media.encode("m4a", media.tone(1.0, 44_100)),
    "mp3": media.encode("mp3", media.tone(1.0, 44_100)),
    "wav": media.tone_wav(),
    "one byte": b"\x1a",
    "half a header": EBML[:7],
    "a header alone": SEGMENT,
}


@pytest.mark.parametrize("name", NOT_MEDIA)
@pytest.mark.parametrize("container", CONTAINERS.values())
async def test_what_is_no_such_media_is_refused(sandbox: SandboxDecoder, name: str, container: Container) -> None:
    with pytest.raises((errors.MediaUndecodable, errors.MediaNoAudio)):
        await decode_stream(sandbox, [NOT_MEDIA[name]], container)


async def test_rotten_bytes_give_samples_or_a_stable_error_and_soon(sandbox: SandboxDecoder) -> None:
    dice = random.Random(3)
    for name, container in CONTAINERS.items():
        good = b"".join(live(name, 1.0))
        for _ in range(15):
            rotten = bytearray(good[: dice.randrange(200, len(good))])
            for _ in range(dice.randrange(1, 60)):
                rotten[dice.randrange(len(rotten))] = dice.randrange(256)
            cut = dice.randrange(1, 2_000)
            pieces = [bytes(rotten[at : at + cut]) for at in range(0, len(rotten), cut)]
            try:
                async with asyncio.timeout(10):
                    _, pcm = await decode_stream(sandbox, pieces, container)
            except errors.RecordingFailed as error:
                assert not isinstance(error, errors.DecoderDied | errors.DecoderTimeout)
                continue
            assert len(pcm) % 2 == 0


async def test_a_bomb_ends_at_the_allowed_seconds(sandbox: SandboxDecoder) -> None:
    bomb = media.encode_as("matroska", "flac", 48_000, np.zeros(48_000 * 200))
    assert len(bomb) < 100_000  # and 6 MB of samples
    heard, before = 0, psutil.Process().memory_info().rss
    request = DecodeRequest(Container.MATROSKA, limits=AudioLimits(seconds=150.0))
    with pytest.raises(errors.MediaTooLong):
        async with sandbox.stream(HeldFeed(bomb), request) as it:
            child = only_child(newest_server())
            at_start = child.memory_info().rss
            async for piece in it.pcm():
                heard += len(piece)
                if heard < 140 * 32_000 and heard % (1 << 20) < len(piece):
                    assert child.memory_info().rss - at_start < 16 << 20
    assert heard == 150 * 32_000
    assert psutil.Process().memory_info().rss - before < 32 << 20


# --- dying and hanging -------------------------------------------------------------------------------------------


async def test_a_killed_child_is_a_dead_decoder(sandbox: SandboxDecoder) -> None:
    """Whether it is being fed or not."""
    feed = HeldFeed(*live("webm", 2.0))
    async with asyncio.timeout(5), sandbox.stream(feed, WEBM) as decoding:
        pcm = decoding.pcm()
        assert await anext(pcm)
        only_child(newest_server()).send_signal(signal.SIGKILL)
        with pytest.raises(errors.DecoderDied):
            async for _ in pcm:
                pass
    _, heard = await decode_stream(sandbox, live("webm", 1.0))
    assert len(heard) == 32_000


async def test_a_child_that_is_killed_while_more_waits_than_its_pipe_holds(sandbox: SandboxDecoder) -> None:
    feed = HeldFeed(b"".join(live("webm", 60.0)))
    async with asyncio.timeout(5), sandbox.stream(feed, WEBM) as decoding:
        only_child(newest_server()).send_signal(signal.SIGKILL)
        with pytest.raises(errors.DecoderDied):
            async for _ in decoding.pcm():
                pass


async def test_a_stopped_child_is_a_timeout_as_soon_as_it_is_fed() -> None:
    pieces = live("webm", 2.0)
    async with SandboxDecoder(idle_s=0.5) as decoder:
        feed = HeldFeed(*pieces[:10])
        async with asyncio.timeout(10), decoder.stream(feed, WEBM) as decoding:
            pcm, loop = decoding.pcm(), asyncio.get_running_loop()
            assert await anext(pcm)
            waiting = asyncio.ensure_future(last_of(pcm))
            await asyncio.sleep(1.3)
            assert not waiting.done()  # it has nothing to say
            only_child(newest_server()).suspend()
            await asyncio.sleep(1.3)
            assert not waiting.done()
            began = loop.time()
            feed.say(pieces[10])
            with pytest.raises(errors.DecoderTimeout):
                await waiting
            assert 0.5 <= loop.time() - began < 3.0
        assert not newest_server().children()


async def test_a_child_that_does_not_end_with_its_feed_is_a_timeout() -> None:
    async with SandboxDecoder(idle_s=0.5) as decoder:
        feed = HeldFeed(*live("webm", 2.0)[:10])
        async with asyncio.timeout(10), decoder.stream(feed, WEBM) as decoding:
            pcm = decoding.pcm()
            assert await anext(pcm)
            only_child(newest_server()).suspend()
            feed.end()
            with pytest.raises(errors.DecoderTimeout):
                await last_of(pcm)


async def last_of(pcm: AsyncIterator[bytes]) -> bytes:
    return [piece async for piece in pcm][-1]


async def test_leaving_kills_a_child_that_does_not_read(sandbox: SandboxDecoder) -> None:
    async with sandbox.stream(HeldFeed(b"".join(live("webm", 60.0))), WEBM):
        child = only_child(newest_server())
        child.suspend()
    assert not child.is_running()


async def test_a_dead_server_ends_its_streams_and_is_replaced() -> None:
    async with SandboxDecoder(streams=1) as decoder:
        feed = HeldFeed(*live("webm", 2.0))
        async with asyncio.timeout(10), decoder.stream(feed, WEBM) as decoding:
            newest_server().kill()
            with pytest.raises(errors.DecoderDied):
                async for _ in decoding.pcm():
                    pass
        assert len((await decode_stream(decoder, live("webm", 1.0)))[1]) == 32_000


async def test_cpu_time_is_bounded_by_a_share_of_what_is_allowed() -> None:
    """What happens at the limit is test_decoder_sandbox.py's."""
    request = DecodeRequest(Container.MATROSKA, limits=AudioLimits(seconds=12 * 3600.0))
    async with (
        SandboxDecoder(cpu_s=100) as decoder,
        decoder.stream(HeldFeed(*live("webm", 2.0)), request),
    ):
        limits = Path(f"/proc/{only_child(newest_server()).pid}/limits").read_text()
    (line,) = (line for line in limits.splitlines() if line.startswith("Max cpu time"))
    assert line.split()[3:5] == ["964", "965"]


async def test_a_streaming_child_holds_two_pipes_and_nothing_else(sandbox: SandboxDecoder) -> None:
    async with sandbox.stream(HeldFeed(*live("webm", 2.0)), WEBM):
        folder = f"/proc/{only_child(newest_server()).pid}/fd"
        held = {int(fd): os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)}
    assert set(held) == {0, 1, 2}
    assert held[0].startswith("pipe:")
    assert held[1].startswith("pipe:")
    assert held[0] != held[1]
    assert held[2] == "/dev/null"
