"""Whether a folder's model can be loaded: looked at here, file by file, then tried in a process of its own.

That process is needed because sherpa-onnx ends the one it is in, without an exception, on whatever it cannot use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cosygate.engine.folders import trying
from cosygate.engine.folders.checking import check_roles, numbers, whole
from cosygate.engine.folders.folder import ModelFolder
from cosygate.engine.recognisers.base import CannotStart
from cosygate.engine.recognisers.sherpa.families import FAMILIES, Family
from cosygate.engine.recognisers.sherpa.hotwords import Speller

_TOKENS_MOST = 10_000_000
_ALL = frozenset({"*", "mul"})  # a folder's words for every language that its model knows


def checked(folder: ModelFolder) -> ModelFolder:
    """The folder with exactly the languages and capabilities that its model has. Raises CannotStart, which names the
    file at fault."""
    family = FAMILIES.get(folder.family)
    if family is None:
        raise CannotStart(f"{folder.path} has a model of the family {folder.family!r}; there is {', '.join(FAMILIES)}")
    check_roles(folder, (*family.models, "tokens"))
    metadata = {role: numbers(folder, role, names) for role, names in family.models.items()}
    _check_tokens(folder, family, metadata)
    lacks = () if Speller.fits(folder) else ("hotwords",)
    return replace(
        folder,
        languages=_languages(folder, family, metadata),
        capabilities=tuple(c for c in folder.capabilities if c in family.capabilities and c not in lacks),
    )


def try_out(folder: ModelFolder, num_threads: int) -> None:
    """Loads the model and lets it hear a second. Raises CannotStart with what sherpa-onnx printed."""
    trying.try_out("cosygate.engine.recognisers.sherpa.trial", folder, num_threads)


def _check_tokens(folder: ModelFolder, family: Family, metadata: Mapping[str, Mapping[str, str]]) -> None:
    count = len(folder.tokens())
    if family.vocabulary is not None:
        role, name = family.vocabulary
        if count < whole(folder, role, dict(metadata[role]), name, 1, _TOKENS_MOST):
            raise CannotStart(
                f"{folder.files['tokens']} has {count} tokens, but {folder.files[role]} gives {metadata[role][name]}"
            )


def _languages(folder: ModelFolder, family: Family, metadata: Mapping[str, Mapping[str, str]]) -> tuple[str, ...]:
    known: tuple[str, ...] = ("*",)
    if family.languages is not None:
        known = family.languages({name: value for entries in metadata.values() for name, value in entries.items()})
    if not _ALL.isdisjoint(folder.languages):
        return known
    if family.languages is None:
        return folder.languages
    for language in folder.languages:
        if language.lower().partition("-")[0] not in known:
            raise CannotStart(f"the model {folder.name} in {folder.path} does not know the language {language!r}")
    return folder.languages
