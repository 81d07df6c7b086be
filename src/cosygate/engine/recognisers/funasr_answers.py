"""What a FunASR runtime answers to one piece of speech: its JSON messages become a Recognised.

After FunASR's runtime/docs/websocket_protocol.md, and where that is silent after its servers: websocket-server.cpp and
websocket-server-2pass.cpp (how answers end), util.cpp (TimestampSentence: what has a time), sensevoice-small.cpp (tags)
and funasr_wss_server.py (is_end). What has another shape is an error.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable
from typing import Any

from cosygate.engine.recognisers.base import Recognised, RecognisedWord, RecogniserError

ANSWER_MAX = 1 << 20  # characters of all answers to one piece
MODES = {"offline": ("offline",), "2pass": ("2pass-online", "2pass-offline", "")}  # asked for: answered in
_RESULTS = ("offline", "2pass-offline")  # what is answered in other modes is not final
_TAG = re.compile(r"<\|(\w{1,32})\|>")  # SenseVoice's
_TAGS = re.compile(r"(?:<\|\w{1,32}\|>\s*)+")
_LANGUAGES = frozenset({"zh", "yue", "en", "ja", "ko"})
_EMOTIONS = frozenset({"happy", "sad", "angry", "neutral", "fearful", "disgusted", "surprised"})
_UNTOLD = frozenset({"nospeech", "emo_unknown", "event_unk", "speech", "withitn", "woitn"})
_SPACELESS = re.compile(r"[\u3000-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\uff00-\uff60]")
Token = tuple[str, float, float]  # and when it was said: seconds from the start of the piece


class Answers:
    """To one piece."""

    def __init__(self, mode: str, features: Collection[str], *, events: bool = True) -> None:
        """`mode`: a key of MODES. `features`: what is to be told beside the text, of words and emotion. `events`:
        whether what is heard beside speech is told."""
        self._mode = mode
        self._events = events
        self._features = features
        self._size = 0
        self._parts: list[str] = []
        self._tags: list[str] = []  # in lower case
        self._tokens: list[Token] = []

    def take(self, message: str | bytes) -> bool:
        """Whether it was the last one. Raises RecogniserError.

        The offline runtime answers once, with is_final false; the 2pass runtime says is_final with its last answer. The
        Python server says it with each (of one that cuts the piece, there are several), and then is_end."""
        self._size += len(message)
        if self._size > ANSWER_MAX:
            raise RecogniserError("FunASR answers too much")
        told = _object(message)
        final = told.get("is_final") is True
        if told.get("is_end") is True:
            if not final:
                raise RecogniserError(f"FunASR failed: {_text(told, 'error')[:200]}")
            return True
        mode = _text(told, "mode")
        if mode not in MODES[self._mode]:
            raise RecogniserError(f"FunASR answers in mode {mode[:32]!r}: --funasr-mode {self._mode} does not fit it")
        if mode in _RESULTS:
            text = _text(told, "text")
            self._parts += _TAGS.split(text)
            self._tags += (tag.lower() for tag in _TAG.findall(text))
            if "words" in self._features:
                self._tokens += _tokens(told)
        return final is (self._mode == "2pass")

    def recognised(self, seconds: float) -> Recognised:
        """`seconds`: of the piece. Without a letter nothing was said: FunASR puts a full stop after silence, too."""
        text = _joined(self._parts)
        if not any(map(str.isalnum, text)):
            return Recognised("")
        emotions = _EMOTIONS if "emotion" in self._features else ()
        others = (tag for tag in self._tags if tag not in _LANGUAGES | _EMOTIONS | _UNTOLD)
        return Recognised(
            text,
            words=_words(self._tokens, text, seconds),
            language=next((tag for tag in self._tags if tag in _LANGUAGES), None),
            emotion=next((tag for tag in self._tags if tag in emotions), None),
            events=tuple(dict.fromkeys(others)) if self._events else (),
        )


def _object(message: str | bytes) -> dict[str, Any]:
    try:
        told = json.loads(message)
    except (ValueError, RecursionError):
        raise RecogniserError("FunASR answers what is not JSON") from None
    if not isinstance(told, dict):
        raise RecogniserError("FunASR answers what is not an object")
    return told


def _text(told: dict[str, Any], name: str) -> str:
    value = told.get(name, "")
    if not isinstance(value, str):
        raise RecogniserError(f"FunASR answers with a {name} that is not a text")
    return value.encode("utf-8", "replace").decode()  # JSON can say half a character, the wire to the gateway cannot


def _tokens(told: dict[str, Any]) -> list[Token]:
    """Of stamp_sents, where text_seg has as many tokens, with spaces between, as ts_list has times in milliseconds."""
    found: list[Token] = []
    try:
        for sentence in told.get("stamp_sents") or ():
            tokens = filter(None, sentence["text_seg"].split(" "))
            for token, (start, end) in zip(tokens, sentence["ts_list"], strict=True):
                if not math.isfinite(start + end):
                    raise ValueError
                found.append((token, start / 1000, end / 1000))
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
        raise RecogniserError("FunASR answers with stamp_sents that are not times of words") from None
    return found


def _joined(parts: Iterable[str]) -> str:
    """With a space between, but not where Chinese or Japanese meets anything."""
    text = ""
    for part in (" ".join(part.split()) for part in parts):
        apart = text and part and not _SPACELESS.match(text[-1]) and not _SPACELESS.match(part)
        text += f" {part}" if apart else part
    return text


def _words(tokens: Iterable[Token], text: str, seconds: float) -> tuple[RecognisedWord, ...]:
    """In order, without overlap, inside [0, seconds], with the punctuation that follows them; a Chinese character is a
    word. Tokens that stand together in the text are one: FunASR tells a time for each digit.

    Empty when the tokens are not those of the text: the server could not tell all times."""
    words: list[Token] = []
    at, ended = 0, 0.0
    for token, start, end in tokens:
        found = text.find(token, at)
        between = text[at:found]
        if found < 0 or any(map(str.isalnum, between)):
            return ()
        start = min(max(start, ended), seconds)
        ended = min(max(end, start), seconds)
        if words:
            last, began, until = words[-1]
            if between or _SPACELESS.match(token) or _SPACELESS.match(last[-1]):
                words[-1] = (last + "".join(between.split()), began, until)
                words.append((token, start, ended))
            else:
                words[-1] = (last + token, began, ended)
        else:
            words.append(("".join(between.split()) + token, start, ended))
        at = found + len(token)
    rest = "".join(text[at:].split())
    if not words or any(map(str.isalnum, rest)):
        return ()
    last, began, until = words[-1]
    words[-1] = (last + rest, began, until)
    return tuple(RecognisedWord(*word) for word in words)
