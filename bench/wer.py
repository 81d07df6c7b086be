"""Which clips count, and how their words are compared: word error rate after a plain normalisation for English."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import jiwer


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


def words(text: str) -> str:
    """Lower case, without remarks in brackets or punctuation other than apostrophes; "Mr." is "mister"."""
    text = re.sub(r"\[.*?\]", "", text.lower()).replace("-", " ").replace("mr.", "mister")
    return " ".join(re.sub(r"[^a-z' ]", " ", text).split())


def error_rate(references: list[str], texts: list[str]) -> float:
    """Word error rate over all pairs together, in per cent of the references' words."""
    return 100 * float(jiwer.wer([words(r) for r in references], [words(t) for t in texts]))
