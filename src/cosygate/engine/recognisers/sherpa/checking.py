"""Whether a folder's model can be loaded: looked at here, file by file, then tried in a process of its own.

That process is needed because sherpa-onnx ends the one it is in, without an exception, on whatever it cannot use.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace

from cosygate.engine.recognisers.base import CannotStart
from cosygate.engine.recognisers.sherpa.families import FAMILIES, Family
from cosygate.engine.recognisers.sherpa.folder import ModelFolder
from cosygate.engine.recognisers.sherpa.hotwords import Speller

FAILED = "Caught exception"  # what sherpa-onnx prints when a model failed, and then gives an empty result
_ALL = frozenset({"*", "mul"})  # a folder's words for every language that its model knows
_TRIAL_S = 120.0
_SAID_MAX = 500  # characters of what it printed


def checked(folder: ModelFolder) -> ModelFolder:
    """The folder with exactly the languages and capabilities that its model has. Raises CannotStart, which names the
    file at fault."""
    family = FAMILIES.get(folder.family)
    if family is None:
        raise CannotStart(f"{folder.path} has a model of the family {folder.family!r}; there is {', '.join(FAMILIES)}")
    for role in (*family.models, "tokens"):
        if role not in folder.files:
            raise CannotStart(f"{folder.path} names no file as {role!r}, which the family {folder.family} needs")
    metadata = {role: _numbers(folder, role, names) for role, names in family.models.items()}
    _check_tokens(folder, family, metadata)
    lacks = () if Speller.fits(folder) else ("hotwords",)
    return replace(
        folder,
        languages=_languages(folder, family, metadata),
        capabilities=tuple(c for c in folder.capabilities if c in family.capabilities and c not in lacks),
    )


def try_out(folder: ModelFolder, num_threads: int) -> None:
    """Loads the model and lets it hear a second. Raises CannotStart with what sherpa-onnx printed."""
    argv = [sys.executable, "-m", "cosygate.engine.recognisers.sherpa.trial", folder.path, num_threads, os.getpid()]
    try:
        trial = subprocess.run(  # noqa: S603 - this program
            list(map(str, argv)), stdin=subprocess.DEVNULL, capture_output=True, timeout=_TRIAL_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise CannotStart(f"the model {folder.name} in {folder.path} was not loaded within {_TRIAL_S:.0f} s") from None
    said = " ".join(trial.stderr.decode("utf-8", "replace").split())
    if trial.returncode != 0 or FAILED in said:
        raise CannotStart(
            f"the model {folder.name} in {folder.path} cannot be used: loading it ended with status {trial.returncode}"
            f" and the words {said[-_SAID_MAX:]!r}. {folder.repair}"
        )


def _numbers(folder: ModelFolder, role: str, names: tuple[str, ...]) -> dict[str, str]:
    """The metadata of the file; each of `names` is a finite number, or several with commas between."""
    entries = folder.metadata(role)
    for name in names:
        try:
            good = all(math.isfinite(float(number)) for number in entries[name].split(","))
        except (KeyError, ValueError):
            good = False
        if not good:
            has = repr(entries[name][:64]) if name in entries else "nothing"
            raise CannotStart(
                f"the model file {folder.files[role]} is not one of the family {folder.family}:"
                f" its metadata has {has} as {name}"
            )
    return entries


def _check_tokens(folder: ModelFolder, family: Family, metadata: Mapping[str, Mapping[str, str]]) -> None:
    count = len(folder.tokens())
    if family.vocabulary is not None:
        role, name = family.vocabulary
        if count < float(metadata[role][name]):
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
