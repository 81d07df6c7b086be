"""Hostile recordings: every Media line of the bad inputs, in bounded time and memory, each with a stable code."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from cosygate import errors
from cosygate.adapters.decoder_pcm import PcmDecoder
from cosygate.adapters.decoder_sandbox.decoder import SandboxDecoder
from cosygate.model.audio import AudioLimits, Container, sniff
from tests.support import media
from tests.support.decoding import decode, newest_server, only_child, opened

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[SandboxDecoder]:
    async with SandboxDecoder(children=8) as decoder:
        yield decoder


SECRET = media.tone_wav(1.0)
PLAYLISTS = {
    "HLS": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile {}\n",
    "DASH": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    '<Representation id="1" bandwidth="1"><BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>',
}


@pytest.mark.parametrize("name", PLAYLISTS)
@pytest.mark.parametrize("container", [Container.WAV, Container.MP3, Container.MATROSKA, Container.MP4])
async def test_a_playlist_reads_no_other_file(
    sandbox: SandboxDecoder, tmp_path: Path, name: str, container: Container
) -> None:
    (tmp_path / "secret.wav").write_bytes(SECRET)
    playlist = PLAYLISTS[name].format(tmp_path / "secret.wav").encode()
    with pytest.raises(errors.UnsupportedMedia):
        sniff(playlist)
    with pytest.raises(errors.MediaUndecodable):
        await decode(PcmDecoder(otherwise=sandbox), playlist, container=container)


async def test_external_references_are_not_followed(sandbox: SandboxDecoder, tmp_path: Path) -> None:
    (tmp_path / "secret.pcm").write_bytes(media.s16(media.tone(1.0)))
    with pytest.raises(errors.MediaUndecodable):
        await decode(sandbox, media.with_external_data(str(tmp_path / "secret.pcm")))


NOT_MEDIA = {
    "text": b"It was the best of times, it was the worst of times. " * 100,
    "zip": b"PK\x03\x04\x14\x00\x00\x00\x08\x00" + random.Random(1).randbytes(5_000),
    "random": random.Random(2).randbytes(100_000),
    "zeros": bytes(100_000),
    "one byte": b"\x00",
}


@pytest.mark.parametrize("name", NOT_MEDIA)
async def test_what_is_no_media_is_refused(sandbox: SandboxDecoder, name: str) -> None:
    with pytest.raises(errors.UnsupportedMedia):
        sniff(NOT_MEDIA[name])
    for container in set(Container) - {Container.RAW}:
        with pytest.raises(errors.MediaUndecodable):
            await decode(sandbox, NOT_MEDIA[name], container=container)


async def test_a_good_start_with_a_rotten_rest_ends_in_time(sandbox: SandboxDecoder) -> None:
    """Bits flipped in every format: whatever comes out, it is samples or a stable error, and soon."""
    dice = random.Random(3)
    for name, (_, _, rate) in media.ENCODED.items():
        good = media.encode(name, media.tone(1.0, rate))
        for _ in range(4):
            rotten = bytearray(good)
            for _ in range(40):
                rotten[dice.randrange(16, len(rotten))] = dice.randrange(256)
            try:
                async with asyncio.timeout(20):
                    _, pcm = await decode(sandbox, bytes(rotten))
            except errors.RecordingFailed:
                continue
            assert len(pcm) % 2 == 0


async def test_broken_packets_are_skipped_and_the_rest_is_kept(sandbox: SandboxDecoder) -> None:
    good = media.encode("mp3", media.tone(10.0, 44_100))
    rotten = good[:40_000] + random.Random(4).randbytes(10_000) + good[50_000:]
    _, pcm = await decode(sandbox, rotten)
    assert 8 * 32_000 < len(pcm) < 11 * 32_000


@pytest.mark.parametrize("name", ["ogg-opus", "webm", "mp3", "flac", "aac"])
async def test_a_truncated_recording_gives_what_is_there(sandbox: SandboxDecoder, name: str) -> None:
    good = media.encode(name, media.tone(10.0, media.ENCODED[name][2]))
    _, pcm = await decode(sandbox, good[: len(good) // 2])
    assert 3 * 32_000 < len(pcm) < 7 * 32_000


async def test_video_without_sound_has_no_audio(sandbox: SandboxDecoder) -> None:
    with pytest.raises(errors.MediaNoAudio):
        await decode(sandbox, media.video_only())


async def test_a_thousand_streams_are_beyond_the_limit(sandbox: SandboxDecoder) -> None:
    _, pcm = await decode(sandbox, media.many_streams(64))
    assert pcm
    for count in (65, 1_000, 5_000):
        began = time.monotonic()
        with pytest.raises(errors.MediaLimits):
            await decode(sandbox, media.many_streams(count))
        assert time.monotonic() - began < 5


async def test_a_flac_bomb_ends_at_the_allowed_seconds(sandbox: SandboxDecoder) -> None:
    bomb = media.flac_bomb(minutes=60)
    assert len(bomb) < 600_000  # and 345 MB of samples
    received, before = 0, psutil.Process().memory_info().rss
    with pytest.raises(errors.MediaTooLong):
        async with opened(sandbox, bomb, limits=AudioLimits(seconds=1_200.0)) as decoding:
            async for piece in decoding.pcm():
                received += len(piece)
                if received == len(piece):
                    child = only_child(newest_server())
                    at_start = child.memory_info().rss
                peak = child.memory_info().rss if received % (1 << 24) < len(piece) else at_start
                assert peak - at_start < 32 << 20
    assert received == 1_200 * 32_000
    assert psutil.Process().memory_info().rss - before < 32 << 20
