"""The folder that is evaluated: what is taken from it, and what is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cosygate.evaluate import references
from cosygate.evaluate.references import BadFolder, SpokenWord, Turn, read


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    def write(**files: str) -> Path:
        """`a_wav="…"` is a.wav; two underscores are a folder."""
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path

    return write


RTTM = ";; a comment\nSPEAKER a 1 0.5 2 <NA> <NA> ann <NA> <NA>\n\nSPEAKER a 1 2.00 1.25 <NA> <NA> bob <NA> <NA>\n"
WORDS = "word\tstart\tend\nhello\t0.5\t0.9\nworld\t0.9\t1.2\n"


def test_what_lies_beside_a_recording(put: Callable[..., Path]) -> None:
    folder = put(a_wav="", a_txt="\ufeffHello, world!", a_lang="en-GB\n", a_rttm=RTTM, a_words_tsv=WORDS, lone_wav="",
                 sub__b_MP3="", sub__b_txt="noch eins")  # fmt: skip
    first, second = read(folder)
    assert (first.name, first.language, first.reference, first.speakers) == ("a.wav", "en", "Hello, world!", 2)
    assert first.turns == (Turn(0.5, 2.5, "ann"), Turn(2.0, 3.25, "bob"))
    assert first.words == (SpokenWord("hello", 0.5, 0.9), SpokenWord("world", 0.9, 1.2))
    assert (second.name, second.language, second.speakers, second.turns) == ("sub/b.MP3", "und", None, ())


def test_words_with_times_are_a_reference_too(put: Callable[..., Path]) -> None:
    [only] = read(put(a_wav="", a_words_tsv=WORDS))
    assert only.reference == "hello world"


def test_a_manifest(put: Callable[..., Path]) -> None:
    rows = ["file\tspeakers\tlanguage\treference", 'a.wav\t1\ten\tshe said "so [?]', "b.wav\t3\tzh\t[not known]",
            "c.wav\t2 (one per channel)\t\tleft: one / right: two", "d.wav\t\tfr\t"]  # fmt: skip
    folder = put(manifest_tsv="\n".join(rows), a_wav="", b_wav="", c_wav="", d_wav="", unlisted_wav="", c_rttm=RTTM)
    told = [(r.name, r.language, r.reference, r.speakers, len(r.turns)) for r in read(folder)]
    assert told == [
        ("a.wav", "en", 'she said "so [?]', 1, 0),
        ("b.wav", "zh", "", 3, 0),
        ("c.wav", "und", "", 2, 2),  # what was read from its RTTM is surer than the manifest
        ("d.wav", "fr", "", None, 0),
    ]


def test_only_and_limit(put: Callable[..., Path]) -> None:
    folder = put(a_wav="", a_txt="x", b_wav="", b_txt="x", c_flac="", c_txt="x")
    assert [r.name for r in read(folder, only="*.wav")] == ["a.wav", "b.wav"]
    assert [r.name for r in read(folder, limit=1)] == ["a.wav"]
    with pytest.raises(BadFolder, match=r"no recording .* matches x\*"):
        read(folder, only="x*")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "nothing to evaluate"),
        ({"a_wav": ""}, "nothing to evaluate"),
        ({"a_wav": "", "a_txt": "x", "b_txt": "y"}, r"b\.txt is a reference without a recording"),
        ({"a_rttm": RTTM}, "without a recording"),
        ({"manifest_tsv": "file\treference\na.wav\tx"}, r"there is no recording a\.wav"),
        ({"manifest_tsv": "name\nx"}, "lacks the column file"),
        ({"manifest_tsv": ""}, "lacks the column file"),
        ({"manifest_tsv": "file\tlanguage\na.wav\tEnglish please", "a_wav": ""}, "'English please' is not a language"),
        ({"a_wav": "", "a_words_tsv": "word\tbegin\tend\nx\t0\t1"}, "lacks the column start"),
        ({"a_wav": "", "a_words_tsv": "word\tstart\tend\nx\t0"}, r"a\.words\.tsv:2: a column is missing"),
        ({"a_wav": "", "a_words_tsv": "word\tstart\tend\nx\t2\t1"}, r":2: '2', '1' are not times"),
        ({"a_wav": "", "a_words_tsv": "word\tstart\tend\nx\tnan\t1"}, "not times"),
        ({"a_wav": "", "a_rttm": "SPEAKER a 1 0 <NA>"}, r"a\.rttm:1: a SPEAKER line"),
        ({"a_wav": "", "a_rttm": RTTM.replace("1.25", "-1")}, r"a\.rttm:4: .* are not times"),
        ({"a_wav": "", "a_rttm": "".join(RTTM.replace("ann", str(n)) for n in range(12))}, "more than 12 speakers"),
        ({"a_wav": "", "a_rttm": ";; a remark\n\ngarbage"}, r"a\.rttm:3: 'garbage' is no type"),
        ({"manifest_tsv": "file\tlang\na.wav\ten", "a_wav": ""}, "is the column 'lang' meant to be 'language'"),
        ({"a_wav": "", "a_txt": "x " * 20_001}, "more than 20,000 words"),
        ({"a_wav": "", "a_txt": "字" * 20_001}, "more than 20,000 words"),
        ({"a_wav": "", "a_txt": "x" * (references.MAX_FILE_BYTES + 1)}, "larger than 8 MiB"),
    ],
)
def test_what_is_refused(put: Callable[..., Path], files: dict[str, str], says: str) -> None:
    folder = put(**files)
    with pytest.raises(BadFolder, match=says):
        read(folder)


def test_no_folder_and_no_utf_8(tmp_path: Path) -> None:
    with pytest.raises(BadFolder, match="is not a folder"):
        read(tmp_path / "none")
    (tmp_path / "a.wav").touch()
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(BadFolder, match=r"a\.txt: not UTF-8"):
        read(tmp_path)
