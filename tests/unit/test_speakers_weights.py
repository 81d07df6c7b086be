"""Reading the speaker encoder's weights: the pinned file, a small one of the same form, and hostile ones."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import types
from typing import Any

import numpy as np
import pytest

from cosygate.engine.models import locate
from cosygate.engine.recognisers.base import CannotStart
from cosygate.engine.speakers.voices import Diariser
from cosygate.engine.speakers.weights import GE2E, read_weights

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def test_the_pinned_file_holds_the_whole_encoder() -> None:
    with locate(GE2E)["encoder"].open("rb") as file:
        weights = read_weights(file)
    for layer, inputs in enumerate([40, 256, 256]):
        assert weights[f"lstm.weight_ih_l{layer}"].shape == (1024, inputs)
        assert weights[f"lstm.weight_hh_l{layer}"].shape == (1024, 256)
        assert weights[f"lstm.bias_ih_l{layer}"].shape == weights[f"lstm.bias_hh_l{layer}"].shape == (1024,)
    assert weights["linear.weight"].shape == (256, 256)
    assert weights["linear.bias"].shape == (256,)
    trained = [array for name, array in weights.items() if name.startswith(("lstm", "linear"))]
    assert all(0.01 < np.abs(array).max() < 100 for array in trained), "numbers, not noise"


def test_missing_weights_are_an_error_that_names_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(CannotStart, match=r"resemblyzer==0\.1\.4"):
        Diariser.load()


class _Storage:
    def __init__(self, key: str, numbers: list[float]) -> None:
        self.key, self.numbers = key, numbers


class _Tensor:
    def __init__(self, *where: Any) -> None:
        self.where = where


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Modules with the two names that torch.save writes: a pickle only refers to them."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})  # type: ignore[attr-defined]

    def _rebuild_tensor_v2() -> None: ...

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return torch


def saved(torch: Any, state: dict[str, Any], storages: list[_Storage]) -> io.BytesIO:
    class Pickler(pickle.Pickler):
        def persistent_id(self, thing: Any) -> Any:
            if isinstance(thing, _Storage):
                return ("storage", torch.FloatStorage, thing.key, "cpu", len(thing.numbers), None)
            return None

        def reducer_override(self, thing: Any) -> Any:
            if isinstance(thing, _Tensor):
                return sys.modules["torch._utils"]._rebuild_tensor_v2, thing.where
            return NotImplemented

    file = io.BytesIO()
    for head in (MAGIC, PROTOCOL, {"little_endian": True}):
        pickle.dump(head, file, 2)
    Pickler(file, 2).dump(state)
    pickle.dump([storage.key for storage in storages], file, 2)
    for storage in storages:
        file.write(struct.pack(f"<q{len(storage.numbers)}f", len(storage.numbers), *storage.numbers))
    file.seek(0)
    return file


def test_tensors_are_cut_from_their_storages_and_the_optimiser_is_left(torch: Any) -> None:
    steps, numbers = _Storage("7", [9.0] * 5), _Storage("8", [0, 1, 2, 3, 4, 5, 6])
    state = {
        "optimizer_state": _Tensor(steps, 0, (5,), (1,), False, {}),
        "model_state": {
            "a": _Tensor(numbers, 1, (2, 3), (3, 1), False, {}),
            "b": _Tensor(numbers, 6, (1,), (1,), False, {}),
        },
    }
    weights = read_weights(saved(torch, state, [steps, numbers]))
    assert {name: array.tolist() for name, array in weights.items()} == {"a": [[1, 2, 3], [4, 5, 6]], "b": [6]}


class _Runs:
    def __reduce__(self) -> Any:
        return print, ("run by a pickle",)


def test_code_in_the_file_is_refused_and_not_run(torch: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(pickle.UnpicklingError, match="may not name"):
        read_weights(saved(torch, {"model_state": {}, "x": _Runs()}, []))
    with pytest.raises(pickle.UnpicklingError, match="may not name"):
        read_weights(io.BytesIO(pickle.dumps(_Runs())))
    assert capsys.readouterr().out == ""


def test_another_kind_of_file_is_refused() -> None:
    with pytest.raises(pickle.UnpicklingError, match="old form"):
        read_weights(io.BytesIO(pickle.dumps(MAGIC) + pickle.dumps(1002)))
