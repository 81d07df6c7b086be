"""`python -m cosygate.engine.speakers.sherpa.child FOLDER THREADS PARENT`: tells who spoke when in a chunk of speech.

A process of its own, because sherpa-onnx holds Python's lock while it works, and may end the process. Descriptor 0 is a
socket; over it, any number of times, for PARENT (a pid), with which it ends, come the requests of asking.py.
"""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

from cosygate.kit.lineage import die_with_parent


def main(path: str, num_threads: str, parent: str) -> None:
    if not die_with_parent(int(parent)):
        return
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)  # the parent decides, by closing the socket
    import numpy as np

    from cosygate.engine.speakers.sherpa.asking import ANSWER, REQUEST, SECONDS, TURN
    from cosygate.engine.speakers.sherpa.checking import checked
    from cosygate.engine.speakers.sherpa.hearing import Hearing

    hearing = Hearing(checked(Path(path)), int(num_threads))
    with socket.socket(fileno=0) as link, link.makefile("rwb") as stream:
        while len(head := stream.read(REQUEST.size)) == REQUEST.size:
            speakers, size = REQUEST.unpack(head)
            samples = np.frombuffer(stream.read(size), "<i2").astype(np.float32) / np.float32(32768)
            turns, voices = hearing.hear(samples, speakers)
            size = len(voices[0].sound) if voices else hearing.dimensions
            if any(len(voice.sound) != size for voice in voices):
                raise ValueError("embeddings of several lengths")  # it ends, and the parent takes another
            stream.write(ANSWER.pack(len(turns), len(voices), size))
            for turn in turns:
                stream.write(TURN.pack(*turn))
            for voice in voices:
                stream.write(SECONDS.pack(voice.seconds) + voice.sound.astype("<f4").tobytes())
            stream.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
