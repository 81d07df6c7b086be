"""What a client may ask of a transcription. An option that nothing here honours is refused by name, never ignored."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from cosygate import errors
from cosygate.model.audio import RawFormat
from cosygate.model.webhook import check_url

_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}")  # the part of BCP 47 that recognisers know
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Channels(StrEnum):
    MIX = "mix"  # all channels become one
    SPLIT = "split"  # each channel is recognised alone


class Priority(StrEnum):
    NORMAL = "normal"
    LOW = "low"


@dataclass(frozen=True, slots=True)
class TranscribeOptions:
    """Honoured options. Speakers, emotion, words and the others come with the engines that can tell them."""

    language: str = "auto"
    model: str | None = None  # None: the engine's default
    channels: Channels = Channels.MIX
    priority: Priority = Priority.NORMAL
    audio_format: RawFormat | None = None  # None: sniffed
    filename: str | None = None  # shown in the result, never used as a path
    callback_url: str | None = None  # who is told when the task has ended

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> TranscribeOptions:
        data: dict[str, Any] = json.loads(text)
        raw = data.pop("audio_format", None)
        return cls(
            **{**data, "channels": Channels(data["channels"]), "priority": Priority(data["priority"])},
            audio_format=RawFormat(**raw) if raw else None,
        )


def _language(value: str) -> str:
    if value != "auto" and not _LANGUAGE.fullmatch(value):
        raise errors.OptionInvalid("language is a BCP 47 tag or auto", option="language")
    return value


def _model(value: str) -> str:
    if not _MODEL.fullmatch(value):
        raise errors.OptionInvalid("model is a name from GET /v1/models", option="model")
    return value


def _filename(value: str) -> str:
    """The last component, printable characters only, at most 255."""
    name = "".join(c for c in value.replace("\\", "/").rsplit("/", 1)[-1] if c.isprintable())
    return name[:255]


def _one_of(name: str, kind: type[StrEnum]) -> Callable[[str], StrEnum]:
    def parse(value: str) -> StrEnum:
        try:
            return kind(value)
        except ValueError:
            allowed = ", ".join(kind)
            raise errors.OptionInvalid(f"{name} is one of {allowed}", option=name) from None

    return parse


_PARSERS: dict[str, Callable[[str], Any]] = {
    "language": _language,
    "model": _model,
    "channels": _one_of("channels", Channels),
    "priority": _one_of("priority", Priority),
    "audio_format": RawFormat.parse,
    "filename": _filename,
    "callback_url": check_url,
}
# Known to the contract but honoured by nothing here yet. The values that ask for nothing are accepted.
_NOT_HONOURED: dict[str, frozenset[str]] = {
    "diarize": frozenset({"false", "0", "auto"}),
    "emotion": frozenset({"false", "0", "auto"}),
    "words": frozenset({"false", "0", "auto"}),
    "itn": frozenset({"false", "0", "auto"}),
    "num_speakers": frozenset(),
    "max_speakers": frozenset(),
    "hotwords": frozenset(),
}
OPTION_NAMES = frozenset(_PARSERS) | frozenset(_NOT_HONOURED)


def parse_options(fields: Mapping[str, str]) -> TranscribeOptions:
    """Text fields as a client sends them → options. Raises OptionInvalid, OptionUnsupported (both name the option)."""
    values: dict[str, Any] = {}
    for name, value in fields.items():
        if parser := _PARSERS.get(name):
            values[name] = parser(value)
        elif name not in _NOT_HONOURED:
            raise errors.OptionUnsupported(f"there is no option {name[:64]!r}", option=name[:64])
        elif value.lower() not in _NOT_HONOURED[name]:
            raise errors.OptionUnsupported(f"no engine here honours {name}", option=name)
    return TranscribeOptions(**values)
