"""What a child writes is not believed: every kind of lie ends in a stable error, soon and without memory."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cosygate import errors
from cosygate.adapters.decoder_sandbox.frames import HEADER, MAX_BODY, Kind, write, write_json
from cosygate.adapters.decoder_sandbox.pipe_reader import FrameReader
from cosygate.model.audio import Container, MediaInfo
from cosygate.ports.decoder import DecodeRequest

REQUEST = DecodeRequest(Container.FLAC)
INFO = {"codec": "flac", "rate": 44_100, "channels": 2, "duration": 1.5}


@asynccontextmanager
async def child(said: bytes, status: int | None = 0, *, hold: bool = False) -> AsyncIterator[FrameReader]:
    """A reader of a child that wrote these bytes and then ended with that status, or holds its pipe open."""
    ended: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
    ended.set_result(status)
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    os.write(theirs, said)
    if not hold:
        os.close(theirs)
    reader = FrameReader(ours, ended, idle_s=0.2)
    try:
        yield reader
    finally:
        reader.close()
        if hold:
            os.close(theirs)


def frame(kind: int, body: bytes) -> bytes:
    return HEADER.pack(kind, len(body)) + body


def told(kind: Kind, value: object) -> bytes:
    return frame(kind, json.dumps(value).encode())


async def test_frames_come_as_they_were_written() -> None:
    ours, theirs = os.pipe()
    write_json(theirs, Kind.INFO, INFO)
    write(theirs, Kind.PCM, b"\x01\x02")
    os.close(theirs)
    said = os.read(ours, 1 << 16)
    os.close(ours)
    async with child(said) as reader:
        assert await reader.info(REQUEST) == MediaInfo("flac", "flac", 44_100, 2, 1.5)
        assert await reader.next() == (Kind.PCM, b"\x01\x02")


LIES = {
    "an unknown kind": frame(9, b""),
    "samples before the information": frame(Kind.PCM, bytes(2)),
    "no JSON": frame(Kind.INFO, b"\xff{"),
    "JSON of another shape": told(Kind.INFO, [1]),
    "deep JSON": frame(Kind.INFO, b"[" * 60_000),
    "no rate": told(Kind.INFO, {"codec": "flac", "channels": 1}),
    "a rate beyond the limits": told(Kind.INFO, {**INFO, "rate": 2**31}),
    "a rate that is a text": told(Kind.INFO, {**INFO, "rate": "44100"}),
    "no channels": told(Kind.INFO, {**INFO, "channels": 0}),
    "too many channels": told(Kind.INFO, {**INFO, "channels": 255}),
    "half a frame": told(Kind.INFO, INFO)[:-3],
    "nothing": b"",
    "an error that is none": told(Kind.ERROR, {"code": "token_missing", "detail": ""}),
}


@pytest.mark.parametrize("name", LIES)
async def test_a_lie_is_a_dead_decoder(name: str) -> None:
    async with child(LIES[name]) as reader:
        with pytest.raises(errors.DecoderDied):
            await reader.info(REQUEST)


SAMPLES = frame(Kind.PCM, bytes(1_000))
DONE = told(Kind.DONE, {"bad_packets": 0})


async def test_samples_come_until_done() -> None:
    async with child(SAMPLES * 3 + DONE) as reader:
        assert [len(piece) async for piece in reader.pcm(1.0)] == [1_000] * 3


@pytest.mark.parametrize("lie", [frame(Kind.PCM, b""), frame(Kind.PCM, b"\x01"), told(Kind.INFO, INFO), SAMPLES[:-1]])
async def test_a_lie_among_the_samples_is_a_dead_decoder(lie: bytes) -> None:
    async with child(SAMPLES + lie) as reader:
        with pytest.raises(errors.DecoderDied):
            [piece async for piece in reader.pcm(1.0)]


async def test_a_child_that_goes_on_beyond_the_allowed_seconds_is_not_heard() -> None:
    heard = 0
    async with child(SAMPLES * 33 + DONE) as reader:
        with pytest.raises(errors.MediaTooLong):
            async for piece in reader.pcm(1.0):
                heard += len(piece)
    assert heard == 32_000


@pytest.mark.parametrize("length", [MAX_BODY + 1, 0xFFFFFFFF])
async def test_a_frame_beyond_the_bound_is_not_waited_for(length: int) -> None:
    async with child(HEADER.pack(Kind.PCM, length), hold=True) as reader:
        with pytest.raises(errors.DecoderDied):
            await reader.next()


@pytest.mark.parametrize("duration", [None, -1, 0, "long", float("inf"), float("nan"), 10**400])
async def test_a_duration_that_cannot_be_is_none(duration: object) -> None:
    async with child(told(Kind.INFO, {**INFO, "duration": duration})) as reader:
        assert (await reader.info(REQUEST)).duration is None


async def test_texts_are_cut_and_cleaned() -> None:
    async with child(told(Kind.INFO, {**INFO, "codec": "fl\x1b[2J\nac" + "x" * 500})) as reader:
        codec = (await reader.info(REQUEST)).codec
    assert codec.startswith("fl[2Jac")
    assert len(codec) == 64
    async with child(told(Kind.ERROR, {"code": "media_no_audio", "detail": "none\x00\n" + "y" * 5_000})) as reader:
        with pytest.raises(errors.MediaNoAudio) as caught:
            await reader.info(REQUEST)
    assert caught.value.detail.startswith("noney")
    assert len(caught.value.detail) == 200


@pytest.mark.parametrize(
    "code", ["media_undecodable", "media_no_audio", "media_limits", "media_too_long", "decoder_died"]
)
async def test_what_a_child_may_say_is_said(code: str) -> None:
    async with child(told(Kind.ERROR, {"code": code, "detail": "so"})) as reader:
        with pytest.raises(errors.RecordingFailed) as caught:
            await reader.next()
    assert (caught.value.code, caught.value.detail) == (code, "so")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (-signal.SIGXCPU, errors.DecoderTimeout),
        (-signal.SIGKILL, errors.DecoderDied),
        (-signal.SIGSEGV, errors.DecoderDied),
        (1, errors.DecoderDied),
        (0, errors.DecoderDied),
        (None, errors.DecoderDied),
    ],
)
async def test_an_end_without_a_word_tells_by_its_status(status: int | None, error: type[Exception]) -> None:
    async with child(told(Kind.INFO, INFO), status) as reader:
        await reader.info(REQUEST)
        with pytest.raises(error):
            await reader.next()


async def test_silence_is_a_timeout() -> None:
    async with child(told(Kind.INFO, INFO) + b"\x02", hold=True) as reader:
        await reader.info(REQUEST)
        with pytest.raises(errors.DecoderTimeout):
            await reader.next()
