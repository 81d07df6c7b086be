"""Whether a folder has the files of its family, with the metadata that sherpa-onnx would end the process without."""

from __future__ import annotations

import math
from collections.abc import Iterable

from cosygate.engine.folders.folder import ModelFolder
from cosygate.engine.recognisers.base import CannotStart


def check_roles(folder: ModelFolder, roles: Iterable[str]) -> None:
    """Raises CannotStart when the folder names no file as one of them."""
    for role in roles:
        if role not in folder.files:
            raise CannotStart(f"{folder.path} names no file as {role!r}, which the family {folder.family} needs")


def numbers(folder: ModelFolder, role: str, names: Iterable[str]) -> dict[str, str]:
    """All metadata of the file. Raises CannotStart unless each of `names` is a finite number, or several with commas
    between."""
    entries = folder.metadata(role)
    for name in names:
        try:
            good = all(math.isfinite(float(number)) for number in entries[name].split(","))
        except (KeyError, ValueError):
            good = False
        if not good:
            raise wrong(folder, role, entries, name)
    return entries


def wrong(folder: ModelFolder, role: str, entries: dict[str, str], name: str) -> CannotStart:
    """What to raise when the metadata `name` is not what it should be."""
    has = repr(entries[name][:64]) if name in entries else "nothing"
    return CannotStart(
        f"the model file {folder.files[role]} is not one of the family {folder.family}:"
        f" its metadata has {has} as {name}"
    )
