"""Speech by flite whose word times are known: they are what it was synthesised from.

Through the C library, whose functions follow flite's include/cst_synth.h, cst_utterance.h, cst_item.h and cst_wave.h:
the program tells phones, not words.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
from ctypes import c_char_p, c_float, c_int, c_short, c_void_p
from typing import Any

import numpy as np
import soxr

VOICES = ("rms", "awb", "slt", "kal16")
RATE = 16_000
MEETING = (  # enough to say for whoever has to be told apart by it
    "The committee met on Tuesday to talk about the new building.",
    "Several people said that the plan was far too expensive for the town.",
    "Others thought that it could be paid for within ten years.",
    "After a long debate nothing was decided, and everybody went home.",
    "The next meeting will take place in the first week of March.",
    "By then the architect will be back from her journey to the north.",
)
_STARTS = b"R:SylStructure.daughter1.daughter1.R:Segment.p.end"  # the first phone's: where the one before it ends
_ENDS = b"R:SylStructure.daughtern.daughtern.R:Segment.end"


class _Wave(ctypes.Structure):
    _fields_ = (
        ("type", c_char_p),
        ("rate", c_int),
        ("count", c_int),
        ("channels", c_int),
        ("samples", ctypes.POINTER(c_short)),
    )


def say(voice: str, text: str) -> tuple[Any, list[tuple[float, float]]]:
    """Samples (float32, mono, 16 kHz) and, of every word of the text that whitespace parts, start and end in seconds.
    One sentence."""
    lib = _library()
    utterance = lib.flite_synth_text(text.encode(), _voice(voice))
    try:
        wave = lib.utt_wave(utterance).contents
        samples = np.ctypeslib.as_array(wave.samples, (wave.count,)).astype(np.float32) / 32768
        if wave.rate != RATE:
            samples = soxr.resample(samples, wave.rate, RATE).astype(np.float32)
        spoken: list[tuple[int, float, float]] = []
        item = lib.relation_head(lib.utt_relation(utterance, b"Word"))
        while item:
            token = lib.item_parent(lib.item_as(item, b"Token"))  # "25" is one, of two words
            spoken.append((token, lib.ffeature_float(item, _STARTS), lib.ffeature_float(item, _ENDS)))
            item = lib.item_next(item)
    finally:
        lib.delete_utterance(utterance)
    tokens = [list(group) for _, group in itertools.groupby(spoken, key=lambda word: word[0])]
    times = [(group[0][1], group[-1][2]) for group in tokens]
    assert len(times) == len(text.split()), f"flite makes {len(times)} words of {text!r}"
    return samples, times


@functools.cache
def _library() -> Any:
    lib = ctypes.CDLL("libflite.so.1")
    for name, result, *arguments in (
        ("flite_synth_text", c_void_p, c_char_p, c_void_p),
        ("utt_wave", ctypes.POINTER(_Wave), c_void_p),
        ("utt_relation", c_void_p, c_void_p, c_char_p),
        ("relation_head", c_void_p, c_void_p),
        ("item_next", c_void_p, c_void_p),
        ("item_as", c_void_p, c_void_p, c_char_p),
        ("item_parent", c_void_p, c_void_p),
        ("ffeature_float", c_float, c_void_p, c_char_p),
        ("delete_utterance", None, c_void_p),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    lib.flite_init()
    return lib


@functools.cache
def _voice(name: str) -> Any:
    register = getattr(ctypes.CDLL(f"libflite_cmu_us_{name}.so.1"), f"register_cmu_us_{name}")
    register.restype, register.argtypes = c_void_p, (c_char_p,)
    return register(None)
