"""What an engine can tell beside what its recogniser hears: when each word was said, and who spoke.

A recogniser that cuts at pauses gets them from here; one that has its own keeps those.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from cosygate.engine.aligning import Aligner
from cosygate.engine.recognisers.base import CannotStart, Model, Recogniser
from cosygate.engine.speakers.voices import Diariser
from cosygate.kit import logs

T = TypeVar("T")
WORDS, SPEAKERS = "words", "speakers"
_log = logs.logger()


@dataclass(frozen=True, slots=True)
class Extras:
    """Each None where it cannot be had, or makes no sense."""

    aligner: Aligner | None = None
    diariser: Diariser | None = None

    @classmethod
    def load(cls, recogniser: Recogniser, slots: int) -> Extras:
        """For who is recognised piece by piece of speech. What is not installed is not told, and the log says so."""
        if recogniser.cut_s is not None:
            return cls()
        return cls(_had(lambda: Aligner(workers=slots), WORDS), _had(Diariser.load, SPEAKERS))

    def over(self, models: tuple[Model, ...]) -> tuple[Model, ...]:
        """The models with what they can tell by these."""
        return tuple(replace(model, capabilities=(*model.capabilities, *self._more(model))) for model in models)

    def _more(self, model: Model) -> list[str]:
        more = [WORDS] if self.aligner is not None and english(model) else []
        more += [SPEAKERS] if self.diariser is not None else []
        return [name for name in more if name not in model.capabilities]

    def close(self) -> None:
        if self.aligner is not None:
            self.aligner.close()


def english(model: Model) -> bool:
    """Whether it knows no other language."""
    return all(language.lower().partition("-")[0] == "en" for language in model.languages)


def _had(load: Callable[[], T], what: str) -> T | None:
    try:
        return load()
    except CannotStart as error:
        _log.warning("engine.without", capability=what, detail=str(error))
        return None
