"""`python -m cosygate.engine.speakers.sherpa.trial FOLDER THREADS PARENT`: the models are loaded and hear speech.

A process of its own, because sherpa-onnx may end it. Status 0: they could be used. Dies with PARENT. The speech,
speech.wav, is the first words of samples/note.wav.
"""

import sys
import wave
from pathlib import Path

import numpy as np

from cosygate.engine.folders.folder import ModelFolder
from cosygate.engine.recognisers.base import RATE, Samples
from cosygate.engine.speakers.sherpa.checking import EMBEDDING, SEGMENTATION, checked
from cosygate.engine.speakers.sherpa.hearing import Hearing
from cosygate.kit.lineage import die_with_parent

_SPEECH = Path(__file__).with_name("speech.wav")
_BEFORE, _AFTER = 9 * RATE, 3 * RATE // 2  # samples of silence: more than a window in all, and late a wrong step shows
_SLACK = RATE  # samples that a turn may begin too early or end too late


def main(path: str, num_threads: str, parent: str) -> int:
    if not die_with_parent(int(parent)):
        return 1
    try:
        folder = checked(Path(path))
        if why := _why_not(folder, Hearing(folder, int(num_threads))):
            sys.exit(why)
    except Exception as error:
        sys.exit(str(error))  # prints it; the stack is of no use to anybody
    return 0


def _why_not(folder: ModelFolder, hearing: Hearing) -> str:
    """Empty when the models can be used. Raises ValueError when embeddings are not as long as they should be."""
    speech = _speech()
    if not np.any(hearing.sound_of([speech])):  # first: sherpa-onnx writes by the length that the metadata tells
        return f"{folder.files[EMBEDDING]}: the embedding of speech is nothing"
    turns, voices = hearing.hear(np.concatenate([np.zeros(_BEFORE), speech, np.zeros(_AFTER)]).astype(np.float32), 0)
    if not turns or not any(np.any(voice.sound) for voice in voices):
        return f"{folder.files[SEGMENTATION]}: nobody is heard where somebody speaks"
    start, end = turns[0][0], turns[-1][1]
    if start < _BEFORE - _SLACK or end > _BEFORE + len(speech) + _SLACK:
        return (
            f"{folder.files[SEGMENTATION]}: speech from {_BEFORE / RATE:.1f} s to {(_BEFORE + len(speech)) / RATE:.1f}"
            f" s is heard from {start / RATE:.1f} s to {end / RATE:.1f} s; is receptive_field_shift wrong?"
        )
    return ""


def _speech() -> Samples:
    with wave.open(str(_SPEECH)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / np.float32(32768)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
