"""`python -m cosygate.engine.speakers.sherpa.trial FOLDER THREADS PARENT`: the models are loaded and hear a second.

A process of its own, because sherpa-onnx may end it. Status 0: they could be used. Dies with PARENT.
"""

import sys
from pathlib import Path

import numpy as np

from cosygate.engine.recognisers.base import RATE
from cosygate.engine.speakers.sherpa.checking import checked
from cosygate.engine.speakers.sherpa.hearing import Hearing
from cosygate.kit.lineage import die_with_parent


def main(path: str, num_threads: str, parent: str) -> int:
    if not die_with_parent(int(parent)):
        return 1
    noise = (0.1 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32)
    try:
        hearing = Hearing(checked(Path(path)), int(num_threads))
        hearing.hear(noise, 0)
        if not np.any(hearing.sound_of([noise])):
            sys.exit("the embedding of a second of noise is nothing")
    except Exception as error:
        sys.exit(str(error))  # prints it; the stack is of no use to anybody
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
