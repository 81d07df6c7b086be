"""The Decoder port, over both ways from bytes to PCM. What a WAV gives does not depend on which way it goes."""

from __future__ import annotations

import asyncio
import os
import struct
import tempfile
from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio

from cosygate import errors
from cosygate.adapters.decoder_pcm import PcmDecoder
from cosygate.adapters.decoder_sandbox.decoder import SandboxDecoder
from cosygate.kit.pcm import PIECE_BYTES
from cosygate.model.audio import AudioLimits, Container, RawFormat
from cosygate.ports.decoder import Decoder, DecodeRequest
from tests.support import media
from tests.support.decoding import decode, loudest_hz, samples

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[SandboxDecoder]:
    async with SandboxDecoder() as decoder:
        yield decoder


@pytest.fixture(params=["pcm", "sandbox"])
def decoder(request: pytest.FixtureRequest, sandbox: SandboxDecoder) -> Decoder:
    return PcmDecoder(otherwise=sandbox) if request.param == "pcm" else sandbox


TONE = media.tone(0.5, 16_000)
BYTES = np.rint(TONE * 127).astype(np.int64)
INT24 = np.rint(TONE * (2**31 - 256)).astype("<i4") & ~0xFF
PLAIN = {
    "u8": media.wav((BYTES + 128).astype(np.uint8).tobytes(), bits=8),
    "s16": media.wav(media.s16(TONE)),
    "s24": media.wav(INT24.view(np.uint8).reshape(-1, 4)[:, 1:].tobytes(), bits=24),
    "s32": media.wav(np.rint(TONE * (2**31 - 1)).astype("<i4").tobytes(), bits=32),
    "f32": media.wav(TONE.astype("<f4").tobytes(), bits=32, tag=3),
    "f64": media.wav(TONE.astype("<f8").tobytes(), bits=64, tag=3),
    "alaw": media.wav(media.encode_as("alaw", "pcm_alaw", 16_000, TONE), bits=8, tag=6),
    "mulaw": media.wav(media.encode_as("mulaw", "pcm_mulaw", 16_000, TONE), bits=8, tag=7),
    "extensible": media.extensible_wav(media.s16(TONE), rate=16_000, channels=1, bits=16, valid=16, tag=1),
    "rf64": media.rf64_wav(media.s16(TONE)),
    "unknown length": media.wav(media.s16(TONE), claimed=0xFFFFFFFF),
    "unwritten length": media.wav(media.s16(TONE), claimed=0),
    "length beyond the file": media.wav(media.s16(TONE), claimed=1 << 30),
}


@pytest.mark.parametrize("name", PLAIN)
async def test_plain_wav_gives_its_samples(decoder: Decoder, name: str) -> None:
    info, pcm = await decode(decoder, PLAIN[name])
    coarse = name in ("u8", "alaw", "mulaw")
    assert (info.rate, info.channels, info.container) == (16_000, 1, Container.WAV)
    assert len(pcm) == 2 * len(TONE)
    assert np.abs(samples(pcm) - TONE).max() < (0.02 if coarse else 1.1 / 32768)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 192_000])
async def test_every_rate_becomes_16_khz(decoder: Decoder, rate: int) -> None:
    _, pcm = await decode(decoder, media.tone_wav(1.0, rate, channels=2))
    assert abs(len(pcm) // 2 - 16_000) <= 1
    assert loudest_hz(pcm) == pytest.approx(440, abs=2)
    middle = samples(pcm)[4_000:12_000]
    assert np.sqrt((middle**2).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=0.01)


async def test_both_ways_give_the_same_samples(sandbox: SandboxDecoder) -> None:
    noise = np.random.default_rng(7).uniform(-0.9, 0.9, (30_000, 2))
    recording = media.wav(media.s16(noise), rate=44_100, channels=2)
    _, fast = await decode(PcmDecoder(otherwise=sandbox), recording)
    _, confined = await decode(sandbox, recording)
    assert fast == confined


async def test_channels_are_mixed_or_taken_alone(decoder: Decoder) -> None:
    both = np.stack([media.tone(0.5, hz=300), media.tone(0.5, hz=1_000)], axis=1)
    recording = media.wav(media.s16(both), channels=2)
    info, left = await decode(decoder, recording, channel=0)
    _, right = await decode(decoder, recording, channel=1)
    _, mix = await decode(decoder, recording)
    assert info.channels == 2
    assert np.abs(samples(left) - both[:, 0]).max() < 2 / 32768
    assert np.abs(samples(right) - both[:, 1]).max() < 2 / 32768
    assert np.abs(samples(mix) - both.mean(axis=1)).max() < 2 / 32768


async def test_a_channel_that_is_not_there_is_refused(decoder: Decoder) -> None:
    with pytest.raises(errors.MediaLimits):
        await decode(decoder, media.tone_wav(channels=2), channel=2)


async def test_pieces_are_small_and_even_and_the_descriptor_stays(decoder: Decoder) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(media.tone_wav(30, 48_000))
        file.flush()
        os.lseek(file.fileno(), 5, os.SEEK_SET)
        async with decoder.open(file.fileno(), DecodeRequest(Container.WAV)) as decoding:
            sizes = [len(piece) async for piece in decoding.pcm()]
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 5
    assert max(sizes) <= PIECE_BYTES
    assert not any(size % 2 for size in sizes)
    assert sum(sizes) == pytest.approx(30 * 32_000, abs=4)


async def test_not_a_number_and_infinity_become_finite(decoder: Decoder) -> None:
    floats = np.array([0.25, np.nan, np.inf, -np.inf, 1e30, -0.25] * 3_000, "<f4")
    _, pcm = await decode(decoder, media.wav(floats.tobytes(), bits=32, tag=3))
    assert np.frombuffer(pcm, "<i2")[:6].tolist() == [8192, 0, 32767, -32768, 32767, -8192]
    _, resampled = await decode(decoder, media.wav(floats.tobytes(), rate=48_000, bits=32, tag=3))
    assert len(resampled) == 12_000


BEYOND = {
    "0 Hz": media.wav(bytes(3_200), rate=0),
    "1 Hz": media.wav(bytes(3_200), rate=1),
    "2^31 Hz": media.wav(bytes(3_200), rate=2**31 - 1),
    "2^32-1 Hz": media.wav(bytes(3_200), rate=2**32 - 1),
    "0 channels": media.wav(bytes(3_200), channels=0),
    "255 channels": media.wav(bytes(51_000), channels=255),
    "65535 channels": media.wav(bytes(300_000), channels=65_535),
}


@pytest.mark.parametrize("name", BEYOND)
async def test_absurd_headers_end_in_a_stable_error(decoder: Decoder, name: str) -> None:
    """A demuxer may find the header invalid before anybody can judge its numbers."""
    with pytest.raises((errors.MediaLimits, errors.MediaUndecodable)):
        await decode(decoder, BEYOND[name])


async def test_nothing_to_decode_is_undecodable(decoder: Decoder) -> None:
    whole = media.tone_wav()
    for data in (whole[:20], whole[:44], media.riff(media.data_chunk(bytes(100))), media.riff()):
        with pytest.raises(errors.MediaUndecodable):
            await decode(decoder, data, container=Container.WAV)


async def test_too_long_ends_at_the_allowed_seconds(decoder: Decoder) -> None:
    limits = AudioLimits(seconds=1.0)
    _, pcm = await decode(decoder, media.tone_wav(1.0), limits=limits)
    assert len(pcm) == 32_000
    with pytest.raises(errors.MediaTooLong):
        await decode(decoder, media.tone_wav(1.01), limits=limits)


async def test_leaving_early_ends_the_work(decoder: Decoder) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(media.tone_wav(120, 48_000))
        file.flush()
        for _ in range(3):
            async with asyncio.timeout(5), decoder.open(file.fileno(), DecodeRequest(Container.WAV)) as decoding:
                async for piece in decoding.pcm():
                    assert piece
                    break


async def test_recordings_are_decoded_side_by_side(decoder: Decoder) -> None:
    lengths = [0.2 * n for n in range(1, 9)]
    results = await asyncio.gather(*(decode(decoder, media.tone_wav(s, 8_000)) for s in lengths))
    assert [round(len(pcm) / 32_000, 1) for _, pcm in results] == [round(s, 1) for s in lengths]


async def test_raw_samples_need_their_format_only(sandbox: SandboxDecoder) -> None:
    data = struct.pack("<6h", 1, -1, 200, -200, 32767, -32768)
    info, pcm = await decode(PcmDecoder(sandbox), data + b"\x07", container=Container.RAW, raw=RawFormat(16_000, 1))
    assert (pcm, info.codec) == (data, "pcm_s16le")
    _, left = await decode(PcmDecoder(sandbox), data, container=Container.RAW, raw=RawFormat(16_000, 2), channel=0)
    assert left == struct.pack("<3h", 1, 200, 32767)
    with pytest.raises(errors.MediaUndecodable):
        await decode(PcmDecoder(sandbox), b"\x07", container=Container.RAW, raw=RawFormat(16_000, 1))


async def test_compressed_samples_in_a_wav_go_to_the_sandbox(sandbox: SandboxDecoder) -> None:
    info, pcm = await decode(PcmDecoder(otherwise=sandbox), media.encode("wav-adpcm", media.tone(1.0, 22_050)))
    assert info.codec == "adpcm_ms"
    assert loudest_hz(pcm) == pytest.approx(440, abs=2)


@pytest.mark.parametrize("name", media.ENCODED)
async def test_every_format_is_decoded(sandbox: SandboxDecoder, name: str) -> None:
    rate = media.ENCODED[name][2]
    info, pcm = await decode(sandbox, media.encode(name, media.tone(2.0, rate)))
    assert info.channels == 1
    assert info.duration is None or info.duration == pytest.approx(2.0, abs=0.1)
    assert len(pcm) / 32_000 == pytest.approx(2.0, abs=0.1)
    assert loudest_hz(pcm) == pytest.approx(440, abs=3)


@pytest.mark.parametrize("name", ["flac", "aac", "mp3"])
async def test_a_tag_may_precede_more_than_mp3(sandbox: SandboxDecoder, name: str) -> None:
    tag = b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10)
    info, pcm = await decode(sandbox, tag + media.encode(name, media.tone(2.0, 44_100)))
    assert info.codec == name
    assert len(pcm) / 32_000 == pytest.approx(2.0, abs=0.1)
