"""Folders of diarization: what is damaged or does not fit is refused with the name of the file, before it is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cosygate.engine.folders import trying
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
        (wrong(window_size=100), "segmentation.onnx", "has '100' as window_size"),
        (wrong(window_size=160_000_000), "segmentation.onnx", "has '160000000' as window_size"),
        (wrong(window_size="1.6e5"), "segmentation.onnx", "has '1.6e5' as window_size"),
        (wrong(window_size="1" + "0" * 5000), "segmentation.onnx", "has '10+' as window_size"),
        (wrong(window_size="160000,2"), "segmentation.onnx", "has '160000,2' as window_size"),
        (wrong(receptive_field_size=160_001), "segmentation.onnx", "has '160001' as receptive_field_size"),
        (wrong(receptive_field_shift=0), "segmentation.onnx", "has '0' as receptive_field_shift"),
        (wrong(receptive_field_shift=10**9), "segmentation.onnx", "has '1000000000' as receptive_field_shift"),
        (wrong(receptive_field_shift=992), "segmentation.onnx", "has '992' as receptive_field_shift"),
        (wrong(num_speakers="0_3"), "segmentation.onnx", "has '0_3' as num_speakers"),
        (wrong(num_speakers="٣"), "segmentation.onnx", "has '٣' as num_speakers"),
        (wrong(num_speakers=" 3"), "segmentation.onnx", "has ' 3' as num_speakers"),
        (wrong(num_speakers=33, num_classes=562), "segmentation.onnx", "has '33' as num_speakers"),
        (wrong(sample_rate=8000), "segmentation.onnx", "has '8000' as sample_rate"),
        (wrong(num_classes=6), "segmentation.onnx", "has '6' as num_classes"),
        (wrong(powerset_max_classes=3), "segmentation.onnx", "has '3' as powerset_max_classes"),
        (wrong_embedding(framework=None), "embedding.onnx", "has nothing as framework"),
        (wrong_embedding(framework="kaldi"), "embedding.onnx", "has 'kaldi' as framework"),
        (wrong_embedding(normalize_samples=None), "embedding.onnx", "has nothing as normalize_samples"),
        (wrong_embedding(output_dim=None), "embedding.onnx", "has nothing as output_dim"),
        (wrong_embedding(normalize_samples="0_1"), "embedding.onnx", "has '0_1' as normalize_samples"),
        (wrong_embedding(output_dim=0), "embedding.onnx", "has '0' as output_dim"),
        (wrong_embedding(output_dim="3_2"), "embedding.onnx", "has '3_2' as output_dim"),
        (wrong_embedding(output_dim=10**9), "embedding.onnx", "has '1000000000' as output_dim"),
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
        (wrong_embedding(output_dim=16), "embedding.onnx gives embeddings of 32 numbers.* says 16 as output_dim"),
        (wrong_embedding(output_dim=64), "embedding.onnx gives embeddings of 32 numbers.* says 64 as output_dim"),
        (wrong(receptive_field_shift=300), "receptive_field_shift wrong|status -"),  # it writes beyond a table
        (wrong(receptive_field_shift=220), "segmentation.onnx: speech from 9.0 s .* is receptive_field_shift wrong"),
        (lambda p: tiny_extras.diarization(p, quiet=10), "segmentation.onnx: nobody is heard where somebody speaks"),
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


def test_loading_has_bounds_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checked(tiny_extras.diarization(tmp_path))
    monkeypatch.setattr(trying, "_MEMORY", 16 << 20)
    with pytest.raises(CannotStart, match="cannot be used: loading it ended with status"):
        try_out(folder, 1)
