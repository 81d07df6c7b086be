"""Folders of diarization: what is damaged or does not fit is refused with the name of the file, before it is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cosygate.engine.recognisers.base import CannotStart
from cosygate.engine.speakers.sherpa.checking import checked, threshold, try_out
from tests.support import tiny_extras

DESCRIPTION = "cosygate-model.json"


def said(folder: Path, **members: object) -> None:
    whole = json.loads((folder / DESCRIPTION).read_text()) | members
    (folder / DESCRIPTION).write_text(json.dumps(whole))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def wrong(**metadata: object) -> Callable[[Path], object]:
    return lambda folder: tiny_extras.diarization(folder, **metadata)  # type: ignore[arg-type]


def wrong_embedding(**metadata: object) -> Callable[[Path], object]:
    return lambda folder: tiny_extras.diarization(folder, embedding=metadata)


def test_a_good_folder_passes_and_can_be_loaded(tmp_path: Path) -> None:
    folder = checked(tiny_extras.diarization(tmp_path))
    try_out(folder, 2)
    assert threshold(folder) == 0.5
    said(tmp_path, settings={})
    assert threshold(checked(tmp_path)) == 0.5


@pytest.mark.parametrize(
    ("damage", "names", "says"),
    [
        (lambda p: (p / DESCRIPTION).unlink(), DESCRIPTION, "No such file"),
        (lambda p: said(p, family="moonshine"), "", "family 'moonshine'; speakers take one of 'diarization'"),
        (lambda p: said(p, files={"segmentation": "segmentation.onnx"}), "", "no file as 'embedding'"),
        (lambda p: said(p, settings={"threshold": 2}), "", "threshold '2'"),
        (lambda p: said(p, settings={"threshold": "low"}), "", "threshold 'low'"),
        (lambda p: said(p, settings={"threshold": True}), "", "threshold 'True'"),
        (lambda p: (p / "embedding.onnx").unlink(), "embedding.onnx", "cannot be read"),
        (lambda p: cut(p / "segmentation.onnx"), "segmentation.onnx", "cut off"),
        (lambda p: cut(p / "embedding.onnx"), "embedding.onnx", "cut off"),
        (wrong(window_size=None), "segmentation.onnx", "has nothing as window_size"),
        (wrong(window_size="ten"), "segmentation.onnx", "has 'ten' as window_size"),
        (wrong(receptive_field_shift=0), "segmentation.onnx", "has '0' as receptive_field_shift"),
        (wrong(sample_rate=8000), "segmentation.onnx", "has '8000' as sample_rate"),
        (wrong(num_classes=6), "segmentation.onnx", "has '6' as num_classes"),
        (wrong(powerset_max_classes=3), "segmentation.onnx", "has '3' as powerset_max_classes"),
        (wrong_embedding(framework=None), "embedding.onnx", "has nothing as framework"),
        (wrong_embedding(framework="kaldi"), "embedding.onnx", "has 'kaldi' as framework"),
        (wrong_embedding(normalize_samples=None), "embedding.onnx", "has nothing as normalize_samples"),
        (wrong_embedding(output_dim=None), "embedding.onnx", "has nothing as output_dim"),
        (wrong_embedding(sample_rate=8000), "embedding.onnx", "has '8000' as sample_rate"),
        (wrong_embedding(language=None), "embedding.onnx", "has nothing as language"),
    ],
)
def test_what_is_damaged_is_refused_by_name(
    damage: Callable[[Path], object], names: str, says: str, tmp_path: Path
) -> None:
    folder = tiny_extras.diarization(tmp_path)
    damage(folder)
    with pytest.raises(CannotStart, match=says) as refused:
        checked(folder)
    assert str(folder / names) in str(refused.value)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (wrong(window_size=100), "status"),  # less than the model's own field
        (wrong_embedding(framework="nemo"), "status"),  # which needs more metadata, and sherpa-onnx ends the process
    ],
)
def test_what_only_loading_shows_costs_a_process_of_its_own(
    make: Callable[[Path], Path], says: str, tmp_path: Path
) -> None:
    with pytest.raises(CannotStart, match=says) as refused:
        try_out(checked(make(tmp_path)), 1)
    assert str(tmp_path) in str(refused.value)
    assert len(str(refused.value)) < 1500
