"""Model folders with tiny random weights that sherpa-onnx loads through its real code. 30 KB each, the same every time.

What they hear is garbage, or always the same; but every field is filled, and what a test can rely on is said with each.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tests.support.tiny_onnx import FLOAT, INT32, INT64, describe, entries, node, save, write_tokens

_FBANK, _LFR = 80, 560  # features of a frame; of seven together, as SenseVoice and Paraformer take them
WORDS = [
    *("▁hello", "▁this", "▁is", "▁a", "▁tiny", "▁model", "▁with", "▁ran", "dom", "▁words", "▁and", "▁noise", "▁so"),
    *("▁it", "▁says", "▁some", "thing"),
]
_LANGUAGES = {"auto": 0, "zh": 3, "en": 4, "yue": 7, "ja": 11, "ko": 12, "nospeech": 13}
_WITH_ITN, _WITHOUT_ITN = 14, 15
_TAGS = [
    *("<|zh|>", "<|en|>", "<|yue|>", "<|ja|>", "<|ko|>", "<|nospeech|>", "<|HAPPY|>", "<|SAD|>", "<|ANGRY|>"),
    *("<|NEUTRAL|>", "<|EMO_UNKNOWN|>", "<|BGM|>", "<|Speech|>", "<|Applause|>", "<|Laughter|>"),
    *("<|withitn|>", "<|woitn|>"),
]


def sense_voice(folder: Path, **metadata: object) -> Path:
    """Language: as asked, `auto` is English. Emotion, of noise: sad (0.001), neutral (0.01) or angry (0.1). Event: when
    angry, laughter. With itn nothing is heard but 'thing'. `metadata`: other than right."""
    rng = np.random.default_rng(0)
    tokens = ["<blank>", *WORDS, *_TAGS]
    ids = {token: number for number, token in enumerate(tokens)}

    def rows(names: Sequence[str]) -> ArrayLike:
        table = np.full((len(names), len(tokens)), -10, np.float32)
        table[np.arange(len(names)), [ids[name] for name in names]] = 10
        return table

    by_id = {number: f"<|{language}|>" for language, number in _LANGUAGES.items() if number}
    weights = rng.normal(size=(_LFR, len(tokens))).astype(np.float32)
    bias = np.zeros(len(tokens), np.float32)
    weights[:, [ids[tag] for tag in _TAGS]] = 0
    bias[[ids[tag] for tag in _TAGS]] = -1e4  # tags come from the tables only
    bias[0] = 25  # blanks, or there would be a word in every frame
    biases = np.tile(bias, (16, 1))
    biases[_WITH_ITN, ids["thing"]] = 1e4
    constants = {
        "w": weights,
        "b": biases,
        "languages": rows([by_id.get(number, "<|en|>") for number in range(16)]),
        "norms": rows(["<|withitn|>" if number == _WITH_ITN else "<|woitn|>" for number in range(16)]),
        "emotions": rows(["<|SAD|>", "<|NEUTRAL|>", "<|ANGRY|>"]),
        "events": rows(["<|Speech|>", "<|Speech|>", "<|Laughter|>"]),
        "one": np.array([1], np.int64),
        "frames": np.array([1, 2], np.int64),
        "dim": np.float32(_LFR),
        "quiet": np.float32(0.3),
        "loud": np.float32(0.75),
    }
    nodes = [
        node("ReduceSum", ["x", "frames"], ["sum"], keepdims=0),  # padding is 0
        node("Cast", ["x_length"], ["length"], to=FLOAT),
        node("Mul", ["length", "dim"], ["count"]),
        node("Div", ["sum", "count"], ["level"]),
        node("Greater", ["level", "quiet"], ["not_quiet"]),
        node("Greater", ["level", "loud"], ["is_loud"]),
        node("Cast", ["not_quiet"], ["first"], to=INT64),
        node("Cast", ["is_loud"], ["second"], to=INT64),
        node("Add", ["first", "second"], ["mood"]),
        node("Gather", ["languages", "language"], ["tag0"]),
        node("Gather", ["emotions", "mood"], ["tag1"]),
        node("Gather", ["events", "mood"], ["tag2"]),
        node("Gather", ["norms", "text_norm"], ["tag3"]),
        *(node("Unsqueeze", [f"tag{i}", "one"], [f"row{i}"]) for i in range(4)),
        node("MatMul", ["x", "w"], ["scores"]),
        node("Gather", ["b", "text_norm"], ["bias"]),
        node("Unsqueeze", ["bias", "one"], ["every"]),
        node("Add", ["scores", "every"], ["heard"]),
        node("Concat", ["row0", "row1", "row2", "row3", "heard"], ["logits"], axis=1),
    ]
    right = {
        **entries(model_type="sense_voice_ctc", vocab_size=len(tokens), with_itn=_WITH_ITN, without_itn=_WITHOUT_ITN),
        **{f"lang_{language}": number for language, number in _LANGUAGES.items()},
        **_lfr(-10, 0.25),
    }
    inputs = {"x": (FLOAT, ["N", "T", _LFR]), "x_length": (INT32, ["N"])}
    inputs |= {"language": (INT32, ["N"]), "text_norm": (INT32, ["N"])}
    outputs = {"logits": (FLOAT, ["N", "L", len(tokens)])}
    save(folder / "model.onnx", nodes, inputs, outputs, constants, right | metadata)
    write_tokens(folder, tokens)
    files = {"model": "model.onnx", "tokens": "tokens.txt"}
    tells = ["words", "language", "emotion", "events", "punctuation", "itn"]
    return describe(folder, "sense_voice", ["zh", "en", "ja", "ko", "yue"], tells, files)


def paraformer(folder: Path, **metadata: object) -> Path:
    """Chinese characters, and English words in parts, a token every 60 ms."""
    rng = np.random.default_rng(1)
    tokens = ["<blank>", "<s>", "</s>", "你", "好", "世", "界", "hel@@", "lo", "yes"]
    bias = np.array([-1e4] * 3 + [0] * (len(tokens) - 3), np.float32)
    constants = {
        "w": rng.normal(size=(_LFR, len(tokens))).astype(np.float32),
        "b": bias,
        "zero": np.float32(0),
        "peak": np.array([1, 0, 0], np.float32),
        "flat": np.array([0, -1], np.int64),
        "end": np.array([[1]], np.float32),
    }
    nodes = [
        node("MatMul", ["speech", "w"], ["scores"]),
        node("Add", ["scores", "b"], ["logits"]),
        node("Identity", ["speech_lengths"], ["token_num"]),
        node("ReduceMax", ["logits"], ["best"], axes=[2], keepdims=1),
        node("Mul", ["best", "zero"], ["none"]),
        node("Add", ["none", "peak"], ["peaks"]),
        node("Reshape", ["peaks", "flat"], ["us_alphas"]),
        node("Concat", ["us_alphas", "end"], ["us_cif_peak"], axis=1),
    ]
    inputs = {"speech": (FLOAT, ["N", "T", _LFR]), "speech_lengths": (INT32, ["N"])}
    outputs = {
        "logits": (FLOAT, ["N", "T", len(tokens)]),
        "token_num": (INT32, ["N"]),
        "us_alphas": (FLOAT, ["N", "P"]),
        "us_cif_peak": (FLOAT, ["N", "Q"]),
    }
    right = {"vocab_size": len(tokens), **_lfr(-10, 0.25)}
    save(folder / "model.onnx", nodes, inputs, outputs, constants, right | metadata)
    write_tokens(folder, tokens)
    files = {"paraformer": "model.onnx", "tokens": "tokens.txt"}
    return describe(folder, "paraformer", ["zh", "en"], ["words"], files)


def zipformer(folder: Path, *, hotwords: bool = True, **metadata: object) -> Path:
    """Words in every frame of 40 ms; 'model' is one that it hears where it is made to. `metadata`: of the encoder."""
    rng = np.random.default_rng(1)
    tokens = ["<blk>", "<sos/eos>", "<unk>", *WORDS, *(f"▁{c}" for c in "almnop"), *"dehimnost"]
    joined, dim, kernel, left, chunk, ahead = 16, 16, 15, 64, 32, 13
    states: dict[str, tuple[int, list[Any]]] = {
        "cached_key_0": (FLOAT, [left, "N", 8]),
        "cached_nonlin_attn_0": (FLOAT, [1, "N", left, 3 * dim // 4]),
        "cached_val1_0": (FLOAT, [left, "N", 8]),
        "cached_val2_0": (FLOAT, [left, "N", 8]),
        "cached_conv1_0": (FLOAT, ["N", dim, kernel // 2]),
        "cached_conv2_0": (FLOAT, ["N", dim, kernel // 2]),
        "embed_states": (FLOAT, ["N", 128, 3, 19]),
        "processed_lens": (INT64, ["N"]),
    }
    constants: dict[str, ArrayLike] = {
        "w": rng.normal(size=(_FBANK, joined)).astype(np.float32),
        "starts": np.array([0], np.int64),
        "ends": np.array([chunk], np.int64),
        "axes": np.array([1], np.int64),
        "steps": np.array([4], np.int64),
        "step": np.array([chunk // 2], np.int64),
    }
    nodes = [
        node("Slice", ["x", "starts", "ends", "axes", "steps"], ["few"]),
        node("MatMul", ["few", "w"], ["scores"]),
        node("Tanh", ["scores"], ["encoder_out"]),
        *(node("Identity", [name], [f"new_{name}"]) for name in states if name != "processed_lens"),
        node("Add", ["processed_lens", "step"], ["new_processed_lens"]),
    ]
    right = {
        **entries(model_type="zipformer2", encoder_dims=dim, query_head_dims=4, value_head_dims=4, num_heads=2),
        **entries(num_encoder_layers=1, cnn_module_kernels=kernel, left_context_len=left),
        **entries(T=chunk + ahead, decode_chunk_len=chunk),
    }
    inputs = {"x": (FLOAT, ["N", chunk + ahead, _FBANK]), **states}
    outputs = {"encoder_out": (FLOAT, ["N", "T", joined]), **{f"new_{name}": state for name, state in states.items()}}
    save(folder / "encoder.onnx", nodes, inputs, outputs, constants, right | metadata)
    save(
        folder / "decoder.onnx",
        [node("Gather", ["e", "y"], ["both"]), node("ReduceMean", ["both"], ["decoder_out"], axes=[1], keepdims=0)],
        {"y": (INT64, ["N", 2])},
        {"decoder_out": (FLOAT, ["N", joined])},
        {"e": rng.normal(size=(len(tokens), joined)).astype(np.float32)},
        {"vocab_size": len(tokens), "context_size": 2},
    )
    bias = np.full(len(tokens), -1e4, np.float32)  # letters are for spelling hotwords
    bias[: 3 + len(WORDS)] = [3, -1e4, -1e4, *np.zeros(len(WORDS))]
    save(
        folder / "joiner.onnx",
        [
            node("Add", ["encoder_out", "decoder_out"], ["sum"]),
            node("Tanh", ["sum"], ["bent"]),
            node("MatMul", ["bent", "w"], ["scores"]),
            node("Add", ["scores", "b"], ["logit"]),
        ],
        {"encoder_out": (FLOAT, ["N", joined]), "decoder_out": (FLOAT, ["N", joined])},
        {"logit": (FLOAT, ["N", len(tokens)])},
        {"w": rng.normal(size=(joined, len(tokens))).astype(np.float32), "b": bias},
        {"joiner_dim": joined},
    )
    write_tokens(folder, tokens)
    files = {role: f"{role}.onnx" for role in ("encoder", "decoder", "joiner")} | {"tokens": "tokens.txt"}
    if not hotwords:
        return describe(folder, "zipformer", ["en"], ["words", "hotwords"], files)
    (folder / "bpe.vocab").write_text("".join(f"{token}\t{-number}\n" for number, token in enumerate(tokens)))
    files["bpe_vocab"] = "bpe.vocab"
    return describe(folder, "zipformer", ["en"], ["words", "hotwords"], files, {"modeling_unit": "bpe"})


def whisper(folder: Path, **metadata: object) -> Path:
    """Hears 'so it is' of everything, in the language that was asked for; `auto` is German."""
    words = ["so", " it", " is"]
    tokens = [base64.b64encode(word.encode()).decode() for word in words]
    sot, english, german, transcribe, translate, no_timestamps, no_speech, eot = range(len(words), len(words) + 8)
    follows = {sot: german, no_timestamps: 0, 0: 1, 1: 2, 2: eot}  # a token, and what is heard after it
    table = np.zeros((eot + 1, eot + 1), np.float32)
    for token in range(eot + 1):
        table[token, follows.get(token, no_speech)] = 10
    caches = {f"n_layer_self_{name}_cache": (FLOAT, [1, "N", 16, 4]) for name in "kv"}
    cross = {f"n_layer_cross_{name}": (FLOAT, [1, "N", _FBANK, "T"]) for name in "kv"}
    right = {
        **entries(n_mels=_FBANK, n_text_layer=1, n_text_ctx=16, n_text_state=4, n_vocab=eot + 1, blank_id=0),
        **entries(sot=sot, eot=eot, translate=translate, transcribe=transcribe, no_timestamps=no_timestamps),
        **entries(no_speech=no_speech, is_multilingual=1, sot_sequence=f"{sot},{english},{transcribe}"),
        **entries(all_language_tokens=f"{english},{german}", all_language_codes="en,de"),
    }
    save(
        folder / "encoder.onnx",
        [node("Unsqueeze", ["mel", "zero"], [name]) for name in cross],
        {"mel": (FLOAT, ["N", _FBANK, "T"])},
        cross,
        {"zero": np.array([0], np.int64)},
        right | metadata,
    )
    save(
        folder / "decoder.onnx",
        [
            node("Gather", ["table", "tokens"], ["logits"]),
            *(node("Identity", [name], [f"out_{name}"]) for name in caches),
        ],
        {"tokens": (INT64, ["N", "L"]), **caches, **cross, "offset": (INT64, [1])},
        {"logits": (FLOAT, ["N", "L", eot + 1]), **{f"out_{name}": cache for name, cache in caches.items()}},
        {"table": table},
        {},
    )
    write_tokens(folder, tokens)
    files = {"encoder": "encoder.onnx", "decoder": "decoder.onnx", "tokens": "tokens.txt"}
    return describe(folder, "whisper", ["*"], ["language", "punctuation"], files)


def _lfr(mean: float, scale: float) -> dict[str, object]:
    """Seven frames are taken together every six; then `mean` is added to each feature, and it is scaled."""
    means, scales = (",".join([str(number)] * _LFR) for number in (mean, scale))
    return entries(lfr_window_size=7, lfr_window_shift=6, normalize_samples=0, neg_mean=means, inv_stddev=scales)
