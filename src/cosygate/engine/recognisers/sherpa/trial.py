"""`python -m cosygate.engine.recognisers.sherpa.trial FOLDER THREADS PARENT`: loads a model and lets it hear a second.

A process of its own, because sherpa-onnx may end it. Status 0: it could be used. Dies with PARENT.
"""

import sys
import threading
from pathlib import Path

import numpy as np

from cosygate.engine.folders.folder import ModelFolder
from cosygate.engine.recognisers.base import RATE, Hints
from cosygate.engine.recognisers.sherpa.checking import checked
from cosygate.engine.recognisers.sherpa.families import FAMILIES, Variant
from cosygate.kit.lineage import die_with_parent


def main(path: str, num_threads: str, parent: str) -> int:
    if not die_with_parent(int(parent)):
        return 1
    folder = checked(ModelFolder.read(Path(path)))
    tone = (0.1 * np.sin(np.arange(RATE) * 0.2)).astype(np.float32)
    try:
        for hotwords in {False, "hotwords" in folder.capabilities}:
            ear = FAMILIES[folder.family].load(folder, Variant(hotwords=hotwords), int(num_threads))
            ear.hear(tone, Hints(folder.name), threading.Event())
    except Exception as error:
        sys.exit(str(error))  # prints it; the stack is of no use to anybody
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
