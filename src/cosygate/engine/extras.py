"""What an engine can tell beside what its recogniser hears: when each word was said, and who spoke.

In live sessions that is who speaks, alone. A recogniser that cuts at pauses gets them from here; one that has its own
keeps those.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from cosygate.engine.aligning import Aligner
from cosygate.engine.recognisers.base import CannotStart, Model, Recogniser
from cosygate.engine.speakers.live import Voiceprints
from cosygate.engine.speakers.sherpa.diariser import FolderDiariser, FolderVoices
from cosygate.engine.speakers.voices import Diariser, Voices
from cosygate.kit import logs

T = TypeVar("T")
WORDS, SPEAKERS = "words", "speakers"
LIVE_SPEAKERS = "live_speakers"  # speakers while it is spoken: another matter than at a recording's end
_log = logs.logger()


@dataclass(frozen=True, slots=True)
class Extras:
    """Each None where it cannot be had, or makes no sense."""

    aligner: Aligner | None = None
    diariser: Diariser | None = None
    of_folder: FolderDiariser | None = None  # in the other's place
    prints: Voiceprints | None = None

    @classmethod
    def load(cls, recogniser: Recogniser, slots: int, speakers_dir: Path | None = None, num_threads: int = 1) -> Extras:
        """For who is recognised piece by piece of speech. What is not installed is not told, and the log says so.

        `speakers_dir`: a model's folder; `num_threads`: of its that work on one chunk of speech. Raises CannotStart
        when it cannot be used."""
        if recogniser.cut_s is not None:
            if speakers_dir is not None:
                raise CannotStart(f"--speakers-dir: the recogniser {recogniser.name} does not cut at pauses of speech")
            return cls()
        of_folder = FolderDiariser(speakers_dir, slots=slots, num_threads=num_threads) if speakers_dir else None
        diariser = _had(Diariser.load, SPEAKERS) if of_folder is None else None
        prints = Voiceprints(diariser.encoder) if diariser is not None else _had(Voiceprints.load, LIVE_SPEAKERS)
        return cls(_had(lambda: Aligner(workers=slots), WORDS), diariser, of_folder, prints)

    def voices(self, stop: threading.Event) -> Voices | FolderVoices | None:
        """Of a recording; `stop`: nobody wants them any more."""
        if self.of_folder is not None:
            return self.of_folder.voices(stop)
        return self.diariser.voices() if self.diariser is not None else None

    def over(self, models: tuple[Model, ...]) -> tuple[Model, ...]:
        """The models with what they can tell by these."""
        return tuple(replace(model, capabilities=(*model.capabilities, *self._more(model))) for model in models)

    def over_live(self, models: tuple[Model, ...]) -> tuple[Model, ...]:
        """The same in live sessions, whose words nobody aligns."""
        more = (LIVE_SPEAKERS,) if self.prints is not None else ()
        return tuple(replace(m, capabilities=tuple(dict.fromkeys((*m.capabilities, *more)))) for m in models)

    def _more(self, model: Model) -> list[str]:
        more = [WORDS] if self.aligner is not None and english(model) else []
        more += [SPEAKERS] if self.diariser is not None or self.of_folder is not None else []
        more += [LIVE_SPEAKERS] if self.prints is not None else []
        return [name for name in more if name not in model.capabilities]

    def close(self) -> None:
        if self.aligner is not None:
            self.aligner.close()
        if self.of_folder is not None:
            self.of_folder.close()


def english(model: Model) -> bool:
    """Whether it knows no other language."""
    return all(language.lower().partition("-")[0] == "en" for language in model.languages)


def _had(load: Callable[[], T], what: str) -> T | None:
    try:
        return load()
    except CannotStart as error:
        _log.warning("engine.without", capability=what, detail=str(error))
        return None
