"""A recogniser whose plain texts are punctuated by a model's folder.

Around the recogniser, and not behind it, because what an open utterance is shown as may be its final (live_story.py):
so everything that is heard is punctuated, and a partial reads as its final will.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cosygate.engine.punctuation.checking import checked, try_out
from cosygate.engine.punctuation.marks import is_plain, marks_of, punctuated, punctuated_words
from cosygate.engine.punctuation.model import load
from cosygate.engine.recognisers.base import Hints, Model, Recognised, Recogniser, Samples
from cosygate.kit.logs import logger

_ALL = frozenset({"*", "mul"})  # a folder's words for every language
_LONGEST = 5_000  # characters: five times what anybody says in a piece; the model's time grows faster than the text


class Punctuated:
    """Is what the recogniser is, but for the texts. A text that has punctuation stays as it is, and so does one in a
    language that the folder does not claim."""

    instant = False

    def __init__(
        self, recogniser: Recogniser, add_punctuation: Callable[[str], str], languages: tuple[str, ...]
    ) -> None:
        """`add_punctuation`: for several threads at once. `languages`: that it knows."""
        self._recogniser = recogniser
        self._add_punctuation = add_punctuation
        self._languages = frozenset(map(_primary, languages))
        self.name = recogniser.name
        self.version = recogniser.version
        self.models: tuple[Model, ...] = tuple(map(self._able, recogniser.models))
        self.cut_s = recogniser.cut_s
        self.limit_s = recogniser.limit_s

    @classmethod
    def load(cls, recogniser: Recogniser, path: Path) -> Punctuated:
        """Raises CannotStart when the folder cannot be used."""
        folder = checked(path)
        try_out(folder)
        return cls(recogniser, load(folder).add_punctuation, folder.languages)

    def recognise(self, samples: Samples, hints: Hints, stop: threading.Event) -> Recognised:
        recognised = self._recogniser.recognise(samples, hints, stop)
        text = recognised.text
        if len(text) > _LONGEST or not is_plain(text) or not self._knows(recognised, hints):
            return recognised
        try:
            marks = marks_of(text, self._add_punctuation(text))
        except Exception as error:  # whatever it is: a text is not lost for want of its full stop
            logger().warning("punctuation.failed", detail=type(error).__name__)
            return recognised
        if marks is None:
            logger().warning("punctuation.failed", detail="it does not give back the text")
            return recognised
        words = punctuated_words(recognised.words, text, marks)
        return replace(recognised, text=punctuated(text, marks), words=words)

    def close(self) -> None:
        self._recogniser.close()

    def _able(self, model: Model) -> Model:
        """With `punctuation`, where all that it may hear is punctuated."""
        if "punctuation" in model.capabilities or not self._knows_all(model):
            return model
        return replace(model, capabilities=(*model.capabilities, "punctuation"))

    def _knows_all(self, model: Model) -> bool:
        return not _ALL.isdisjoint(self._languages) or all(_primary(tag) in self._languages for tag in model.languages)

    def _knows(self, recognised: Recognised, hints: Hints) -> bool:
        """The language that was heard, else the one that was asked for, else each one that the model may hear."""
        if recognised.language:
            return _primary(recognised.language) in self._languages
        if hints.language.lower() not in ("", "auto"):
            return _primary(hints.language) in self._languages
        return self._knows_all(next(model for model in self.models if model.name == hints.model))


def _primary(language: str) -> str:
    return language.lower().partition("-")[0]
