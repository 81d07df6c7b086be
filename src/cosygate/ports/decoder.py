"""From a recording's bytes to PCM."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from cosygate.model.audio import AudioLimits, Container, MediaInfo, RawFormat


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    container: Container
    raw: RawFormat | None = None  # with Container.RAW
    channel: int | None = None  # that channel alone, from 0; None: all mixed to one
    limits: AudioLimits = field(default_factory=AudioLimits)


class Decoding(Protocol):
    """One recording being decoded. `info` is there from the start."""

    @property
    def info(self) -> MediaInfo: ...

    def pcm(self) -> AsyncIterator[bytes]:
        """PCM s16le, 16 kHz, one channel, in pieces of at most 64 KiB with an even number of bytes. Reads ahead by a
        bounded amount: a slow consumer slows the decoder. Bad packets are skipped one by one. Raises what `open`
        raises, when it shows only in the middle."""


class Decoder(Protocol):
    def open(self, fd: int, request: DecodeRequest) -> AbstractAsyncContextManager[Decoding]:
        """Decodes the descriptor (read-only, seekable, stays the caller's; one decoding of it at a time). Leaving the
        context ends the work at once, whatever state it is in.

        Raises MediaUndecodable (not audio after all, or nothing decodable in it), MediaNoAudio, MediaLimits (rate,
        channels, streams), MediaTooLong (after the allowed seconds of PCM), DecoderDied (crash, out of memory),
        DecoderTimeout, SandboxMissing, Unavailable (the decoder cannot be started: costs the recording nothing)."""


class StreamDecoder(Protocol):
    def stream(self, feed: AsyncIterator[bytes], request: DecodeRequest) -> AbstractAsyncContextManager[Decoding]:
        """As Decoder.open, of a recording that is still being made: its bytes come from `feed`, in order, and what they
        decode to comes out within a tenth of a second of audio. PCM ends when `feed` has and all of it is decoded.
        Reads `feed` no faster than the consumer takes the PCM. A feed that pauses, however long, is no timeout; a
        decoder that is silent although it was fed is one. The context is entered with the first decoded audio.
        Only containers that can be read from start to end (MATROSKA, OGG).
        What `feed` raises passes through `pcm`."""
