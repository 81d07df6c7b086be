"""`python -m tests.support.babbling_child KIND FILE FOLDER PARENT`: a child of FolderDiariser whose first answer is
nonsense of a KIND. It makes FILE then; when that is there, it is the real child."""

from __future__ import annotations

import math
import socket
import sys
from pathlib import Path

import numpy as np

from cosygate.engine.speakers.sherpa import child
from cosygate.engine.speakers.sherpa.asking import ANSWER, REQUEST, SECONDS, TURN
from cosygate.engine.speakers.sherpa.checking import checked
from cosygate.engine.speakers.sherpa.hearing import Hearing
from cosygate.kit.lineage import die_with_parent

SIZE, RATE = 32, 16_000
MANY = 0xFFFFFFFF


def nonsense(kind: str, length: int) -> bytes:
    turns, voices, size = [(0, RATE, 0), (RATE, 2 * RATE, 1)], 2, SIZE
    seconds, sound = 1.0, np.full(SIZE, SIZE**-0.5, np.float32)
    match kind:
        case "turns":
            return ANSWER.pack(MANY, 2, SIZE)
        case "voices":
            return ANSWER.pack(0, MANY, SIZE)
        case "short" | "long":
            size = SIZE // 2 if kind == "short" else SIZE * 2
            sound = np.full(size, size**-0.5, np.float32)
        case "backwards":
            turns.reverse()
        case "beyond":
            turns[1] = (RATE, length + 1, 1)
        case "whose":
            turns[1] = (RATE, 2 * RATE, 2)
        case "seconds":
            seconds = length / RATE + 1
        case "nan":
            sound[3] = math.nan
        case "loud":
            sound *= 1000
        case "noise":
            return b"\xfe" * 10_000
    head = ANSWER.pack(len(turns), voices, size) + b"".join(TURN.pack(*turn) for turn in turns)
    return head + (SECONDS.pack(seconds) + sound.tobytes()) * voices


def right(folder: str, pcm: bytes, speakers: int) -> bytes:
    hearing = Hearing(checked(Path(folder)), 1)
    turns, voices = hearing.hear(np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32768), speakers)
    head = ANSWER.pack(len(turns), len(voices), SIZE) + b"".join(TURN.pack(*turn) for turn in turns)
    return head + b"".join(SECONDS.pack(voice.seconds) + voice.sound.tobytes() for voice in voices)


def main(kind: str, file: str, folder: str, parent: str) -> None:
    if Path(file).exists():
        child.main(folder, "1", parent)
        return
    if not die_with_parent(int(parent)):
        return
    stream = socket.socket(fileno=0).makefile("rwb")
    while len(head := stream.read(REQUEST.size)) == REQUEST.size:
        speakers, size = REQUEST.unpack(head)
        pcm = stream.read(size)
        first = not Path(file).exists()
        Path(file).touch()
        if kind == "more" or not first:  # not first: so this one was not replaced
            stream.write(right(folder, pcm, speakers))
        if first:
            stream.write(nonsense("noise" if kind == "more" else kind, size // 2))
        stream.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
