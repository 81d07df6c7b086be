"""Which clips count, and their word error rate."""

import csv
from dataclasses import dataclass
from pathlib import Path

from cosygate.evaluate.aligning import errors
from cosygate.evaluate.normal import words


@dataclass(frozen=True, slots=True)
class Clip:
    path: Path
    reference: str


def clips(folder: Path) -> list[Clip]:
    """English clips of `folder/manifest.tsv` with one channel and a reference transcript; of samples/, which has no
    manifest, all."""
    if not (folder / "manifest.tsv").is_file():
        with (folder / "references.tsv").open(encoding="utf-8") as lines:
            return [Clip(folder / row["file"], row["reference"]) for row in csv.DictReader(lines, delimiter="\t")]
    with (folder / "manifest.tsv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    return [
        Clip(folder / row["file"], row["reference"])
        for row in rows
        if row["language"] == "en"
        and row["reference"]
        and not row["reference"].startswith("[")
        and "channel" not in row["speakers"]
    ]


def error_rate(references: list[str], texts: list[str]) -> float:
    """Word error rate over all pairs together, in per cent of the references' words, as `cosygate evaluate` counts."""
    compared = [(words(reference, "en"), words(text, "en")) for reference, text in zip(references, texts, strict=True)]
    wrong = sum(errors(reference, text).count for reference, text in compared)
    return 100 * wrong / sum(len(reference) for reference, _ in compared)
