"""Whether a folder's model can punctuate: looked at here, then tried in a process of its own.

The metadata is what sherpa-onnx 2.0.1 reads when it loads such a file, and ends the process without (its csrc).
"""

from __future__ import annotations

from pathlib import Path

from cosygate.engine.folders import trying
from cosygate.engine.folders.checking import check_roles, whole, wrong
from cosygate.engine.folders.folder import ModelFolder
from cosygate.engine.recognisers.base import CannotStart

FAMILY = "punctuation"
MODEL = "model"  # role of its file
_TOKENS_MOST = 10_000_000  # there is a model of 272,727
_MARKS = ("_", "，", "。", "？", "、")


def checked(path: Path) -> ModelFolder:
    """Raises CannotStart, which names the file at fault."""
    folder = ModelFolder.read(path)
    if folder.family != FAMILY:
        raise CannotStart(f"{path} has a model of the family {folder.family!r}; punctuation takes one of {FAMILY!r}")
    check_roles(folder, (MODEL,))
    entries = folder.metadata(MODEL)
    count = whole(folder, MODEL, entries, "vocab_size", 1, _TOKENS_MOST)
    for name in ("tokens", "punctuations", "unk_symbol"):
        if not entries.get(name):
            raise wrong(folder, MODEL, entries, name)
    tokens = entries["tokens"].split("|")
    if count not in (len(tokens), len(list(filter(None, tokens)))):
        raise wrong(folder, MODEL, entries, "vocab_size")
    if entries["unk_symbol"] not in tokens:
        raise wrong(folder, MODEL, entries, "unk_symbol")
    if not set(_MARKS) <= set(entries["punctuations"].split("|")):
        raise wrong(folder, MODEL, entries, "punctuations")
    return folder


def try_out(folder: ModelFolder) -> None:
    """Loads the model and lets it punctuate a text. Raises CannotStart with what sherpa-onnx printed."""
    trying.try_out("cosygate.engine.punctuation.trial", folder, 1)
