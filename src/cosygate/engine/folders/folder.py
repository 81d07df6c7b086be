"""A model's folder, as `cosygate models pull` fills it: its files, and cosygate-model.json, which says what they are.

Everything is checked here that can be checked without loading: what sherpa-onnx would end the process for comes first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from cosygate.engine.folders import onnx
from cosygate.engine.recognisers.base import CannotStart

DESCRIPTION = "cosygate-model.json"
_DESCRIPTION_MAX = 1 << 20  # bytes
_TOKENS_MAX = 1 << 26  # bytes
_ID = re.compile("[0-9]{1,9}")
_ORT = b"ORTM"  # at byte 4 of a model in ONNX Runtime's own format, which has no metadata
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """What the description says. Every file is there and not empty."""

    path: Path
    name: str
    family: str
    languages: tuple[str, ...]
    capabilities: tuple[str, ...]
    files: Mapping[str, Path]  # by role, as sherpa-onnx names its arguments
    settings: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> ModelFolder:
        """Raises CannotStart, which names the file at fault."""
        where = path / DESCRIPTION
        said = _description(where)
        try:
            name, family = _text(said["name"]), _text(said["family"])
            languages = tuple(map(_text, _of(list, said["languages"])))
            capabilities = tuple(map(_text, _of(list, said["capabilities"])))
            files = {role: path / _inside(file) for role, file in _of(dict, said["files"]).items()}
            settings = _of(dict, said.get("settings", {}))
            if not languages:
                raise ValueError("there is no language")
        except KeyError as error:
            raise CannotStart(f"{where} is not a model's description: it has no {error.args[0]!r}") from None
        except ValueError as error:
            raise CannotStart(f"{where} is not a model's description: {error}") from None
        for file in files.values():
            _check_there(file)
        return cls(path, name, family, languages, capabilities, files, settings)

    def tokens(self) -> list[str]:
        """By their ids, of the file with the role tokens: a line `token id` for each. Raises CannotStart."""
        path = self.files["tokens"]
        if path.stat().st_size > _TOKENS_MAX:
            raise CannotStart(f"{path} is too large for a list of tokens")
        try:
            lines = path.read_bytes().decode().split("\n")
        except ValueError:
            raise CannotStart(f"{path} is not a list of tokens: it is not UTF-8") from None
        by_id: dict[int, str] = {}
        for number, line in enumerate(lines, 1):
            token, _, text = line.rstrip().rpartition(" " if "\t" not in line else "\t")
            if not text and number == len(lines):
                break
            if not _ID.fullmatch(text) or int(text) in by_id:
                raise CannotStart(f"{path} is not a list of tokens: line {number} is not a token and an id of its own")
            by_id[int(text)] = token or " "
        if not by_id or max(by_id) != len(by_id) - 1:
            raise CannotStart(f"{path} is not a list of tokens: its ids are not 0 to {len(by_id) - 1}")
        return [by_id[number] for number in range(len(by_id))]

    def metadata(self, role: str) -> dict[str, str]:
        """Of a model's file; empty for ONNX Runtime's own format. Raises CannotStart."""
        path = self.files[role]
        try:
            with path.open("rb") as file:
                if file.read(8)[4:] == _ORT:
                    return {}
            return onnx.metadata(path)
        except ValueError as error:
            raise CannotStart(f"the model file {path} is damaged: {error}. {self.repair}") from None
        except OSError as error:
            raise CannotStart(f"the model file {path} cannot be read ({error.strerror})") from None

    @property
    def repair(self) -> str:
        return f"`cosygate models verify {self.name}` tells more"


def _description(where: Path) -> dict[str, Any]:
    try:
        with where.open("rb") as file:
            text = file.read(_DESCRIPTION_MAX + 1)
        if len(text) > _DESCRIPTION_MAX:
            raise ValueError("it is too long")
        return _of(dict, json.loads(text))
    except OSError as error:
        raise CannotStart(
            f"{where} cannot be read ({error.strerror}): `cosygate models pull` makes such folders"
        ) from None
    except (ValueError, RecursionError) as error:
        raise CannotStart(f"{where} is not a model's description: {error}") from None


def _of(kind: type[T], value: Any) -> T:
    if not isinstance(value, kind):
        raise ValueError(f"{str(value)[:64]!r} should be a {kind.__name__}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{str(value)[:64]!r} should be a text")
    return value


def _inside(file: Any) -> PurePosixPath:
    path = PurePosixPath(_text(file))
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"the file {file[:64]!r} is not in the folder")
    return path


def _check_there(file: Path) -> None:
    try:
        size = file.stat().st_size
    except OSError as error:
        raise CannotStart(f"the model file {file} cannot be read ({error.strerror})") from None
    if not file.is_file() or size == 0:
        raise CannotStart(f"the model file {file} is empty")
