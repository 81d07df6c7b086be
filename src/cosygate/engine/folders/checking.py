"""Whether a folder has the files of its family, with the metadata that sherpa-onnx would end the process without."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from cosygate.engine.folders.folder import ModelFolder
from cosygate.engine.recognisers.base import CannotStart

# What C reads as Python does: float() and int() would also take "1_6" and digits of other scripts.
_NUMBER = re.compile(r"[ ]*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?[ ]*")
_WHOLE = re.compile("[0-9]{1,10}")


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
        if name not in entries or not all(map(_is_number, entries[name].split(","))):
            raise wrong(folder, role, entries, name)
    return entries


def whole(folder: ModelFolder, role: str, entries: dict[str, str], name: str, least: int, most: int) -> int:
    """The metadata `name`, among the file's `entries`. Raises CannotStart unless it is one whole number, digits alone,
    from `least` to `most`."""
    text = entries.get(name, "")
    if not _WHOLE.fullmatch(text) or not least <= int(text) <= most:
        raise wrong(folder, role, entries, name)
    return int(text)


def wrong(folder: ModelFolder, role: str, entries: dict[str, str], name: str) -> CannotStart:
    """What to raise when the metadata `name` is not what it should be."""
    has = repr(entries[name][:64]) if name in entries else "nothing"
    return CannotStart(
        f"the model file {folder.files[role]} is not one of the family {folder.family}:"
        f" its metadata has {has} as {name}"
    )


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None and math.isfinite(float(text))
