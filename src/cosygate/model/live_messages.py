"""What a live client may say, checked: text frames to records, binary frames to an index and its audio."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cosygate import errors
from cosygate.model.live import LiveFormat
from cosygate.model.options import TranscribeOptions, Wish, parse_options

RATES = frozenset({8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000})
INDEX_BYTES = 8
_INDEX_MAX = 1 << 53  # what a JSON number, and a browser, can say exactly
_SESSION = re.compile(r"[0-9a-f]{32}")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}")


@dataclass(frozen=True, slots=True)
class Start:
    rate: int  # samples per second; 16,000 for webm, whose own rate is what its bytes say
    format: LiveFormat
    options: TranscribeOptions
    interim: bool  # partials are wanted


@dataclass(frozen=True, slots=True)
class Resume:
    session: str
    resume_token: str
    last_final: int  # -1: none
    interim: bool = True


@dataclass(frozen=True, slots=True)
class FinalizeAt:
    samples: int | None  # None: what has arrived


@dataclass(frozen=True, slots=True)
class GapTold:
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class End:
    samples: int


@dataclass(frozen=True, slots=True)
class Ping:
    pass


Message = Start | Resume | FinalizeAt | GapTold | End | Ping


def parse_message(text: str) -> Message:
    """Raises LiveProtocol, OptionInvalid, OptionUnsupported; all name what is wrong and repeat no value."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise errors.LiveProtocol("a text frame is not JSON") from None
    if not isinstance(data, dict):
        raise errors.LiveProtocol("a text frame is not a JSON object")
    kind = data.get("type")
    parser = _PARSERS.get(kind) if isinstance(kind, str) else None
    if parser is None:
        raise errors.LiveProtocol(f"type is one of {', '.join(_PARSERS)}")
    return parser(data)


def parse_frame(frame: bytes, unit: int) -> tuple[int, bytes]:
    """Index and audio of a binary frame; `unit` is the bytes of one sample. Raises LiveFrameInvalid."""
    audio = frame[INDEX_BYTES:]
    if not audio or len(audio) % unit:
        raise errors.LiveFrameInvalid(f"a frame is 8 bytes of index and whole samples of {unit} bytes, at least one")
    index = int.from_bytes(frame[:INDEX_BYTES], "big")
    if index >= _INDEX_MAX:
        raise errors.LiveFrameInvalid("the index is beyond any recording")
    return index, audio


def _start(data: Mapping[str, Any]) -> Start:
    _only(data, "sample_rate", "format", "language", "model", "options", "interim")
    try:
        kind = LiveFormat(data.get("format", LiveFormat.S16LE))
    except ValueError:
        raise errors.LiveProtocol(f"format is one of {', '.join(LiveFormat)}") from None
    rate = data.get("sample_rate")
    if type(rate) is not int or (rate not in RATES and not kind.counts_bytes):
        raise errors.LiveProtocol(f"sample_rate is one of {', '.join(map(str, sorted(RATES)))}")
    return Start(16_000 if kind.counts_bytes else rate, kind, _options(data), _interim(data))


def _interim(data: Mapping[str, Any]) -> bool:
    interim = data.get("interim", True)
    if type(interim) is not bool:
        raise errors.LiveProtocol("interim is true or false")
    return interim


def _options(data: Mapping[str, Any]) -> TranscribeOptions:
    given = data.get("options") or {}
    if not isinstance(given, dict) or not all(isinstance(v, str | bool | int | float) for v in given.values()):
        raise errors.LiveProtocol("options is an object of texts")
    fields = {str(k): _text(v) for k, v in given.items()}
    for name in ("language", "model"):
        if (value := data.get(name)) is not None:
            if not isinstance(value, str):
                raise errors.LiveProtocol(f"{name} is a text")
            fields[name] = value
    for name in ("audio_format", "channels", "priority"):
        if name in fields:
            raise errors.OptionUnsupported(f"a live session has no {name}", option=name)
    options = parse_options(fields)
    if options.words is Wish.YES:
        raise errors.OptionUnsupported("no live session can tell words", option="words")
    return replace(options, audio_format=None, words=Wish.NO)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _resume(data: Mapping[str, Any]) -> Resume:
    _only(data, "session", "resume_token", "last_final", "interim")
    session, token, last = data.get("session"), data.get("resume_token"), data.get("last_final")
    if not (isinstance(session, str) and _SESSION.fullmatch(session)):
        raise errors.SessionNotFound()
    if not (isinstance(token, str) and _TOKEN.fullmatch(token)):
        raise errors.SessionNotFound()
    return Resume(session, token, -1 if last is None else _index(last, "last_final"), _interim(data))


def _finalize(data: Mapping[str, Any]) -> FinalizeAt:
    _only(data, "samples")
    samples = data.get("samples")
    return FinalizeAt(None if samples is None else _index(samples, "samples"))


def _gap(data: Mapping[str, Any]) -> GapTold:
    _only(data, "from", "to")
    told = GapTold(_index(data.get("from"), "from"), _index(data.get("to"), "to"))
    if told.end <= told.start:
        raise errors.LiveProtocol("a gap ends after it begins")
    return told


def _end(data: Mapping[str, Any]) -> End:
    _only(data, "samples")
    return End(_index(data.get("samples"), "samples"))


def _ping(data: Mapping[str, Any]) -> Ping:
    _only(data)
    return Ping()


def _only(data: Mapping[str, Any], *known: str) -> None:
    for name in data:
        if name != "type" and name not in known:
            raise errors.LiveProtocol(f"{data['type']} has no member {str(name)[:64]!r}")


def _index(value: Any, name: str) -> int:
    if type(value) is not int or not 0 <= value < _INDEX_MAX:
        raise errors.LiveProtocol(f"{name} is a whole number from 0")
    return value


_PARSERS: dict[str, Callable[[Mapping[str, Any]], Message]] = {
    "start": _start,
    "resume": _resume,
    "finalize": _finalize,
    "gap": _gap,
    "end": _end,
    "ping": _ping,
}
