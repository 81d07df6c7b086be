"""The folder: recordings, and what is known of each. Read and checked as a whole before anything is sent."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

from cosygate.evaluate.normal import UNKNOWN, language_of, words

MAX_RECORDINGS = 10_000
MAX_FILE_BYTES = 8 * 1024 * 1024  # of a manifest or a reference
MAX_WORDS = 20_000  # of a reference
MAX_SPEAKERS = 12  # of a reference: their best match is searched among all subsets
_AUDIO = re.compile(r"(?i).*\.(wav|flac|mp3|og[ga]|opus|m4a|mp4|aac|webm|mk[av]|mov|3gp|aiff?|au|caf|w64|wma|amr)")
# Types of lines (NIST, "RT-09 Evaluation Plan", appendix A).
_RTTM = frozenset(
    {
        *("SPEAKER", "SEGMENT", "NOSCORE", "NO_RT_METADATA", "LEXEME", "NON-LEX", "NON-SPEECH", "FILLER", "EDIT", "IP"),
        *("SU", "CB", "A/P", "SPKR-INFO"),
    }
)
_COLUMNS = ("file", "language", "reference", "speakers")
_BESIDE = (".words.tsv", ".txt", ".rttm", ".lang")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")


class BadFolder(Exception):
    """Nothing to compare, or a reference that cannot be one; the message names the file."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Seconds from the recording's start."""

    start: float
    end: float
    speaker: str


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """Seconds from the recording's start."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Recording:
    path: Path
    name: str  # its path in the folder
    language: str = UNKNOWN  # of a BCP 47 tag, the language alone
    reference: str = ""  # what is said; "": not known
    speakers: int | None = None  # how many
    turns: tuple[Turn, ...] = ()
    words: tuple[SpokenWord, ...] = ()


def read(folder: Path, only: str = "*", limit: int | None = None) -> list[Recording]:
    """Those whose name the glob `only` matches, at most the first `limit`. Raises BadFolder."""
    if not folder.is_dir():
        raise BadFolder(f"{folder} is not a folder")
    manifest = folder / "manifest.tsv"
    rows = _of_manifest(manifest) if manifest.is_file() else _of_files(folder)
    chosen = [row for row in rows if fnmatchcase(row[0], only)][:limit]
    if not chosen:
        raise BadFolder(
            f"nothing to evaluate in {folder}: no recording with a reference matches {only} (docs/evaluate.md)"
        )
    if len(chosen) > MAX_RECORDINGS:
        raise BadFolder(f"{folder} has more than {MAX_RECORDINGS:,} recordings; --only or --limit takes some of them")
    return [_recording(folder, *row) for row in chosen]


Row = tuple[str, str, str, str]  # name, language, reference, speakers


def _of_manifest(manifest: Path) -> list[Row]:
    header = _text(manifest).partition("\n")[0].rstrip("\r").split("\t")
    for column in _COLUMNS:
        if column not in header and (meant := get_close_matches(column, header, 1, 0.6)):
            raise BadFolder(f"{manifest}: is the column {meant[0]!r} meant to be {column!r}?")
    rows = [
        (row["file"], row.get("language") or UNKNOWN, row.get("reference") or "", row.get("speakers") or "")
        for row in _table(manifest, "file")
    ]
    for name, *_ in rows:
        if not (manifest.parent / name).is_file():
            raise BadFolder(f"{manifest}: there is no recording {name}")
    return rows


def _of_files(folder: Path) -> list[Row]:
    """Audio with something known of it. What lies beside no audio is a mistake; audio with nothing beside it is not
    compared."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    audio = [path for path in files if _AUDIO.fullmatch(path.name)]
    known = {_beside(path, kind) for path in audio for kind in _BESIDE}
    for path in files:
        if path.name.endswith(_BESIDE) and path not in known:
            raise BadFolder(f"{path} is a reference without a recording")
    present = set(files)
    return [
        (
            path.relative_to(folder).as_posix(),
            _text(_beside(path, ".lang")).strip() or UNKNOWN,
            _text(_beside(path, ".txt")),
            "",
        )
        for path in audio
        if any(_beside(path, kind) in present for kind in _BESIDE)
    ]


def _recording(folder: Path, name: str, language: str, reference: str, speakers: str) -> Recording:
    path = folder / name
    if not _LANGUAGE.fullmatch(language):
        raise BadFolder(f"{path}: {language[:32]!r} is not a language (BCP 47)")
    spoken = tuple(_words(_beside(path, ".words.tsv")))
    turns = tuple(_turns(_beside(path, ".rttm")))
    counted = re.search(r"\d+", speakers)
    if "channel" in speakers:
        reference = ""  # one for each channel: not one text
    reference = reference if words(reference, language) else " ".join(word.text for word in spoken)
    if max(len(words(reference, language)), len(spoken)) > MAX_WORDS:
        raise BadFolder(f"{path}: its reference has more than {MAX_WORDS:,} words; cut the recording")
    people = len({turn.speaker for turn in turns})
    if people > MAX_SPEAKERS:
        raise BadFolder(f"{path}: its reference has more than {MAX_SPEAKERS} speakers")
    number = people or (int(counted[0]) if counted else None)
    return Recording(path, name, language_of(language), reference, number, turns, spoken)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.stem + ending)


def _text(path: Path) -> str:
    """Empty when there is no such file."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadFolder(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise BadFolder(f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from error


def _table(path: Path, *needed: str) -> Iterator[dict[str, str]]:
    """Rows of a TSV with a header."""
    table = csv.DictReader(_text(path).splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    try:
        if missing := [name for name in needed if name not in (table.fieldnames or ())]:
            raise BadFolder(f"{path}: its first line lacks the column {missing[0]}")
        for row in table:
            if any(row[name] is None for name in needed):
                raise BadFolder(f"{path}:{table.line_num}: a column is missing")
            yield row
    except csv.Error as error:
        raise BadFolder(f"{path}: {error}") from error


def _words(path: Path) -> Iterator[SpokenWord]:
    """NAME.words.tsv: word, start, end."""
    if path.is_file():
        for line, row in enumerate(_table(path, "word", "start", "end"), 2):
            yield SpokenWord(row["word"], *_times(row["start"], row["end"], f"{path}:{line}"))


def _turns(path: Path) -> Iterator[Turn]:
    """NAME.rttm (NIST's Rich Transcription Time Marked): of each SPEAKER line its start, duration and name."""
    for line, text in enumerate(_text(path).splitlines(), 1):
        fields = text.split()
        if fields and not fields[0].startswith(";") and fields[0] not in _RTTM:
            raise BadFolder(f"{path}:{line}: {fields[0][:32]!r} is no type of an RTTM line")
        if fields[:1] == ["SPEAKER"]:
            if len(fields) < 8:
                raise BadFolder(f"{path}:{line}: a SPEAKER line has at least 8 fields")
            start, length = _times(fields[3], fields[4], f"{path}:{line}", ordered=False)
            yield Turn(start, start + length, fields[7])


def _times(first: str, second: str, where: str, *, ordered: bool = True) -> tuple[float, float]:
    """Two numbers of seconds, none negative. `ordered`: the second is not before the first."""
    try:
        start, end = float(first), float(second)
    except ValueError:
        start = end = math.nan
    if not (0 <= start < math.inf and 0 <= end < math.inf) or (ordered and end < start):
        raise BadFolder(f"{where}: {first[:32]!r}, {second[:32]!r} are not times in seconds")
    return start, end
