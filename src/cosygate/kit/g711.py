"""ITU-T G.711, the two laws of telephony: one byte a sample in, s16le out. One table of 256 samples each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def decode_mulaw(data: bytes) -> bytes:
    """µ-law → s16le, as many samples as bytes."""
    return _MULAW.take(np.frombuffer(data, np.uint8)).tobytes()


def decode_alaw(data: bytes) -> bytes:
    """A-law → s16le, as many samples as bytes."""
    return _ALAW.take(np.frombuffer(data, np.uint8)).tobytes()


def _mulaw_table() -> NDArray[np.int16]:
    """ITU-T G.711 §3.2: code → 16 bit sample."""
    code = ~np.arange(256, dtype=np.uint8)
    magnitude = (((code & 15).astype(np.int32) << 3) + 0x84 << ((code >> 4) & 7).astype(np.int32)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype("<i2")


def _alaw_table() -> NDArray[np.int16]:
    """ITU-T G.711 §3.1: code → 16 bit sample."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent = ((code >> 4) & 7).astype(np.int32)
    mantissa = (code & 15).astype(np.int32) << 4
    magnitude = np.where(exponent == 0, mantissa + 8, mantissa + 0x108 << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype("<i2")


_MULAW, _ALAW = _mulaw_table(), _alaw_table()
