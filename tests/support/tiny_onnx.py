"""Writing models that tests make up: ONNX files with metadata, lists of tokens, and what a folder says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64
_IR, _OPSET = 8, 13
Tensors = Mapping[str, tuple[int, Sequence[Any]]]  # by name: the type, and the shape with names for what varies

node = helper.make_node


def describe(
    folder: Path,
    family: str,
    languages: Sequence[str],
    capabilities: Sequence[str],
    files: Mapping[str, str],
    settings: Mapping[str, object] | None = None,
) -> Path:
    """Writes cosygate-model.json; returns the folder."""
    said = {"name": f"tiny-{family}", "family": family, "languages": languages, "capabilities": capabilities}
    text = json.dumps({**said, "files": files, "settings": settings or {}})
    (folder / "cosygate-model.json").write_text(text)
    return folder


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Tensors,
    outputs: Tensors,
    constants: Mapping[str, ArrayLike],
    metadata: Mapping[str, object],
) -> None:
    """Inputs and outputs go to the nodes by their names, as `constants` do. Metadata that is None is left out."""
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(name, *told) for name, told in inputs.items()],
        [helper.make_tensor_value_info(name, *told) for name, told in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    helper.set_model_props(model, {name: str(value) for name, value in metadata.items() if value is not None})
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())


def write_tokens(folder: Path, tokens: Sequence[str]) -> None:
    (folder / "tokens.txt").write_text("".join(f"{token} {number}\n" for number, token in enumerate(tokens)))


def entries(**metadata: object) -> dict[str, object]:
    return metadata
