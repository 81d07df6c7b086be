"""Whether a folder's models can tell speakers apart: looked at here, file by file, then tried in a process of its own.

The metadata is what sherpa-onnx 2.0.1 reads when it loads such files, and ends the process without (its csrc). It lays
out its tables by these numbers and writes beyond them when they are wrong, so each has bounds.
"""

from __future__ import annotations

from pathlib import Path

from cosygate.engine.folders import trying
from cosygate.engine.folders.checking import check_roles, numbers, whole, wrong
from cosygate.engine.folders.folder import ModelFolder
from cosygate.engine.recognisers.base import RATE, CannotStart

FAMILY = "diarization"
SEGMENTATION, EMBEDDING = "segmentation", "embedding"  # roles of files
DIMENSIONS = "output_dim"  # metadata
_WINDOW_MOST = 60 * RATE  # samples: pyannote's hear ten seconds at once
_SPEAKERS_MOST = 32  # that a window can tell apart: pyannote's three
_DIMENSIONS_MOST = 4096  # there are models of 192, 256 and 512
_FRAMEWORKS = ("wespeaker", "3d-speaker", "nemo")
_THRESHOLD = 0.5  # sherpa-onnx's own


def checked(path: Path) -> ModelFolder:
    """Raises CannotStart, which names the file at fault."""
    folder = ModelFolder.read(path)
    if folder.family != FAMILY:
        raise CannotStart(f"{path} has a model of the family {folder.family!r}; speakers take one of {FAMILY!r}")
    check_roles(folder, (SEGMENTATION, EMBEDDING))
    _check_segmentation(folder)
    dimensions(folder)
    entries = folder.metadata(EMBEDDING)
    if entries.get("framework") not in _FRAMEWORKS:
        raise wrong(folder, EMBEDDING, entries, "framework")
    if entries["framework"] != "nemo":  # which has others, and the trial tells whether they are there
        numbers(folder, EMBEDDING, ("normalize_samples",))
    whole(folder, EMBEDDING, entries, "sample_rate", RATE, RATE)
    if "language" not in entries:
        raise wrong(folder, EMBEDDING, entries, "language")
    threshold(folder)
    return folder


def dimensions(folder: ModelFolder) -> int:
    """The numbers of an embedding, as the model says; the trial tells whether it is true. Raises CannotStart."""
    return whole(folder, EMBEDDING, folder.metadata(EMBEDDING), DIMENSIONS, 1, _DIMENSIONS_MOST)


def threshold(folder: ModelFolder) -> float:
    """The cosine distance (0 to 2) from which two voices are two: the folder's setting. Raises CannotStart."""
    value = folder.settings.get("threshold", _THRESHOLD)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 2:
        raise CannotStart(f"{folder.path} has the threshold {str(value)[:64]!r}: it is a number between 0 and 2")
    return float(value)


def try_out(folder: ModelFolder, num_threads: int) -> None:
    """Loads both models and lets them hear speech. Raises CannotStart with what sherpa-onnx printed."""
    trying.try_out("cosygate.engine.speakers.sherpa.trial", folder, num_threads)


def _check_segmentation(folder: ModelFolder) -> None:
    entries = folder.metadata(SEGMENTATION)

    def value(name: str, least: int, most: int) -> int:
        return whole(folder, SEGMENTATION, entries, name, least, most)

    value("sample_rate", RATE, RATE)
    window = value("window_size", RATE, _WINDOW_MOST)  # a tenth of it is a step
    field = value("receptive_field_size", 1, window)
    value("receptive_field_shift", 1, field)  # more would leave gaps
    count = value("num_speakers", 1, _SPEAKERS_MOST)
    together = value("powerset_max_classes", 1, 2)
    # Nobody, each alone, each two at once: it would write beyond a table.
    classes = 1 + count + (count * (count - 1) // 2 if together == 2 else 0)
    value("num_classes", classes, classes)
