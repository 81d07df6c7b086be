"""`python -m cosygate.engine.words.child PARENT`: finds the words of a known text in English speech.

A process of its own, because pocketsphinx holds Python's lock while it works. Descriptor 0 is a socket; over it, any
number of times, for PARENT (a pid), with which it ends:
    to us    REQUEST, as many bytes of UTF-8 (the words, parted by line feeds) and as many of s16le (mono, 16 kHz)
    from us  LIKENESS (of aligning.Aligned; NaN: not known), then a PLACE for every word: start and end in seconds, NaN
             where it was not found
"""

from __future__ import annotations

import math
import signal
import socket
import struct
import sys

from cosygate.kit.lineage import die_with_parent

REQUEST = struct.Struct("<II")
LIKENESS = struct.Struct("<f")
PLACE = struct.Struct("<ff")


def main(parent: int) -> None:
    if not die_with_parent(parent):
        return
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)  # the parent decides, by closing the socket
    from cosygate.engine.words.forced import ForcedAlignment

    alignment = ForcedAlignment()
    with socket.socket(fileno=0) as link, link.makefile("rwb") as stream:
        while len(head := stream.read(REQUEST.size)) == REQUEST.size:
            text_size, pcm_size = REQUEST.unpack(head)
            words = stream.read(text_size).decode().split("\n")
            found = alignment.find(words, stream.read(pcm_size))
            stream.write(LIKENESS.pack(math.nan if found.likeness is None else found.likeness))
            for place in found.places:
                stream.write(PLACE.pack(*(place or (math.nan, math.nan))))
            stream.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
