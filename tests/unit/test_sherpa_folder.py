"""Model folders: what is damaged or does not fit is refused with the name of the file, before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from cosygate.engine.folders.folder import ModelFolder
from cosygate.engine.recognisers.base import CannotStart
from cosygate.engine.recognisers.sherpa.checking import checked, try_out
from cosygate.engine.recognisers.sherpa.families import FAMILIES
from cosygate.engine.recognisers.sherpa.hotwords import Speller
from tests.support import tiny_models

DESCRIPTION = "cosygate-model.json"
Damage = Callable[[Path], object]


def said(folder: Path, **members: Any) -> None:
    """Changes the description; None removes a member."""
    whole = json.loads((folder / DESCRIPTION).read_text()) | members
    (folder / DESCRIPTION).write_text(json.dumps({name: value for name, value in whole.items() if value is not None}))


def files(folder: Path, **by_role: str) -> None:
    said(folder, files=json.loads((folder / DESCRIPTION).read_text())["files"] | by_role)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def lines(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("\n".join(change(path.read_text().split("\n"))))


def look(folder: Path) -> ModelFolder:
    return checked(ModelFolder.read(folder))


@pytest.mark.parametrize(
    ("damage", "names", "says"),
    [
        (lambda p: (p / DESCRIPTION).unlink(), DESCRIPTION, "No such file"),
        (lambda p: (p / DESCRIPTION).write_text("{"), DESCRIPTION, "Expecting"),
        (lambda p: (p / DESCRIPTION).write_text("[]"), DESCRIPTION, "should be a dict"),
        (lambda p: (p / DESCRIPTION).write_text("[" * 100_000), DESCRIPTION, "not a model's description"),
        (lambda p: (p / DESCRIPTION).write_text(" " * (1 << 20) + "{}"), DESCRIPTION, "too long"),
        (lambda p: said(p, name=None), DESCRIPTION, "has no 'name'"),
        (lambda p: said(p, languages="en"), DESCRIPTION, "'en' should be a list"),
        (lambda p: said(p, languages=[]), DESCRIPTION, "no language"),
        (lambda p: said(p, capabilities=[1]), DESCRIPTION, "'1' should be a text"),
        (lambda p: said(p, family="gpt"), "", "family 'gpt'; there is sense_voice, paraformer"),
        (lambda p: said(p, files={"model": "model.onnx"}), "", "no file as 'tokens'"),
        (lambda p: said(p, languages=["en", "fr"]), "", "does not know the language 'fr'"),
        (lambda p: files(p, model="../model.onnx"), DESCRIPTION, "not in the folder"),
        (lambda p: files(p, model="/etc/passwd"), DESCRIPTION, "not in the folder"),
        (lambda p: files(p, model="."), "", "empty"),
        (lambda p: (p / "model.onnx").unlink(), "model.onnx", "cannot be read"),
        (lambda p: (p / "model.onnx").write_bytes(b""), "model.onnx", "empty"),
        (lambda p: (p / "model.onnx").write_text("<html>"), "model.onnx", "damaged"),
        (lambda p: cut(p / "model.onnx"), "model.onnx", "damaged: it is cut off"),
        (lambda p: tiny_models.sense_voice(p, lfr_window_size=None), "model.onnx", "has nothing as lfr_window_size"),
        (lambda p: tiny_models.sense_voice(p, lang_ja="three"), "model.onnx", "has 'three' as lang_ja"),
        (lambda p: tiny_models.sense_voice(p, neg_mean="1,,2"), "model.onnx", "has '1,,2' as neg_mean"),
        (lambda p: tiny_models.sense_voice(p, neg_mean="nan"), "model.onnx", "has 'nan' as neg_mean"),
        (lambda p: tiny_models.sense_voice(p, neg_mean="1e400"), "model.onnx", "has '1e400' as neg_mean"),
        (lambda p: tiny_models.sense_voice(p, vocab_size="3_5"), "model.onnx", "has '3_5' as vocab_size"),
        (lambda p: tiny_models.sense_voice(p, lang_ja="٣"), "model.onnx", "has '٣' as lang_ja"),
        (lambda p: tiny_models.sense_voice(p, vocab_size=99), "tokens.txt", "35 tokens, but .*model.onnx gives 99"),
        (lambda p: (p / "tokens.txt").unlink(), "tokens.txt", "cannot be read"),
        (lambda p: (p / "tokens.txt").write_bytes(b""), "tokens.txt", "empty"),
        (lambda p: (p / "tokens.txt").write_bytes(b"\xff 0\n"), "tokens.txt", "not UTF-8"),
        (lambda p: (p / "tokens.txt").write_text("<html>\n"), "tokens.txt", "line 1 "),
        (lambda p: lines(p / "tokens.txt", lambda ls: [*ls[:3], "word", *ls[3:]]), "tokens.txt", "line 4 "),
        (lambda p: lines(p / "tokens.txt", lambda ls: [*ls[:3], ls[2], *ls[3:]]), "tokens.txt", "line 4 "),
        (lambda p: lines(p / "tokens.txt", lambda ls: [*ls[:3], "a " + "9" * 5000]), "tokens.txt", "line 4 "),
        (lambda p: lines(p / "tokens.txt", lambda ls: [*ls[:3], *ls[4:]]), "tokens.txt", "not 0 to 33"),
    ],
)
def test_what_is_damaged_is_refused_by_name(damage: Damage, names: str, says: str, tmp_path: Path) -> None:
    folder = tiny_models.sense_voice(tmp_path)
    damage(folder)
    with pytest.raises(CannotStart, match=says) as refused:
        look(folder)
    assert str(folder / names) in str(refused.value)


@pytest.mark.parametrize("mean", ["-8.3, 1.25", "1e-3,+.5,-7.", "0", "1E5,-2.5e+10"])
def test_numbers_are_written_in_several_ways(mean: str, tmp_path: Path) -> None:
    look(tiny_models.sense_voice(tmp_path, neg_mean=mean))


def test_a_model_of_another_family_is_refused(tmp_path: Path) -> None:
    folder = tiny_models.paraformer(tmp_path)
    said(folder, family="sense_voice", files={"model": "model.onnx", "tokens": "tokens.txt"})
    with pytest.raises(CannotStart, match="not one of the family sense_voice: its metadata has nothing as"):
        look(folder)


@pytest.mark.parametrize(
    "make", [tiny_models.sense_voice, tiny_models.paraformer, tiny_models.zipformer, tiny_models.whisper]
)
def test_good_folders_pass_and_can_be_loaded(make: Callable[[Path], Path], tmp_path: Path) -> None:
    try_out(look(make(tmp_path)), 1)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        # What only loading shows: sherpa-onnx prints and ends the process, prints and goes on, or raises.
        (lambda p: tiny_models.whisper(p, all_language_codes="en"), "status (255|-)"),
        (lambda p: tiny_models.paraformer(p, lfr_window_size=5), "Caught exception"),
        (lambda p: tiny_models.sense_voice(p, lfr_window_size=5), "failed on this piece"),
        (lambda p: tiny_models.zipformer(p, encoder_dims=20), "status 1"),
    ],
)
def test_what_only_loading_shows_costs_a_process_of_its_own(
    make: Callable[[Path], Path], says: str, tmp_path: Path
) -> None:
    folder = make(tmp_path)
    with pytest.raises(CannotStart, match=says) as refused:
        try_out(look(folder), 1)
    assert str(folder) in str(refused.value)
    assert len(str(refused.value)) < 1500


def test_capabilities_are_those_that_the_family_has_and_the_folder_claims(tmp_path: Path) -> None:
    folder = tiny_models.sense_voice(tmp_path)
    assert look(folder).capabilities == ("words", "language", "emotion", "events", "punctuation", "itn")
    said(folder, capabilities=["punctuation", "words", "speakers", "hotwords"])
    assert look(folder).capabilities == ("punctuation", "words")


def test_hotwords_take_what_spells_them(tmp_path: Path) -> None:
    folder = tiny_models.zipformer(tmp_path)
    assert look(folder).capabilities == ("words", "hotwords")
    said(folder, settings={})
    assert look(folder).capabilities == ("words",)
    said(folder, settings={"modeling_unit": "cjkchar"})
    assert look(folder).capabilities == ("words", "hotwords")
    tiny_models.zipformer(tmp_path, hotwords=False)
    said(folder, settings={"modeling_unit": "cjkchar+bpe"})
    assert look(folder).capabilities == ("words",)
    said(folder, settings={"modeling_unit": "syllable"})
    with pytest.raises(CannotStart, match="modeling_unit 'syllable'; there is cjkchar, bpe"):
        look(folder)


def test_languages_are_those_that_the_model_can_be_told(tmp_path: Path) -> None:
    folder = tiny_models.whisper(tmp_path)
    assert look(folder).languages == ("en", "de")
    said(folder, languages=["mul"])
    assert look(folder).languages == ("en", "de")
    said(folder, languages=["de-CH"])
    assert look(folder).languages == ("de-CH",)
    said(folder, languages=["ja"])
    with pytest.raises(CannotStart, match="does not know the language 'ja'"):
        look(folder)
    tiny_models.whisper(folder, is_multilingual=0)
    assert look(folder).languages == ("en",)
    tiny_models.paraformer(folder)
    said(folder, languages=["mul"])
    assert look(folder).languages == ("*",)


def test_tokens_may_be_spaces_and_lines_may_end_as_on_windows(tmp_path: Path) -> None:
    folder = tiny_models.paraformer(tmp_path)
    (folder / "tokens.txt").write_bytes("a 0\r\n 2\r\n\u3000 3\r\nb\t1\r\n".encode())
    assert ModelFolder.read(folder).tokens() == ["a", "b", " ", "\u3000"]


def test_hotwords_are_spelt_as_the_model_spells() -> None:
    tokens = ["<blk>", "▁A", "B", "▁THE", "你", "好", ":"]
    bpe = Speller("cjkchar+bpe", tokens)
    assert bpe.spell(["ab", "A  b", "你好 ab", "ac", "", "a:b"]) == "AB/A B/你好 AB"
    assert Speller("cjkchar", tokens).spell(["ab", "你好", "你们"]) == "你好"


def test_the_page_names_every_family_with_its_files_and_what_it_tells() -> None:
    section = (
        (Path(__file__).parents[2] / "docs" / "engines.md").read_text().split("### sherpa\n")[1].split("\n### ")[0]
    )
    example = json.loads(section.split("```jsonc\n")[1].split("```")[0])
    assert set(example) == {field.name for field in fields(ModelFolder)} - {"path"}
    rows = [line for line in section.split("\n") if line.startswith("| `")]
    assert len(rows) == len(FAMILIES)
    for (name, family), row in zip(FAMILIES.items(), rows, strict=True):
        for word in (name, *family.models, *family.capabilities):
            assert f"`{word}`" in row
    assert set(example["files"]) == {*FAMILIES[example["family"]].models, "tokens"}
    assert set(example["capabilities"]) == set(FAMILIES[example["family"]].capabilities)
