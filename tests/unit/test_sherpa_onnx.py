"""Metadata of ONNX files, read without a library: the same as the library reads, and nothing of what is damaged."""

from __future__ import annotations

import contextlib
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from cosygate.engine.folders.onnx import metadata
from cosygate.engine.models import SILERO_VAD, locate
from tests.support import tiny_models


def library(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.whisper(tmp_path_factory.mktemp("whisper"))


def test_is_what_the_library_reads(folder: Path, tmp_path: Path) -> None:
    sense_voice = tiny_models.sense_voice(tmp_path) / "model.onnx"
    for path in (sense_voice, folder / "encoder.onnx", folder / "decoder.onnx", locate(SILERO_VAD)["model"]):
        assert metadata(path) == library(path)
    assert len(metadata(sense_voice)["neg_mean"].split(",")) == 560


def test_entries_may_come_before_the_graph(folder: Path, tmp_path: Path) -> None:
    model = onnx.load(folder / "encoder.onnx")
    entries = onnx.ModelProto(metadata_props=model.metadata_props)
    del model.metadata_props[:]
    path = tmp_path / "model.onnx"
    path.write_bytes(entries.SerializeToString() + model.SerializeToString())
    assert metadata(path) == library(folder / "encoder.onnx")


def test_a_file_that_is_cut_off_anywhere_is_not_taken_for_whole(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "encoder.onnx").read_bytes()
    wanted = metadata(folder / "encoder.onnx")
    path = tmp_path / "model.onnx"
    refused = 0
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        try:
            assert metadata(path) != wanted
        except ValueError:
            refused += 1
    assert refused > 0.9 * len(whole)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not an ONNX model"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "cut off|not an ONNX model"),
        (b"<!DOCTYPE html><html></html>", "cut off|not an ONNX model"),
        (b"\x08" * 250_000, "too many parts"),
        (b"\xff" * 100, "not an ONNX model"),
        (b"\x3a" + b"\xff" * 9 + b"\x01", "cut off"),  # a graph of 16 EiB
    ],
)
def test_what_is_no_model_is_refused(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=says):
        metadata(path)


def test_metadata_without_end_is_refused(folder: Path, tmp_path: Path) -> None:
    model = onnx.load(folder / "encoder.onnx")
    helper.set_model_props(model, {f"entry{number}": "x" * (1 << 20) for number in range(17)})
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="too long"):
        metadata(tmp_path / "model.onnx")


@given(st.binary(max_size=200))
def test_whatever_comes_there_is_an_answer(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(content)
    with contextlib.suppress(ValueError):
        assert isinstance(metadata(path), dict)
