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
_SPEAKERS = re.compile(r"[0-9]{1,3}")
_MOST_SPEAKERS = 30
_MOST_HOTWORDS, _LONGEST_HOTWORD = 100, 64
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Channels(StrEnum):
    MIX = "mix"  # all channels become one
    SPLIT = "split"  # each channel is recognised alone


class Priority(StrEnum):
    NORMAL = "normal"
    LOW = "low"


class Wish(StrEnum):
    """For what only some models can tell."""

    NO = "false"
    AUTO = "auto"  # if the model can
    YES = "true"  # or the recording is refused


@dataclass(frozen=True, slots=True)
class TranscribeOptions:
    """What was asked for, with what was not said filled in."""

    language: str = "auto"
    model: str | None = None  # None: the engine's default
    channels: Channels = Channels.MIX
    priority: Priority = Priority.NORMAL
    audio_format: RawFormat | None = None  # None: sniffed
    filename: str | None = None  # shown in the result, never used as a path
    callback_url: str | None = None  # who is told when the task has ended
    words: Wish = Wish.NO  # word times; where a model has none of its own, they are aligned, which takes time
    diarize: Wish = Wish.NO
    num_speakers: int = 0  # 0: not known
    max_speakers: int = 0  # 0: any
    emotion: Wish = Wish.AUTO
    itn: Wish = Wish.AUTO  # inverse text normalisation: "25" for "twenty-five"
    hotwords: tuple[str, ...] = ()

    @property
    def required(self) -> dict[str, str]:
        """Capabilities that the model must have, each with the option that asks for it."""
        asked = {name: option for option, name in self._capabilities if getattr(self, option) is Wish.YES}
        return asked | ({"hotwords": "hotwords"} if self.hotwords else {})

    def features(self, can: Callable[[str], bool]) -> tuple[str, ...]:
        """What the model is asked to tell. `can`: whether it can tell something."""
        wishes = [(getattr(self, option), name) for option, name in self._capabilities]
        told = [name for wish, name in wishes if wish is Wish.YES or (wish is Wish.AUTO and can(name))]
        if "speakers" in told and "words" not in told and can("words"):
            told.insert(0, "words")  # where several speak in one segment, its words say whose they are
        return tuple(told)

    @property
    def _capabilities(self) -> list[tuple[str, str]]:
        """With channels=split each channel is a speaker: no model has to tell them."""
        return [
            ("words", "words"),
            *([("diarize", "speakers")] if self.channels is Channels.MIX else []),
            ("emotion", "emotion"),
            ("itn", "itn"),
        ]

    def to_json(self) -> str:
        """What came with later versions is left out where it says nothing: processes of the version before read the
        rest."""
        said = asdict(self).items()
        fields = {name: value for name, value in said if name not in _LATER or value != _LATER[name]}
        return json.dumps(fields, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> TranscribeOptions:
        data: dict[str, Any] = json.loads(text)
        raw = data.pop("audio_format", None)
        kinds = {"channels": Channels, "priority": Priority, "hotwords": tuple} | dict.fromkeys(_WISHES, Wish)
        typed = {name: kinds[name](value) for name, value in data.items() if name in kinds}
        return cls(**data | typed, audio_format=RawFormat(**raw) if raw else None)


_WISHES = ("words", "diarize", "emotion", "itn")
_LATER = {name: getattr(TranscribeOptions(), name) for name in (*_WISHES, "num_speakers", "max_speakers", "hotwords")}


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


def _wish(name: str) -> Callable[[str], Wish]:
    words = {"1": Wish.YES, "0": Wish.NO} | {wish.value: wish for wish in Wish}

    def parse(value: str) -> Wish:
        if (wish := words.get(value.lower())) is None:
            raise errors.OptionInvalid(f"{name} is one of true, false, auto", option=name)
        return wish

    return parse


def _speakers(name: str) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not _SPEAKERS.fullmatch(value) or not 1 <= int(value) <= _MOST_SPEAKERS:
            raise errors.OptionInvalid(f"{name} is a number from 1 to {_MOST_SPEAKERS}", option=name)
        return int(value)

    return parse


def _hotwords(value: str) -> tuple[str, ...]:
    """Words or phrases, between commas or line breaks."""
    words = tuple(word for part in re.split(r"[,\n]", value) if (word := " ".join(part.split())))
    if len(words) > _MOST_HOTWORDS or any(len(word) > _LONGEST_HOTWORD or not word.isprintable() for word in words):
        told = f"hotwords are at most {_MOST_HOTWORDS} words or phrases, each of at most {_LONGEST_HOTWORD} characters"
        raise errors.OptionInvalid(told, option="hotwords")
    return words


_PARSERS: dict[str, Callable[[str], Any]] = {
    "language": _language,
    "model": _model,
    "channels": _one_of("channels", Channels),
    "priority": _one_of("priority", Priority),
    "audio_format": RawFormat.parse,
    "filename": _filename,
    "callback_url": check_url,
    **{name: _wish(name) for name in _WISHES},
    "num_speakers": _speakers("num_speakers"),
    "max_speakers": _speakers("max_speakers"),
    "hotwords": _hotwords,
}
OPTION_NAMES = frozenset(_PARSERS)


def parse_options(fields: Mapping[str, str]) -> TranscribeOptions:
    """Text fields as a client sends them → options. Raises OptionInvalid, OptionUnsupported (both name the option)."""
    values: dict[str, Any] = {}
    for name, value in fields.items():
        parser = _PARSERS.get(name)
        if parser is None:
            raise errors.OptionUnsupported(f"there is no option {name[:64]!r}", option=name[:64])
        values[name] = parser(value)
    for counted in ("num_speakers", "max_speakers"):
        if counted in values and values.setdefault("diarize", Wish.YES) is Wish.NO:
            raise errors.OptionInvalid(f"{counted} without diarize", option=counted)
    if {"num_speakers", "max_speakers"} <= values.keys() and values["num_speakers"] > values["max_speakers"]:
        raise errors.OptionInvalid("num_speakers is more than max_speakers", option="num_speakers")
    return TranscribeOptions(**values)
