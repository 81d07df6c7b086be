"""Folders with tiny models for what an engine tells beside its recogniser: speakers, punctuation. As tiny_models."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support.tiny_onnx import FLOAT, INT32, describe, entries, node, save

_RATE, _FBANK = 16_000, 80
BANDS = (300, 3000)  # Hz
_AFTER = {"好": "。", "吗": "？", "天": "，", "world": "，", "day": "。", "是": "、"}
TOKENS = ("<unk>", *"你好吗今天是", "hello", "world", "fine", "day")
_MARKS = ("<unk>", "_", "，", "。", "？", "、")


def diarization(
    folder: Path, *, threshold: float = 0.5, quiet: float = 0.004, embedding: object = None, **metadata: object
) -> Path:
    """Hears a speaker wherever there is sound at one of BANDS, two when there is at both: tones, since neither is a
    voice. An embedding is the colour of a sound. `quiet`: the level that is no sound yet. `metadata`: of the
    segmentation; `embedding`: a dict of its."""
    field, shift, kernel = 991, 270, 160  # samples
    classes = np.zeros((2, 7), np.float32)
    classes[0, [1, 4]] = classes[1, [2, 4]] = 1  # nobody, each of three alone, each two of them
    times = np.arange(kernel) / _RATE
    tones = np.stack([np.cos(2 * np.pi * band * times) for band in BANDS])[:, None].astype(np.float32) / kernel
    mean = np.zeros((2, 2, field), np.float32)
    mean[0, 0] = mean[1, 1] = 1 / field
    save(
        folder / "segmentation.onnx",
        [
            node("Conv", ["x", "tones"], ["bands"], kernel_shape=[kernel], pads=[kernel // 2, kernel // 2 - 1]),
            node("Abs", ["bands"], ["level"]),
            node("Conv", ["level", "mean"], ["levels"], kernel_shape=[field], strides=[shift]),
            node("Transpose", ["levels"], ["frames"], perm=[0, 2, 1]),
            node("Sub", ["frames", "quiet"], ["over"]),
            node("MatMul", ["over", "classes"], ["scores"]),
            node("Add", ["scores", "never"], ["y"]),
        ],
        {"x": (FLOAT, ["N", 1, "S"])},
        {"y": (FLOAT, ["N", "T", 7])},
        {
            "tones": tones,
            "mean": mean,
            "quiet": np.float32(quiet),
            "classes": classes,
            "never": np.array([0, 0, 0, -9, 0, -9, -9], np.float32),
        },
        {
            **entries(model_type="pyannote-segmentation-3.0", version=1, sample_rate=_RATE, window_size=160_000),
            **entries(receptive_field_size=field, receptive_field_shift=shift, num_speakers=3),
            **entries(powerset_max_classes=2, num_classes=7),
            **metadata,
        },
    )
    rng = np.random.default_rng(2)
    right = entries(framework="wespeaker", language="English", output_dim=32, sample_rate=_RATE, normalize_samples=0)
    save(
        folder / "embedding.onnx",
        [
            node("ReduceMean", ["x"], ["loudness"], axes=[2], keepdims=1),
            node("Sub", ["x", "loudness"], ["shape"]),
            node("ReduceMean", ["shape"], ["colour"], axes=[1], keepdims=0),
            node("MatMul", ["colour", "w"], ["embs"]),
        ],
        {"x": (FLOAT, ["N", "T", _FBANK])},
        {"embs": (FLOAT, ["N", 32])},
        {"w": rng.normal(size=(_FBANK, 32)).astype(np.float32)},
        right | (embedding if isinstance(embedding, dict) else {}),
    )
    files = {"segmentation": "segmentation.onnx", "embedding": "embedding.onnx"}
    return describe(folder, "diarization", ["*"], ["speakers"], files, {"threshold": threshold})


def punctuation(folder: Path, **metadata: object) -> Path:
    """Puts after each of TOKENS what _AFTER says, and a full stop at the end. `metadata`: other than right."""
    table = np.zeros((len(TOKENS), len(_MARKS)), np.float32)
    for number, token in enumerate(TOKENS):
        table[number, _MARKS.index(_AFTER.get(token, "_"))] = 1
    right = entries(tokens="|".join(TOKENS), vocab_size=len(TOKENS), punctuations="|".join(_MARKS), unk_symbol="<unk>")
    save(
        folder / "model.onnx",
        [node("Gather", ["table", "inputs"], ["logits"])],
        {"inputs": (INT32, ["N", "T"]), "text_lengths": (INT32, ["N"])},
        {"logits": (FLOAT, ["N", "T", len(_MARKS)])},
        {"table": table},
        right | metadata,
    )
    return describe(folder, "punctuation", ["zh", "en"], ["punctuation"], {"model": "model.onnx"})
