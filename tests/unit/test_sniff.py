"""What the first 64 KB say: every format that is decoded here, and everything that is turned away with 415."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest

from cosygate import errors
from cosygate.model.audio import SNIFF_BYTES, Container, sniff
from tests.support import media

KIND = {
    "flac": Container.FLAC, "ogg-opus": Container.OGG, "ogg-flac": Container.OGG, "mp3": Container.MP3,
    "aac": Container.AAC, "m4a": Container.MP4, "webm": Container.MATROSKA, "mka": Container.MATROSKA,
    "aiff": Container.AIFF, "au": Container.AU, "caf": Container.CAF, "w64": Container.W64, "wma": Container.ASF,
    "amr": Container.AMR, "wav-adpcm": Container.WAV,
}  # fmt: skip


@pytest.mark.parametrize("name", media.ENCODED)
def test_every_encoder_is_recognised(name: str) -> None:
    head = media.encode(name, media.tone(1.0, media.ENCODED[name][2]))[:SNIFF_BYTES]
    assert sniff(head) is KIND[name]


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000])
def test_mpeg_frames_of_every_version_are_recognised_without_a_tag(rate: int) -> None:
    tagged = media.encode_as("mp3", "libmp3lame", rate, media.tone(1.0, rate))
    assert sniff(tagged) is Container.MP3
    assert sniff(tagged[tagged.index(b"\xff", 10) :]) is Container.MP3


def test_wav_and_its_large_kin_are_recognised() -> None:
    assert sniff(media.tone_wav()) is Container.WAV
    assert sniff(media.rf64_wav(b"")) is Container.WAV
    assert sniff(media.rf64_wav(b"", magic=b"BW64")) is Container.WAV


def test_a_mov_may_start_with_its_samples() -> None:
    assert sniff(b"\x00\x00\x00\x08wide\x00\x01\x00\x00mdat") is Container.MP4
    assert sniff(b"\x00\x00\x00\x01mdat\x00\x00\x00\x00\x80\x00\x00\x00") is Container.MP4


def test_nothing_is_an_empty_recording() -> None:
    with pytest.raises(errors.RecordingEmpty):
        sniff(b"")


OTHER = {
    "text": b"It was the best of times",
    "text with a box's name": b"The free and the brave",
    "text with a format's name": b"caffeine is no format",
    "text about tags": b"ID3 tags precede MP3 frames",
    "HLS": b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n",
    "ffconcat": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "DASH": b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
    "zip": b"PK\x03\x04\x14\x00\x00\x00\x08\x00",
    "AVI": b"RIFF\x00\x00\x00\x00AVI LIST",
    "PNG": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
    "PDF": b"%PDF-1.7\n",
    "zeros": bytes(4_096),
    "one sync word": b"\xff\xfb\x90\x64" + bytes(4_000),
    "one byte": b"R",
}


@pytest.mark.parametrize("name", OTHER)
def test_everything_else_is_turned_away(name: str) -> None:
    with pytest.raises(errors.UnsupportedMedia):
        sniff(OTHER[name])


def test_random_bytes_are_turned_away() -> None:
    dice = random.Random(5)
    wrong = 0
    for _ in range(2_000):
        try:
            sniff(dice.randbytes(8_192))
        except errors.UnsupportedMedia:
            continue
        wrong += 1
    assert wrong == 0


def test_random_heads_raise_nothing_else() -> None:
    dice = random.Random(6)
    starts = [b"\xff\xfb", b"\xff\xf1", b"ID3\x03", b"RIFF", b"\x00\x00\x00\x18ftyp", b"FORM", b""]
    for _ in range(2_000):
        head = dice.choice(starts) + dice.randbytes(dice.randrange(64))
        if head:
            with suppress(errors.UnsupportedMedia):
                sniff(head)
