"""A recogniser that hears what its script says, with the delays and failures that the script says: for tests and load.

Deterministic: the text depends on the piece's place in its recording, a failure on its rule alone. The script is one
JSON object; docs/engines.md lists its members. Without a script it cycles three sentences, without delay or failure.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from cosygate.engine.recognisers.base import (
    RATE,
    CannotStart,
    Hints,
    Model,
    Recognised,
    RecognisedWord,
    RecogniserError,
    Samples,
    Stopped,
)

DEFAULT_TEXTS = ("The first words of the script.", "Then some more of them.", "And these are the last.")
CRASH_STATUS = 86  # how the process ends when a rule says so
STATUSES = frozenset({"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "DATA_LOSS", "INTERNAL"})
_MEMBERS = frozenset(
    {"texts", "hear", "segment_s", "cut", "delay_s", "delay_per_audio_s", "capabilities", "languages", "rules"}
)
_DIGITS = 12  # of a piece's digest
_CONDITIONS = frozenset({"every", "piece", "seconds", "sha256", "bytes"})
_HANG_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Rule:
    """When all given conditions hold, `do` happens. No condition: always."""

    do: str  # fail, hang, crash, wait
    status: str = "INTERNAL"  # what fail answers
    wait_s: float = 0.0  # how long wait takes, beside the script's delays
    every: int | None = None  # every nth piece of this process
    piece: int | None = None  # the piece's index in its recording
    seconds: tuple[float, float] | None = None  # the piece's duration lies in this range, both ends included
    sha256: str | None = None  # hex, of the piece's first `bytes` bytes as s16le
    bytes: int = 32_000

    def applies(self, number: int, samples: Samples, hints: Hints) -> bool:
        """`number` counts this process's pieces from 1."""
        if self.every is not None and number % self.every:
            return False
        if self.piece is not None and hints.index != self.piece:
            return False
        if self.seconds is not None and not self.seconds[0] <= len(samples) / RATE <= self.seconds[1]:
            return False
        return self.sha256 is None or self.sha256 == first_bytes_digest(samples, self.bytes)


def first_bytes_digest(samples: Samples, count: int) -> str:
    """SHA-256 (hex) of the first `count` bytes of s16le that the samples came from (the conversion is exact)."""
    pcm = np.rint(samples[: count // 2] * 32768).astype("<i2")
    return hashlib.sha256(pcm.tobytes()).hexdigest()


class Scripted:
    name = "scripted"
    version = "1"
    limit_s: float | None = None

    def __init__(self, script: Mapping[str, Any] | None = None) -> None:
        """Raises CannotStart when the script has members or values that do not exist."""
        script = script or {}
        if unknown := set(script) - _MEMBERS:
            raise CannotStart(f"the script has unknown members: {', '.join(sorted(unknown))}")
        try:
            self._texts = tuple(_entry(t) for t in script.get("texts") or DEFAULT_TEXTS)
            segment_s = float(script.get("segment_s", 10.0))
            self.cut_s: float | None = {"seconds": segment_s, "speech": None}[script.get("cut", "seconds")]
            self._digests = {"texts": False, "digest": True}[script.get("hear", "texts")]
            self._delay_s = float(script.get("delay_s", 0.0))
            self._delay_per_audio_s = float(script.get("delay_per_audio_s", 0.0))
            self._rules = tuple(_rule(r) for r in script.get("rules", ()))
            languages = tuple(map(str, script.get("languages", ("*",))))
            capabilities = tuple(map(str, script.get("capabilities", ())))
        except (TypeError, ValueError, KeyError) as error:
            raise CannotStart(f"the script is not valid: {error}") from None
        if not 0.1 <= segment_s <= 30 or min(self._delay_s, self._delay_per_audio_s) < 0:
            raise CannotStart("the script is not valid: segment_s is 0.1 to 30, delays are not negative")
        self.models: tuple[Model, ...] = (Model("scripted", languages, capabilities),)
        takes_time = any(rule.do in ("hang", "wait") for rule in self._rules)
        self.instant = not (self._delay_s or self._delay_per_audio_s or takes_time)
        self._numbers = itertools.count(1)

    @classmethod
    def load(cls, path: Path | None) -> Scripted:
        """From a JSON file. Raises CannotStart."""
        if path is None:
            return cls()
        try:
            script = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise CannotStart(f"the script {path} cannot be read: {error}") from None
        if not isinstance(script, dict):
            raise CannotStart(f"the script {path} is not a JSON object")
        return cls(script)

    def recognise(self, samples: Samples, hints: Hints, stop: threading.Event) -> Recognised:
        number = next(self._numbers)
        for rule in self._rules:
            if rule.applies(number, samples, hints):
                _ACTIONS[rule.do](rule, stop)
        delay = self._delay_s + self._delay_per_audio_s * len(samples) / RATE
        if delay and stop.wait(delay):
            raise Stopped
        if self._digests:
            return Recognised(first_bytes_digest(samples, 2 * len(samples))[:_DIGITS])
        return self._texts[hints.index % len(self._texts)]

    def close(self) -> None:
        pass


def _fail(rule: Rule, _stop: threading.Event) -> None:
    raise RecogniserError("the script says so", rule.status)


def _hang(_rule: Rule, stop: threading.Event) -> None:
    stop.wait(_HANG_S)
    raise Stopped


def _wait(rule: Rule, stop: threading.Event) -> None:
    if stop.wait(rule.wait_s):
        raise Stopped


def _crash(_rule: Rule, _stop: threading.Event) -> None:
    os._exit(CRASH_STATUS)


_ACTIONS: dict[str, Callable[[Rule, threading.Event], None]] = {
    "fail": _fail,
    "hang": _hang,
    "crash": _crash,
    "wait": _wait,
}


def _entry(entry: Any) -> Recognised:
    """A text, or an object with the members of Recognised."""
    if isinstance(entry, str):
        return Recognised(entry)
    members = {f.name for f in fields(Recognised)}
    if unknown := set(entry) - members:
        raise ValueError(f"a text has unknown members: {', '.join(sorted(unknown))}")
    words = tuple(RecognisedWord(**w) for w in entry.get("words", ()))
    return Recognised(**{**entry, "words": words, "events": tuple(entry.get("events", ()))})


def _rule(rule: Mapping[str, Any]) -> Rule:
    when = rule.get("when", {})
    if unknown := (set(rule) - {"when", "do", "status", "wait_s"}) | (set(when) - _CONDITIONS):
        raise ValueError(f"a rule has unknown members: {', '.join(sorted(unknown))}")
    status = rule.get("status", "INTERNAL")
    if rule["do"] not in _ACTIONS or status not in STATUSES:
        raise ValueError("a rule's do is fail, hang, crash or wait; its status one of the engine contract's")
    wait_s = float(rule.get("wait_s", 0.0))
    if not 0 <= wait_s <= _HANG_S or ("wait_s" in rule) != (rule["do"] == "wait"):
        raise ValueError("a rule that waits has wait_s, not negative, and no other")
    conditions = dict(when)
    if "seconds" in conditions:
        low, high = conditions["seconds"]
        conditions["seconds"] = (float(low), float(high))
    if not isinstance(conditions.get("every", 1), int) or conditions.get("every", 1) < 1:
        raise ValueError("every is a whole number from 1")
    return Rule(do=rule["do"], status=status, wait_s=wait_s, **conditions)
