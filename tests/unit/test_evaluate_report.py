"""What is told of the figures: a table, JSON, and a page on which nothing of a recording can run."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from cosygate.client import Segment, Transcript, Word
from cosygate.evaluate import page, plots, table
from cosygate.evaluate.aligning import Rate
from cosygate.evaluate.references import Recording, SpokenWord, Turn
from cosygate.evaluate.running import Outcome
from cosygate.evaluate.scoring import Score, score
from cosygate.evaluate.summing import summaries

EVIL = "<script>alert(1)</script>\"'&"


def scores(name: str = "a.wav", said: str = "one two three", heard: str = "one too three four") -> list[Score]:
    known = Recording(Path(name), name, "en", said, 1, (Turn(0, 2, "A"),), (SpokenWord("one", 0.0, 0.3),))
    words = (Word("one", 0.05, 0.3),)
    told = Transcript("t", 3.0, heard, (Segment(0, 0, 2, heard, "S1", words=words),), "en", {"model": name},
                      {"recognise": 0.3})  # fmt: skip
    return [
        score(Outcome(known, model, told if ok else None, 1.0, None if ok else f"failed: {name}"), timed=True,
              diarized=True)
        for model, ok in (("m1", True), (name, True), (name, False))
    ]  # fmt: skip


def whole(found: list[Score]) -> str:
    return page.page({"folder": EVIL}, summaries(found, 0), found)


class Page(HTMLParser):
    """Every tag, and the text outside of style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_table_has_a_row_for_each_model_and_no_empty_column() -> None:
    lines = table.text(summaries(scores(), 0)).splitlines()
    assert len(lines) == 4
    assert lines[0].split("  ")[0] == "model"
    assert "66.7" in lines[2] and "0.100" in lines[2]
    bare = score(Outcome(Recording(Path("a"), "a", "en", "x"), "m", None, 0.0, "no"), timed=False, diarized=False)
    assert table.rows(summaries([bare], 0)) == [
        ["model", "language", "recordings", "failed", "WER %", "CER %"],
        ["m", "en", "1", "1", "100.0", "100.0"],
    ]


def test_every_measure_is_explained() -> None:
    explained = (Path(__file__).parents[2] / "docs" / "evaluate.md").read_text()
    measures = list(table.COLUMNS)[4:]
    assert len(measures) == 8
    assert [title for title in measures if f"\n| {title.split(',')[0]} | " not in explained] == []


def test_rates_with_and_without_interval() -> None:
    assert table.percent(Rate(0.0712, 0.05, 0.1234, 100)) == "7.1 (5.0-12.3)"
    assert table.percent(Rate(1.5, None, None, 2)) == "150.0"
    assert table.percent(None) == table.NOTHING


def test_everything_is_json_and_nothing_is_lost() -> None:
    found = scores()
    told = json.loads(json.dumps(table.as_json({"seed": 0}, summaries(found, 0), found), allow_nan=False))
    assert told["seed"] == 0
    assert [s["model"] for s in told["summaries"]] == ["m1", "a.wav"]
    assert told["summaries"][0]["wer"]["value"] == pytest.approx(2 / 3)
    first = told["recordings"][0]
    assert first["file"] == "a.wav" and first["reference"] == "1 2 3" and first["heard"] == "1 too 3 4"
    assert first["words"] == {"of": 3, "substituted": 1, "deleted": 0, "inserted": 1}
    assert first["starts"] == [0.05] and first["timings"] == {"recognise": 0.3}
    assert told["recordings"][2]["failure"] == "failed: a.wav"


def test_the_page_shows_what_was_said_and_heard() -> None:
    text = whole(scores())
    assert "1 <del>2</del> <ins>too</ins> 3 <ins>4</ins>" in text
    assert "failed: a.wav" in text
    assert text.count("<svg") == 5  # words, characters, speakers, word starts, latency
    assert text.index("failed: a.wav") < text.index("<del>2</del>")  # the worst come first


def test_nothing_of_a_recording_becomes_markup_and_nothing_is_loaded() -> None:
    plain = Page(whole(scores()))
    evil = Page(whole(scores(EVIL, f"one {EVIL}", f"{EVIL} {EVIL}")))
    assert {tag for tag, _ in evil.tags} <= {tag for tag, _ in plain.tags}
    assert not {"script", "img", "link", "iframe"} & {tag for tag, _ in evil.tags}
    assert EVIL in evil.text
    for _, attributes in evil.tags:
        assert not {name for name in attributes if name.startswith("on") or name in ("src", "href")}
    policy = {"http-equiv": "Content-Security-Policy", "content": "default-src 'none'; style-src 'unsafe-inline'"}
    assert ("meta", policy) in plain.tags


def test_plots_are_well_formed_and_keep_their_points_inside() -> None:
    rows = [(f"model {EVIL}", n, Rate(0.1 * n, 0.05 * n, 0.2 * n, 10)) for n in range(8)]
    drawn = [
        plots.rates([*rows, ("alone", 0, Rate(1.7, None, None, 1))], EVIL),
        plots.over({EVIL: [(n, n * n) for n in range(20_000)], "none": []}, EVIL, EVIL),
        plots.over({"line": [(0.001, 3.0), (0.002, 4.0)]}, "t", "x", lines=True),
    ]
    for svg in drawn:
        figure = ElementTree.fromstring(svg)
        [root] = figure.iter("svg")
        width, height = map(float, root.attrib["viewBox"].split()[2:])
        for dot in root.iter("circle"):
            assert 0 <= float(dot.attrib["cx"]) <= width and 0 <= float(dot.attrib["cy"]) <= height
    assert len(re.findall("<circle", drawn[1])) <= 5_003


@pytest.mark.parametrize("most", [1e-3, 0.3, 1.0, 7.0, 10.0, 11.0, 21.0, 51.0, 99.0, 1e6])
def test_ticks_reach_the_highest_in_few_steps(most: float) -> None:
    ticks = plots._ticks(most)
    assert ticks[0] == 0 and ticks[-1] >= most * (1 - 1e-9) and 4 <= len(ticks) <= 12
