"""What a child is asked about a chunk of speech, and what it may answer: the words of their socket, and their bounds.

to it    REQUEST (how many speakers there are, 0 when not known; bytes that follow) and s16le, mono, 16 kHz
from it  ANSWER (turns, voices, dimensions of an embedding), then a TURN for every turn (first sample, end, voice),
         and for every voice SECONDS and its embedding as 32-bit floats
"""

from __future__ import annotations

import math
import struct
import threading

import numpy as np

from cosygate.engine.peers import Peer
from cosygate.engine.recognisers.base import RATE
from cosygate.engine.speakers.sherpa.laying import Stretch
from cosygate.engine.speakers.sherpa.voice import Voice

REQUEST = struct.Struct("<II")
ANSWER = struct.Struct("<III")
TURN = struct.Struct("<III")
SECONDS = struct.Struct("<f")
# A turn lasts 0.3 s at least (sherpa-onnx's min_duration_on), and no more than two people are heard at once: that is
# seven for a second, and each voice has one.
_MOST, _MOST_PER_S = 16, 10


def ask(
    peer: Peer, pcm: bytes | bytearray, speakers: int, dimensions: int, deadline: float, stop: threading.Event
) -> tuple[list[Stretch], list[Voice]]:
    """The turns, in order and without overlap, and the voices, by whose indexes they name speakers. `dimensions`: of an
    embedding. Raises OSError when the child is lost, or answers what cannot be; Stopped."""
    peer.send(REQUEST.pack(speakers, len(pcm)) + pcm, deadline, stop)
    length = len(pcm) // 2
    most = _MOST + _MOST_PER_S * length // RATE
    turns, voices, size = ANSWER.unpack(peer.receive(ANSWER.size, deadline, stop))
    if turns > most or voices > most or size != dimensions:
        raise OSError(f"the child answered {turns} turns, {voices} voices and {size} dimensions")
    told = [*TURN.iter_unpack(peer.receive(TURN.size * turns, deadline, stop))]
    before = 0
    for start, end, voice in told:
        if not (before <= start < end <= length and voice < voices):
            raise OSError("the child answered a turn that cannot be")
        before = end
    return [(start, end, voice) for start, end, voice in told], [
        _voice(peer.receive(SECONDS.size + 4 * size, deadline, stop), length) for _ in range(voices)
    ]


def _voice(told: bytes, length: int) -> Voice:
    [seconds] = SECONDS.unpack_from(told)
    sound = np.frombuffer(told, "<f4", offset=SECONDS.size)
    # A tenth above: it is a 32-bit float. Of a NaN nothing is true.
    if not (0 <= seconds <= length / RATE + 0.1 and math.isfinite(norm := float(np.linalg.norm(sound))) and norm < 1.1):
        raise OSError("the child answered a voice that cannot be")
    return Voice(seconds, sound)
