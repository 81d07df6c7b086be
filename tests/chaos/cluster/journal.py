"""The journal: one JSON object a line, of what clients were told, and which faults were made. Several processes append
to the same file. Of the standard library alone, since the checker reads it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Line:
    """One entry. `number` counts from 1, as an editor does."""

    number: int
    at: float  # seconds since the epoch
    who: str  # a recording r…, a live session l…, receiver, faults, run
    kind: str
    data: Mapping[str, Any]


class Journal:
    """`tell` from any thread and process: a line is written by one call to the end of the file."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def tell(self, who: str, kind: str, **data: Any) -> None:
        line = {"at": round(time.time(), 3), "who": who, "kind": kind, **data}
        os.write(self._file, json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        os.close(self._file)


def read(path: Path) -> list[Line]:
    """All lines in order. Raises ValueError for one that is no entry, but for a last one that was cut off."""
    lines = []
    rows = path.read_bytes().split(b"\n")
    for number, row in enumerate(rows, 1):
        if not row:
            continue
        try:
            data = json.loads(row)
            lines.append(Line(number, data.pop("at"), data.pop("who"), data.pop("kind"), data))
        except (ValueError, KeyError, AttributeError):
            if number == len(rows):
                break
            raise ValueError(f"line {number} of the journal is no entry") from None
    return lines
