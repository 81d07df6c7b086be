"""Recordings made on the fly: WAV headers and deterministic noise, so that nothing large is kept or committed."""

import random
import struct

CHUNK = 200 * 1024  # bytes: what one upload request carries in the throughput works


def wav_header(data_bytes: int, rate: int = 16_000, channels: int = 1) -> bytes:
    """44 bytes for `data_bytes` of s16le (RIFF, PCM). Sizes are 32 bit: at most 4 GiB."""
    block = 2 * channels
    return struct.pack(
        "<4sI4s4sIHHIIHH", b"RIFF", 36 + data_bytes, b"WAVE", b"fmt ", 16, 1, channels, rate, rate * block, block, 16
    ) + struct.pack("<4sI", b"data", data_bytes)


def noise(nbytes: int, seed: int = 1) -> bytes:
    """Quiet pseudo-random s16le samples (|x| < 256), the same for the same seed."""
    data = bytearray(random.Random(seed).randbytes(nbytes))
    data[1::2] = bytes(b & 1 and 0xFF for b in data[1::2])  # high byte 0 or -1
    return bytes(data)


def wav(seconds: float, rate: int = 16_000) -> bytes:
    """A complete mono recording."""
    nbytes = int(seconds * rate) * 2
    return wav_header(nbytes, rate) + noise(nbytes)
