"""Hotwords as a streaming transducer wants them: spelt in the characters that its tokens are made of.

sherpa-onnx would take a word that it cannot spell in part, and print it: such words are left out here. The model has no
tokens for them, so it could not hear them anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cosygate.engine.folders.folder import ModelFolder
from cosygate.engine.recognisers.base import CannotStart

UNITS = ("cjkchar", "bpe", "cjkchar+bpe")  # what the tokens are; those with bpe take a vocabulary with scores
_MEANING = frozenset(":#@/")  # for sherpa-onnx: a score, a threshold, a phrase, the next hotword


class Speller:
    def __init__(self, unit: str, tokens: Iterable[str]) -> None:
        """`unit`: of UNITS. `tokens`: of the model."""
        single = {token.removeprefix("▁") for token in tokens}
        bpe = "bpe" in unit
        self._letters = {c for c in single if len(c) == 1 and (bpe or not c.isascii())} - _MEANING

    @staticmethod
    def fits(folder: ModelFolder) -> bool:
        """Whether the folder has what hotwords take. Raises CannotStart when it says what does not exist."""
        unit = folder.settings.get("modeling_unit")
        if unit is None:
            return False
        if unit not in UNITS:
            raise CannotStart(f"{folder.path} has the modeling_unit {str(unit)[:64]!r}; there is {', '.join(UNITS)}")
        return "bpe" not in unit or "bpe_vocab" in folder.files

    def spell(self, hotwords: Sequence[str]) -> str:
        """For create_stream. Models that know one case only get that."""
        found = []
        for hotword in hotwords:
            forms = (" ".join(form.split()) for form in (hotword, hotword.upper(), hotword.lower()))
            spelt = next((form for form in forms if form and self._letters.issuperset(form.replace(" ", ""))), None)
            if spelt is not None:
                found.append(spelt)
        return "/".join(found)
