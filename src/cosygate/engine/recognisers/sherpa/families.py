"""The families of models: which files each needs beside its tokens, what it can tell, and how it is loaded.

The metadata is what sherpa-onnx 2.0.1 reads when it loads such a file, and ends the process without (its csrc).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sherpa_onnx

from cosygate.engine.folders.folder import ModelFolder
from cosygate.engine.recognisers.sherpa.ears import Ear, Offline, SenseVoice, Streaming
from cosygate.engine.recognisers.sherpa.hotwords import Speller


@dataclass(frozen=True, slots=True)
class Variant:
    """What is fixed when a model is loaded: each needs one of its own."""

    language: str = "auto"
    itn: bool = False
    hotwords: bool = False


@dataclass(frozen=True, slots=True)
class Family:
    load: Callable[[ModelFolder, Variant, int], Ear]  # the number: threads of one recognition
    models: Mapping[str, tuple[str, ...]]  # by the role of a file: the numbers that its metadata must have
    capabilities: tuple[str, ...] = ()
    vocabulary: tuple[str, str] | None = None  # the role and the number that say how many tokens there must be
    languages: Callable[[Mapping[str, str]], tuple[str, ...]] | None = None  # it can be told, by its metadata


def _paths(folder: ModelFolder, *roles: str) -> dict[str, str]:
    return {role: str(folder.files[role]) for role in roles}


def _only(folder: ModelFolder) -> str | None:
    return folder.languages[0] if len(folder.languages) == 1 and folder.languages != ("*",) else None


def _sense_voice(folder: ModelFolder, variant: Variant, threads: int) -> Ear:
    return SenseVoice(
        sherpa_onnx.OfflineRecognizer.from_sense_voice(
            **_paths(folder, "model", "tokens"), language=variant.language, use_itn=variant.itn, num_threads=threads
        ),
        events="events" in folder.capabilities,
    )


def _paraformer(folder: ModelFolder, _: Variant, threads: int) -> Ear:
    recogniser = sherpa_onnx.OfflineRecognizer.from_paraformer(
        **_paths(folder, "paraformer", "tokens"), num_threads=threads
    )
    return Offline(recogniser, language=_only(folder), joined=True)


def _whisper(folder: ModelFolder, variant: Variant, threads: int) -> Ear:
    recogniser = sherpa_onnx.OfflineRecognizer.from_whisper(
        **_paths(folder, "encoder", "decoder", "tokens"),
        language="" if variant.language == "auto" else variant.language,  # it finds out
        num_threads=threads,
    )
    return Offline(recogniser, language=_only(folder))


def _whisper_languages(metadata: Mapping[str, str]) -> tuple[str, ...]:
    codes = tuple(filter(None, metadata.get("all_language_codes", "").split(",")))
    return codes if float(metadata["is_multilingual"]) else ("en",)


def _moonshine(folder: ModelFolder, _: Variant, threads: int) -> Ear:
    recogniser = sherpa_onnx.OfflineRecognizer.from_moonshine_v2(
        **_paths(folder, "encoder", "decoder", "tokens"), num_threads=threads
    )
    return Offline(recogniser, language=_only(folder))


def _zipformer(folder: ModelFolder, variant: Variant, threads: int) -> Ear:
    metadata = folder.metadata("encoder")
    speller: Speller | None = None
    biased: dict[str, str] = {}
    if variant.hotwords:
        unit = folder.settings["modeling_unit"]
        speller = Speller(unit, folder.tokens())
        biased = {"decoding_method": "modified_beam_search", "modeling_unit": unit}
        if "bpe_vocab" in folder.files:
            biased |= _paths(folder, "bpe_vocab")
    recogniser = sherpa_onnx.OnlineRecognizer.from_transducer(
        **_paths(folder, "encoder", "decoder", "joiner", "tokens"),
        model_type=metadata.get("model_type", ""),
        num_threads=threads,
        **biased,
    )
    return Streaming(recogniser, ahead=int(metadata["T"]), language=_only(folder), speller=speller)


FAMILIES = {
    "sense_voice": Family(
        load=_sense_voice,
        models={
            "model": (
                *("vocab_size", "lfr_window_size", "lfr_window_shift", "normalize_samples", "with_itn", "without_itn"),
                *("lang_auto", "lang_zh", "lang_en", "lang_ja", "lang_ko", "lang_yue", "neg_mean", "inv_stddev"),
            )
        },
        capabilities=("words", "language", "emotion", "events", "punctuation", "itn"),
        vocabulary=("model", "vocab_size"),
        languages=lambda _: ("zh", "en", "ja", "ko", "yue"),
    ),
    "paraformer": Family(
        load=_paraformer,
        models={"paraformer": ("vocab_size", "lfr_window_size", "lfr_window_shift", "neg_mean", "inv_stddev")},
        capabilities=("words",),
        vocabulary=("paraformer", "vocab_size"),
    ),
    "whisper": Family(
        load=_whisper,
        models={
            "encoder": (
                *("n_mels", "n_text_layer", "n_text_ctx", "n_text_state", "n_vocab", "sot", "eot", "blank_id"),
                *("translate", "transcribe", "is_multilingual", "no_timestamps", "no_speech", "sot_sequence"),
            ),
            "decoder": (),
        },
        capabilities=("language", "punctuation"),
        languages=_whisper_languages,
    ),
    "moonshine": Family(load=_moonshine, models={"encoder": (), "decoder": ()}, capabilities=("punctuation",)),
    "zipformer": Family(
        load=_zipformer,
        models={
            "encoder": (
                *("encoder_dims", "num_encoder_layers", "cnn_module_kernels", "left_context_len"),
                *("T", "decode_chunk_len"),
            ),
            "decoder": ("vocab_size", "context_size"),
            "joiner": (),
        },
        capabilities=("words", "hotwords"),
        vocabulary=("decoder", "vocab_size"),
    ),
}
