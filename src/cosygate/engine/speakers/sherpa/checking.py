"""Whether a folder's models can tell speakers apart: looked at here, file by file, then tried in a process of its own.

The metadata is what sherpa-onnx 2.0.1 reads when it loads such files, and ends the process without (its csrc).
"""

from __future__ import annotations

from pathlib import Path

from cosygate.engine.folders import trying
from cosygate.engine.folders.checking import check_roles, numbers, wrong
from cosygate.engine.folders.folder import ModelFolder
from cosygate.engine.recognisers.base import RATE, CannotStart

FAMILY = "diarization"
SEGMENTATION, EMBEDDING = "segmentation", "embedding"  # roles of files
_WINDOWS = ("window_size", "receptive_field_size", "receptive_field_shift")  # samples
_CLASSES = ("num_speakers", "powerset_max_classes", "num_classes")
_FRAMEWORKS = ("wespeaker", "3d-speaker", "nemo")
_THRESHOLD = 0.5  # sherpa-onnx's own


def checked(path: Path) -> ModelFolder:
    """Raises CannotStart, which names the file at fault."""
    folder = ModelFolder.read(path)
    if folder.family != FAMILY:
        raise CannotStart(f"{path} has a model of the family {folder.family!r}; speakers take one of {FAMILY!r}")
    check_roles(folder, (SEGMENTATION, EMBEDDING))
    _check_segmentation(folder)
    entries = numbers(folder, EMBEDDING, ("output_dim", "sample_rate"))
    if entries.get("framework") not in _FRAMEWORKS:
        raise wrong(folder, EMBEDDING, entries, "framework")
    if entries["framework"] != "nemo":  # which has others, and the trial tells whether they are there
        numbers(folder, EMBEDDING, ("normalize_samples",))
    if float(entries["sample_rate"]) != RATE:
        raise wrong(folder, EMBEDDING, entries, "sample_rate")
    if "language" not in entries:
        raise wrong(folder, EMBEDDING, entries, "language")
    threshold(folder)
    return folder


def threshold(folder: ModelFolder) -> float:
    """The cosine distance (0 to 2) from which two voices are two: the folder's setting. Raises CannotStart."""
    value = folder.settings.get("threshold", _THRESHOLD)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 2:
        raise CannotStart(f"{folder.path} has the threshold {str(value)[:64]!r}: it is a number between 0 and 2")
    return float(value)


def try_out(folder: ModelFolder, num_threads: int) -> None:
    """Loads both models and lets them hear a second. Raises CannotStart with what sherpa-onnx printed."""
    trying.try_out("cosygate.engine.speakers.sherpa.trial", folder, num_threads)


def _check_segmentation(folder: ModelFolder) -> None:
    entries = numbers(folder, SEGMENTATION, ("sample_rate", *_WINDOWS, *_CLASSES))
    value = {name: float(entries[name].split(",")[0]) for name in ("sample_rate", *_WINDOWS, *_CLASSES)}
    for name in value:
        if value[name] < 1 or value[name] != int(value[name]):
            raise wrong(folder, SEGMENTATION, entries, name)
    if value["sample_rate"] != RATE:
        raise wrong(folder, SEGMENTATION, entries, "sample_rate")
    if value["powerset_max_classes"] > 2:
        raise wrong(folder, SEGMENTATION, entries, "powerset_max_classes")
    count = value["num_speakers"]
    pairs = count * (count - 1) / 2 if value["powerset_max_classes"] == 2 else 0
    if value["num_classes"] != 1 + count + pairs:  # nobody, each alone, each two at once: it would write beyond a table
        raise wrong(folder, SEGMENTATION, entries, "num_classes")
