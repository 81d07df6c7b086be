"""A model's folder as a recogniser."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import sherpa_onnx

from cosygate.engine.folders.folder import ModelFolder
from cosygate.engine.recognisers.base import RATE, CannotStart, Hints, Model, Recognised, Samples
from cosygate.engine.recognisers.sherpa.checking import checked, try_out
from cosygate.engine.recognisers.sherpa.ears import Ear
from cosygate.engine.recognisers.sherpa.families import FAMILIES, Variant

# Less than one window of SenseVoice and Paraformer, which would read beyond the end of it; no speech is that short.
_SHORTEST = RATE // 10
_SPARE = 2  # loaded models beside one per slot, so that languages may alternate


class Sherpa:
    name = "sherpa"
    cut_s: float | None = None
    limit_s: float | None = None
    instant = False

    def __init__(self, folder: ModelFolder, ears: Ears) -> None:
        self.version = f"{folder.family}, sherpa-onnx {sherpa_onnx.__version__}"
        self.models: tuple[Model, ...] = (Model(folder.name, folder.languages, folder.capabilities),)
        self._takes_language = FAMILIES[folder.family].languages is not None
        self._ears = ears

    @classmethod
    def load(cls, path: Path | None, *, slots: int, num_threads: int = 1) -> Sherpa:
        """`slots`: pieces at once. `num_threads`: that work on one of them. Raises CannotStart."""
        if path is None:
            raise CannotStart("the sherpa recogniser needs a model's folder: --model-dir FOLDER")
        folder = checked(ModelFolder.read(path))
        try_out(folder, num_threads)
        load = FAMILIES[folder.family].load
        ears = Ears(lambda variant: load(folder, variant, num_threads), most=slots + _SPARE)
        with ears.borrow(Variant(itn="itn" in folder.capabilities)):  # what callers get that say nothing
            return cls(folder, ears)

    def recognise(self, samples: Samples, hints: Hints, stop: threading.Event) -> Recognised:
        if len(samples) < _SHORTEST:
            return Recognised("")
        with self._ears.borrow(self._variant(hints)) as ear:
            return ear.hear(samples, hints, stop)

    def close(self) -> None:
        pass

    def _variant(self, hints: Hints) -> Variant:
        language = hints.language.lower().partition("-")[0] if self._takes_language else "auto"
        return Variant(language, itn="itn" in hints.features, hotwords=bool(hints.hotwords))


class Ears:
    """Loaded models, each lent to one thread at a time. What is not at hand is loaded; then the one that was not needed
    for longest has to go."""

    def __init__(self, load: Callable[[Variant], Ear], *, most: int) -> None:
        """`most`: how many stay loaded, unless more are lent."""
        self._load = load
        self._most = most
        self._lock = threading.Lock()
        self._idle: list[tuple[Variant, Ear]] = []  # the last one was needed last
        self._lent = 0

    @contextlib.contextmanager
    def borrow(self, variant: Variant) -> Iterator[Ear]:
        ear = self._take(variant)
        try:
            ear = ear or self._load(variant)
            yield ear
        finally:
            with self._lock:
                self._lent -= 1
                if ear is not None:
                    self._idle.append((variant, ear))

    def _take(self, variant: Variant) -> Ear | None:
        with self._lock:
            self._lent += 1
            for at in reversed(range(len(self._idle))):
                if self._idle[at][0] == variant:
                    return self._idle.pop(at)[1]
            while self._idle and self._lent + len(self._idle) > self._most:
                self._idle.pop(0)
            return None
