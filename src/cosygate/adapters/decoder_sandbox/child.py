"""What runs inside the sandbox: PyAV over one open descriptor, PCM into one pipe.

Everything here may be under an attacker's control after the first byte of a recording is parsed. It is kept from harm
by lockdown.py, and nothing that it writes is believed by decoder.py.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import av
import numpy as np
from av.stream import Discard

from cosygate import errors
from cosygate.adapters.decoder_sandbox.frames import Kind, write, write_json
from cosygate.kit.pcm import Samples, ToMono, pieces
from cosygate.model.audio import PCM_RATE, AudioLimits, Container

MAX_STREAMS = 64  # a film with every language has fewer
MAX_BAD_PACKETS = 10_000  # skipped in all; a recording that is worse is not one
MAX_STUCK = 100  # times in a row that the demuxer may fail
_BATCH_S = 0.5  # decoded frames are small; they are converted in batches
_STREAM_BATCH_S = 0.04  # of a stream: somebody waits for them

# Demuxers by what sniffing said; a single one is forced. ID3 tags precede more than MP3, so there FFmpeg probes.
_DEMUXERS: dict[Container, str] = {
    Container.WAV: "wav",
    Container.FLAC: "flac",
    Container.OGG: "ogg",
    Container.MP3: "mp3,aac,flac",
    Container.AAC: "aac",
    Container.MATROSKA: "matroska,webm",
    Container.MP4: "mov,mp4,m4a,3gp,3g2,mj2",
    Container.AIFF: "aiff",
    Container.AU: "au",
    Container.CAF: "caf",
    Container.AMR: "amr",
    Container.ASF: "asf",
    Container.W64: "w64",
}
_PROBED = frozenset({Container.MP3})
# Pictures, subtitles and rare game codecs are never opened, not even to find out what a stream is.
_CODECS = (
    "aac", "aac_latm", "ac3", "adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms", "adpcm_swf", "adpcm_yamaha",
    "alac", "amrnb", "amrwb", "eac3", "flac", "g722", "g723_1", "g726", "g726le", "g729", "gsm", "gsm_ms",
    "ilbc", "libopencore_amrnb", "libopencore_amrwb", "libopus", "mp1", "mp1float", "mp2", "mp2float",
    "mp3", "mp3float", "nellymoser", "opus", "pcm_alaw", "pcm_f32be", "pcm_f32le", "pcm_f64be", "pcm_f64le",
    "pcm_mulaw", "pcm_s16be", "pcm_s16le", "pcm_s24be", "pcm_s24le", "pcm_s32be", "pcm_s32le", "pcm_s8",
    "pcm_u8", "speex", "truespeech", "vorbis", "wmalossless", "wmapro", "wmav1", "wmav2", "wmavoice",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Task:
    """What the child is to do; travels as JSON from the gateway through the fork-server."""

    container: Container
    channel: int | None
    limits: AudioLimits
    stream: bool = False  # descriptor 0 is a pipe, of a recording that is still being made

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Task:
        return cls(Container(data["container"]), data["channel"], AudioLimits(**data["limits"]), data["stream"])


class Input(Protocol):
    """Where the bytes come from, as PyAV wants it: a file object; without `seek` it is read from start to end."""

    buffer_bytes: int  # what FFmpeg asks for at a time
    probe_bytes: int  # what it may read to find out more than the header says

    def read(self, length: int) -> bytes: ...

    def heard(self) -> None:
        """What was read so far has made audio."""


class Source:
    """A recording that is there, over its descriptor alone. Positioned reads leave the descriptor's own offset, which
    the gateway shares, where it was."""

    buffer_bytes = 256 * 1024
    probe_bytes = 5_000_000  # its own choice

    def __init__(self, fd: int, size: int) -> None:
        self._fd, self._size, self._at = fd, size, 0

    def read(self, length: int) -> bytes:
        data = os.pread(self._fd, length, self._at)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def heard(self) -> None:
        """A file ends by itself."""


def run(source: Input, out: int, task: Task) -> None:
    """Writes INFO, PCM … and DONE, or ERROR at any point. Whatever happens is told in the pipe, or by dying."""
    try:
        bad = _decode(source, out, task)
        write_json(out, Kind.DONE, {"bad_packets": bad})
    except errors.CosyGateError as error:
        _fail(out, error)
    except BrokenPipeError:
        pass  # nobody listens any more
    except MemoryError:
        _fail(out, errors.DecoderDied("the decoder ran out of memory"))
    except (av.FFmpegError, ValueError) as error:
        _fail(out, errors.MediaUndecodable(f"the recording cannot be decoded ({type(error).__name__})"))


def _fail(out: int, error: errors.CosyGateError) -> None:
    write_json(out, Kind.ERROR, {"code": error.code, "detail": error.detail})


def _decode(source: Input, out: int, task: Task) -> int:
    """Returns how many packets could not be decoded. Raises RecordingFailed errors and those of PyAV."""
    with open_media(source, task.container) as media:
        stream = _audio_stream(media, task.limits)
        sink = _Sink(out, task, stream.codec.canonical_name, media.duration)
        frames = _Frames(media, stream)
        for frame in frames:
            source.heard()
            sink.take(frame.sample_rate, _samples(frame))
        sink.finish()
        return frames.bad


def open_media(source: Input, container: Container) -> Any:
    """Never by a path: a playlist that calls itself .wav would decode another local file."""

    def refuse(url: str, flags: int, options: dict[str, str]) -> None:
        raise errors.MediaUndecodable("the recording refers to something outside itself")

    demuxers = _DEMUXERS[container]
    try:
        return av.open(
            source,
            "r",
            format=None if container in _PROBED else demuxers.split(",")[0],
            container_options={
                "format_whitelist": demuxers,
                "protocol_whitelist": "",
                "codec_whitelist": ",".join(_CODECS),
                "max_streams": str(MAX_STREAMS),
                "probesize": str(source.probe_bytes),
            },
            metadata_errors="replace",
            buffer_size=source.buffer_bytes,
            io_open=refuse,
        )
    except av.MemoryError:  # FFmpeg says so for one stream too many as well
        detail = f"there are more than {MAX_STREAMS} streams, or the header asks for too much memory"
        raise errors.MediaLimits(detail) from None


def _audio_stream(media: Any, limits: AudioLimits) -> Any:
    """The first audio stream, with every other one discarded in the demuxer."""
    if not media.streams.audio:
        raise errors.MediaNoAudio()
    chosen = media.streams.audio[0]
    for stream in media.streams:
        if stream is not chosen:
            stream.discard = Discard.all
    if chosen.codec_context is None or chosen.codec_context.name not in _CODECS:
        raise errors.MediaUndecodable("the recording's codec is not supported")
    if chosen.codec_context.sample_rate:
        _check(chosen.codec_context.sample_rate, chosen.codec_context.channels, limits)
    chosen.codec_context.thread_count = 1  # the sandbox cannot start a thread
    return chosen


def _check(rate: int, channels: int, limits: AudioLimits) -> None:
    """Before a decoder or resampler allocates for it (2³¹ Hz would take all memory)."""
    if not limits.min_rate <= rate <= limits.max_rate:
        raise errors.MediaLimits(f"the rate is {rate} Hz; {limits.min_rate}-{limits.max_rate} is allowed")
    if not 1 <= channels <= limits.channels:
        raise errors.MediaLimits(f"there are {channels} channels; 1-{limits.channels} are allowed")


class _Frames:
    """The decoded frames of one stream. Bad packets are skipped one by one; a demuxer that keeps failing is at the
    end of what can be read (a truncated file)."""

    def __init__(self, media: Any, stream: Any) -> None:
        self._media, self._stream = media, stream
        self.bad = 0

    def __iter__(self) -> Iterator[Any]:
        stuck = 0
        while stuck < MAX_STUCK:
            try:
                for packet in self._media.demux(self._stream):
                    stuck = 0
                    yield from self._decoded(packet)
                return
            except av.FFmpegError as error:
                stuck += 1
                self._skip(error)

    def _decoded(self, packet: Any) -> list[Any]:
        try:
            return list(packet.decode())
        except av.FFmpegError as error:
            self._skip(error)
            return []

    def _skip(self, error: Exception) -> None:
        self.bad += 1
        if isinstance(error, MemoryError):
            raise error
        if self.bad > MAX_BAD_PACKETS:
            raise errors.MediaUndecodable(f"more than {MAX_BAD_PACKETS} packets are broken")


def _samples(frame: Any) -> Samples:
    """(frames, channels): int16 as it is, everything else float."""
    array: Samples = frame.to_ndarray()
    array = array.T if frame.format.is_planar else array.reshape(-1, frame.layout.nb_channels)
    if array.dtype == np.uint8:
        array = (array.astype(np.float32) - 128) * np.float32(1 / 128)
    elif array.dtype == np.int32:
        array = array * np.float32(2.0**-31)
    return array


class _Sink:
    """Decoded frames → INFO once, then PCM, never more than the allowed seconds."""

    def __init__(self, out: int, task: Task, codec: str, duration: int | None) -> None:
        self._out, self._task = out, task
        self._batch_s = _STREAM_BATCH_S if task.stream else _BATCH_S
        self._info: dict[str, Any] | None = {"codec": codec, "duration": duration and duration / 1e6}
        self._shape = (0, 0)  # rate, channels: a stream may change them on the way
        self._to_mono: ToMono | None = None
        self._batch: list[Samples] = []
        self._held = 0
        self._left = int(task.limits.seconds * PCM_RATE) * 2  # bytes

    def take(self, rate: int, samples: Samples) -> None:
        if (rate, samples.shape[1]) != self._shape:
            self._change(rate, samples.shape[1])
        self._batch.append(samples)
        self._held += len(samples)
        if self._held >= rate * self._batch_s:
            self._convert()

    def finish(self) -> None:
        """Raises MediaUndecodable when there was not one frame."""
        self._drain()
        if self._info is not None:
            raise errors.MediaUndecodable("nothing in the recording can be decoded")

    def _change(self, rate: int, channels: int) -> None:
        self._drain()
        _check(rate, channels, self._task.limits)
        if self._info is not None:
            if self._task.channel is not None and self._task.channel >= channels:
                raise errors.MediaLimits(f"there is no channel {self._task.channel}")
            write_json(self._out, Kind.INFO, {**self._info, "rate": rate, "channels": channels})
            self._info = None
        self._shape = rate, channels
        self._to_mono = ToMono(rate, self._task.channel, PCM_RATE)

    def _convert(self) -> None:
        if self._to_mono is not None and self._batch:
            self._emit(self._to_mono.feed(np.concatenate(self._batch)))
            self._batch, self._held = [], 0

    def _drain(self) -> None:
        self._convert()
        if self._to_mono is not None:
            self._emit(self._to_mono.flush())

    def _emit(self, pcm: bytes) -> None:
        for piece in pieces(pcm[: max(0, self._left)]):
            write(self._out, Kind.PCM, piece)
        self._left -= len(pcm)
        if self._left < 0:
            raise errors.MediaTooLong(f"the recording is longer than {self._task.limits.seconds:g} s")
