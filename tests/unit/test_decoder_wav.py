"""WAV headers: what is believed, what is not, and what is left to another decoder."""

from __future__ import annotations

import random
import struct

import pytest

from cosygate import errors
from cosygate.model.wav import MAX_CHUNKS, Encoding, WavFormat, parse_wav
from tests.support import media

SAMPLES = media.s16(media.tone(0.1))


def parse(data: bytes) -> WavFormat | None:
    return parse_wav(lambda offset, length: data[offset : offset + length], len(data))


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


FMT = media.fmt_chunk(1, 1, 16_000, 16)


def test_a_usual_header() -> None:
    found = parse(media.wav(SAMPLES, rate=44_100))
    assert found == WavFormat(Encoding.SIGNED, 2, 1, 44_100, 44, len(SAMPLES))
    assert (found.codec, found.frames) == ("pcm_s16le", 1_600)


@pytest.mark.parametrize("claimed", [0, len(SAMPLES) + 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_length_that_cannot_be_is_read_to_the_end(claimed: int) -> None:
    found = parse(media.wav(SAMPLES, claimed=claimed))
    assert found is not None
    assert found.data_size == len(SAMPLES)


def test_a_length_that_stops_in_the_middle_of_the_samples_is_read_to_the_end() -> None:
    found = parse(media.wav(SAMPLES, claimed=1_000))
    assert found is not None
    assert found.data_size == len(SAMPLES)


@pytest.mark.parametrize("trailer", [chunk(b"LIST", b"INFOISFT" + bytes(20)), chunk(b"id3 ", b"odd"), b"", b"\x00" * 7])
def test_what_follows_the_samples_is_not_sound(trailer: bytes) -> None:
    found = parse(media.riff(FMT, media.data_chunk(SAMPLES), trailer))
    assert found is not None
    assert found.data_size == len(SAMPLES)


def test_a_large_file_says_its_length_elsewhere() -> None:
    data = media.rf64_wav(SAMPLES) + chunk(b"LIST", b"INFO")
    found = parse(data)
    assert found is not None
    assert found.data_size == len(SAMPLES)


def test_chunks_before_the_samples_are_skipped_but_not_for_ever() -> None:
    found = parse(media.riff(chunk(b"JUNK", bytes(27)), FMT, chunk(b"bext", bytes(602)), media.data_chunk(SAMPLES)))
    assert found is not None
    assert found.frames == 1_600
    with pytest.raises(errors.MediaUndecodable):
        parse(media.riff(FMT, chunk(b"JUNK", b"") * MAX_CHUNKS, media.data_chunk(SAMPLES)))


def test_half_frames_at_the_end_are_dropped() -> None:
    found = parse(media.wav(SAMPLES + b"\x01", channels=2))
    assert found is not None
    assert found.data_size % 4 == 0


def test_24_of_32_bits_are_32_bits() -> None:
    found = parse(media.wav(bytes(400), bits=24, align=4))
    assert found is not None
    assert (found.width, found.codec) == (4, "pcm_s32le")


@pytest.mark.parametrize("align", [1, 3, 5, 65_535])
def test_a_block_align_that_contradicts_is_refused(align: int) -> None:
    with pytest.raises(errors.MediaUndecodable):
        parse(media.wav(SAMPLES, align=align))


@pytest.mark.parametrize(
    ("tag", "bits"), [(2, 4), (0x11, 4), (0x31, 0), (0x55, 0), (1, 64), (1, 0), (3, 16), (6, 16), (0xFFFE, 16)]
)
def test_what_is_not_plain_is_left_to_another_decoder(tag: int, bits: int) -> None:
    assert parse(media.wav(SAMPLES, tag=tag, bits=bits, align=1)) is None


@pytest.mark.parametrize(
    "data", [b"", b"RIFF", media.riff(), media.riff(FMT), media.riff(media.data_chunk(SAMPLES)), media.riff(FMT[:12])]
)
def test_no_format_or_no_samples_is_undecodable(data: bytes) -> None:
    with pytest.raises(errors.MediaUndecodable):
        parse(data)


def test_random_headers_end_in_a_format_or_a_stable_error() -> None:
    dice = random.Random(8)
    for _ in range(3_000):
        data = bytearray(media.wav(SAMPLES[:200]))
        for _ in range(dice.randrange(1, 6)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            found = parse(bytes(data))
        except errors.MediaUndecodable:
            continue
        if found is not None:
            assert 0 <= found.data_start <= len(data)
            assert found.data_start + found.data_size <= len(data)
            assert found.data_size % max(1, found.frame_bytes) == 0
