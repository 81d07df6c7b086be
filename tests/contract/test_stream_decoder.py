"""The StreamDecoder port, over the sandbox: what a browser's recorder has said so far is heard at once, in the same
samples however it was cut, and a pause is nobody's fault."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cosygate import errors
from cosygate.adapters.decoder_sandbox.decoder import SandboxDecoder
from cosygate.kit.pcm import PIECE_BYTES
from cosygate.model.audio import AudioLimits, Container
from cosygate.ports.decoder import DecodeRequest
from tests.support import media
from tests.support.browser_recording import record
from tests.support.decoding import decode, loudest_hz
from tests.support.streams import CONTAINERS, HeldFeed, decode_stream, feed_of, live, seconds_in

pytestmark = pytest.mark.asyncio(loop_scope="module")

LATE_S = 0.1  # of audio that may still be inside when all that was fed has been decoded


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[SandboxDecoder]:
    async with SandboxDecoder() as decoder:
        yield decoder


@pytest.mark.parametrize("name", CONTAINERS)
async def test_a_stream_gives_what_the_file_gives(sandbox: SandboxDecoder, name: str) -> None:
    pieces = live(name, 3.0)
    info, pcm = await decode_stream(sandbox, pieces, CONTAINERS[name])
    assert (info.container, info.codec, info.rate, info.channels) == (CONTAINERS[name], "opus", 48_000, 1)
    assert len(pcm) == 3 * 32_000
    assert loudest_hz(pcm) == pytest.approx(440, abs=2)
    assert pcm == (await decode(sandbox, b"".join(pieces)))[1]


async def heard_in_time(decoder: SandboxDecoder, pieces: tuple[bytes, ...], container: Container) -> list[float]:
    """Feeds a piece, waits for what is in it, and so on → the wall seconds that each took."""
    feed, heard, took = HeldFeed(), 0.0, []
    inside = [seconds_in(b"".join(pieces[: n + 1])) for n in range(len(pieces))]
    first = next(n for n, seconds in enumerate(inside) if seconds)
    for piece in pieces[: first + 1]:
        feed.say(piece)
    async with asyncio.timeout(30), decoder.stream(feed, DecodeRequest(container)) as decoding:
        pcm = decoding.pcm()
        for n in range(first, len(pieces)):
            began = time.monotonic()
            if n > first:
                feed.say(pieces[n])
            while heard < inside[n] - LATE_S:
                heard += len(await anext(pcm)) / 32_000  # the timeout above, when what was fed does not come out
            took.append(time.monotonic() - began)
        feed.end()
        heard += sum([len(piece) / 32_000 async for piece in pcm])
    assert heard == pytest.approx(inside[-1], abs=0.001)
    return took


@pytest.mark.parametrize("name", CONTAINERS)
async def test_a_piece_is_heard_before_the_next_is_fed(sandbox: SandboxDecoder, name: str) -> None:
    took = sorted(await heard_in_time(sandbox, live(name, 5.0), CONTAINERS[name]))
    assert took[len(took) // 2] < 0.1


@pytest.mark.needs("chromium")
@pytest.mark.parametrize("video", [False, True])
async def test_a_browsers_recording_is_heard_before_its_next_piece(
    sandbox: SandboxDecoder, tmp_path: Path, video: bool
) -> None:
    """With a picture as well, if somebody sends that: it is passed over."""
    pieces = await asyncio.to_thread(record, seconds=3.0, piece_ms=100, video=video)
    (tmp_path / "recording.webm").write_bytes(b"".join(pieces))  # for whoever finds this test failing
    assert len(pieces) > 10
    took = sorted(await heard_in_time(sandbox, pieces, Container.MATROSKA))
    assert took[len(took) // 2] < 0.1
    _, pcm = await decode_stream(sandbox, [b"".join(pieces)])
    assert any(pcm)


WHOLE = {name: b"".join(live(name, 1.0)) for name in CONTAINERS}
SAMPLES: dict[bytes, bytes] = {}


def damaged(data: bytes, seed: int) -> bytes:
    """Bytes are missing, or others are among them, so that a demuxer has to find its place again. The start stays
    whole: something can be decoded."""
    dice, rotten = random.Random(seed), bytearray(data)
    for _ in range(dice.randrange(1, 4)):
        at = dice.randrange(1_500, len(rotten) - 200)
        rotten[at : at + dice.randrange(150)] = dice.randbytes(dice.randrange(150))
    return bytes(rotten)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(CONTAINERS)),
    seed=st.none() | st.integers(0, 30),
    cuts=st.lists(st.integers(1, 9_000), max_size=20),
)
async def test_how_the_bytes_are_cut_changes_nothing(
    sandbox: SandboxDecoder, name: str, seed: int | None, cuts: list[int]
) -> None:
    """Damaged or not: a replay cuts them in other places than the browser did."""
    data = WHOLE[name] if seed is None else damaged(WHOLE[name], seed)
    edges = [0, *sorted({cut for cut in cuts if cut < len(data)}), len(data)]
    if data not in SAMPLES:
        SAMPLES[data] = (await decode_stream(sandbox, [data], CONTAINERS[name]))[1]

    async def feed() -> AsyncIterator[bytes]:
        for start, end in itertools.pairwise(edges):
            yield data[start:end]
            await asyncio.sleep(0.002)  # else the pipe joins what was cut

    async with sandbox.stream(feed(), DecodeRequest(CONTAINERS[name])) as decoding:
        pcm = b"".join([piece async for piece in decoding.pcm()])
    assert pcm == SAMPLES[data]
    assert pcm


async def test_even_single_bytes_do(sandbox: SandboxDecoder) -> None:
    _, whole = await decode_stream(sandbox, [WHOLE["webm"]])
    _, pcm = await decode_stream(sandbox, [bytes([byte]) for byte in WHOLE["webm"]])
    assert pcm == whole


async def test_broken_packets_are_skipped_and_the_rest_is_kept(sandbox: SandboxDecoder) -> None:
    pieces = list(live("webm", 5.0))
    pieces[20] = pieces[20][:200] + random.Random(4).randbytes(300) + pieces[20][500:]
    _, pcm = await decode_stream(sandbox, pieces)
    assert 4.7 * 32_000 < len(pcm) <= 5 * 32_000


async def test_a_truncated_stream_gives_what_is_there(sandbox: SandboxDecoder) -> None:
    data = b"".join(live("webm", 5.0))
    _, pcm = await decode_stream(sandbox, [data[: len(data) // 2]])
    assert 2 * 32_000 < len(pcm) < 3 * 32_000


async def test_a_pause_is_no_timeout() -> None:
    """Before the first audio, in the middle, and in the middle of a packet: several times longer than a decoder may be
    silent."""
    header, *pieces = live("webm", 2.0)
    feed = HeldFeed(header)

    async def later() -> None:
        for piece in pieces:
            await asyncio.sleep(1.0 if piece is pieces[3] or piece is pieces[0] else 0)
            feed.say(piece[:100])
            await asyncio.sleep(1.0 if piece is pieces[8] else 0)
            feed.say(piece[100:])
        feed.end()

    async with SandboxDecoder(idle_s=0.4) as decoder, asyncio.TaskGroup() as group:
        group.create_task(later())
        async with decoder.stream(feed, DecodeRequest(Container.MATROSKA)) as decoding:
            pcm = b"".join([piece async for piece in decoding.pcm()])
    assert len(pcm) == 2 * 32_000


async def test_a_slow_consumer_is_no_timeout_and_slows_the_feed() -> None:
    """What is ahead of the consumer is bounded by two pipes, whatever there is to feed."""
    pieces, fed, ahead = live("webm", 60.0), 0, []
    inside = len(b"".join(pieces)) / 60  # bytes a second of audio

    async def feed() -> AsyncIterator[bytes]:
        nonlocal fed
        for piece in pieces:
            fed += len(piece)
            yield piece

    async with (
        SandboxDecoder(idle_s=0.4) as decoder,
        decoder.stream(feed(), DecodeRequest(Container.MATROSKA)) as decoding,
    ):
        heard = 0
        async for piece in decoding.pcm():
            assert len(piece) <= PIECE_BYTES
            assert len(piece) % 2 == 0
            if heard // 640_000 != (heard + len(piece)) // 640_000:
                await asyncio.sleep(1.0)
            heard += len(piece)
            ahead.append(fed / inside - heard / 32_000)
    assert heard == 60 * 32_000
    assert max(ahead) < 10.0  # 64 KiB of PCM in a pipe and in the reader, 16 KiB of WebM in a pipe and in the child


async def test_what_the_feed_raises_passes_through(sandbox: SandboxDecoder) -> None:
    pieces = live("webm", 2.0)
    feed = HeldFeed(*pieces[:10])
    async with sandbox.stream(feed, DecodeRequest(Container.MATROSKA)) as decoding:
        pcm = decoding.pcm()
        assert await anext(pcm)
        feed.fail(errors.TakenOver())
        with pytest.raises(errors.TakenOver):
            async for _ in pcm:
                pass
    feed = HeldFeed(pieces[0])
    feed.fail(errors.TakenOver())
    with pytest.raises(errors.TakenOver):
        async with sandbox.stream(feed, DecodeRequest(Container.MATROSKA)):
            pass


async def test_leaving_ends_the_work_and_takes_nothing_more(sandbox: SandboxDecoder) -> None:
    feed, before = HeldFeed(*live("webm", 2.0)), len(os.listdir("/proc/self/fd"))
    async with asyncio.timeout(5):
        async with sandbox.stream(feed, DecodeRequest(Container.MATROSKA)) as decoding:
            assert len(os.listdir("/proc/self/fd")) == before + 2
            async for piece in decoding.pcm():
                assert piece
                break
            async for _ in decoding.pcm():
                if not feed.left:
                    break
        assert len(os.listdir("/proc/self/fd")) == before
        feed.say(b"nobody hears this")
        _, pcm = await decode_stream(sandbox, live("webm", 2.0))
    assert feed.left == 1
    assert len(pcm) == 2 * 32_000


async def test_places_are_counted_and_given_back() -> None:
    pieces = live("webm", 2.0)
    request = DecodeRequest(Container.MATROSKA)
    async with SandboxDecoder(children=1, streams=2) as decoder:
        async with decoder.stream(HeldFeed(*pieces), request), decoder.stream(HeldFeed(*pieces), request):
            with pytest.raises(errors.SessionsFull):
                async with decoder.stream(HeldFeed(*pieces), request):
                    pass
            assert (await decode(decoder, media.tone_wav(1.0)))[1]  # recordings have places of their own
        for _ in range(3):
            with pytest.raises(errors.MediaUndecodable):
                await decode_stream(decoder, [b"no media"])
        waits = asyncio.create_task(decode_stream_forever(decoder))
        await asyncio.sleep(0)
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        assert len(await asyncio.gather(*(decode_stream(decoder, pieces) for _ in range(2)))) == 2


async def decode_stream_forever(decoder: SandboxDecoder) -> None:
    async with decoder.stream(HeldFeed(), DecodeRequest(Container.MATROSKA)):
        pass


@pytest.mark.parametrize("container", sorted(set(Container) - set(CONTAINERS.values())))
async def test_only_what_can_be_read_from_start_to_end(sandbox: SandboxDecoder, container: Container) -> None:
    with pytest.raises(errors.MediaUndecodable):
        await decode_stream(sandbox, [media.tone_wav()], container)


async def test_limits_are_those_of_a_recording(sandbox: SandboxDecoder) -> None:
    pieces = live("webm", 2.0)
    with pytest.raises(errors.MediaTooLong):
        await decode_stream(sandbox, pieces, limits=AudioLimits(seconds=1.0))
    for limits in (AudioLimits(max_rate=44_100), AudioLimits(channels=0)):
        with pytest.raises(errors.MediaLimits):
            await decode_stream(sandbox, pieces, limits=limits)
    with pytest.raises(errors.MediaLimits):
        await decode_stream(sandbox, pieces, channel=1)


async def test_streams_run_side_by_side(sandbox: SandboxDecoder) -> None:
    lengths = [0.5 * n for n in range(1, 9)]
    results = await asyncio.gather(*(decode_stream(sandbox, live("webm", seconds)) for seconds in lengths))
    assert [len(pcm) / 32_000 for _, pcm in results] == lengths


async def test_an_empty_feed_has_nothing_to_decode(sandbox: SandboxDecoder) -> None:
    with pytest.raises(errors.MediaUndecodable):
        async with sandbox.stream(feed_of([]), DecodeRequest(Container.OGG)):
            pass
