"""The parts of editing by themselves: steps, what is sent, whose words are whose, putting changes on top of others."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.page.conftest import Visit
from tests.support.server import Server

pytestmark = pytest.mark.needs("chromium")


def test_steps_and_what_is_sent(visit: Visit, server: Server) -> None:
    """The state alone, without a server: five hundred steps, channels with a name, swapped and merged names."""
    page = visit(server, None)
    found = page.evaluate("""async () => {
        const { Edits } = await import("/page/edits.js");
        const base = { version: 7, segments: [
            { id: 0, start: 0, end: 1, text: "a", speaker: "S1" },
            { id: 1, start: 1, end: 2, text: "b", speaker: "S2" },
            { id: 2, start: 2, end: 3, text: "c", channel: 1 }, { id: 3, start: 3, end: 4, text: "d" }] };
        const swapped = new Edits(base);
        swapped.rename("S1", "x");
        swapped.rename("S2", "S1");
        swapped.rename("x", "S2");
        const merged = new Edits(base);
        merged.rename(1, "Anna"); // a channel without a name
        merged.setSpeaker(3, "Anna");
        merged.rename("Anna", "S2");
        merged.rename("S2", "Bea");
        const draft = JSON.parse(JSON.stringify(merged.draft));
        const before = JSON.stringify(merged.patch());
        let back = 0;
        while (merged.undo()) back += 1;
        const undone = [merged.patch(), merged.voices];
        while (merged.redo());
        const many = new Edits(base);
        for (let n = 0; n < 600; n++) many.setText(n % 2, `text ${n}`, n);
        let steps = 0;
        while (many.undo()) steps += 1;
        const typed = new Edits(base);
        for (const text of ["a1", "a12", "a123"]) typed.setText(0, text, 0);
        typed.undo();
        typed.setText(0, "other", 1);
        return { swapped: swapped.patch(), merged: merged.patch(), same: JSON.stringify(merged.patch()) === before,
            again: JSON.stringify(new Edits(base, draft).patch()) === before, back, undone, steps, left: many.text(0),
            typed: [typed.text(0), typed.undo() && typed.text(0), typed.canRedo] };
    }""")
    assert found == {
        "swapped": {"base": 7, "speakers": {"S1": "S2", "S2": "S1"}},
        "merged": {
            "base": 7,
            "segments": [{"id": 2, "speaker": "Bea"}, {"id": 3, "speaker": "Bea"}],
            "speakers": {"S2": "Bea"},
        },
        "same": True,
        "again": True,
        "back": 4,
        "undone": [None, ["S1", "S2", 1]],
        "steps": 500,
        "left": "text 98",
        "typed": ["other", "a", True],
    }


def test_where_two_speak_in_one_line_each_part_has_its_colour_and_a_name(talk: Page) -> None:
    """No scripted engine tells whose a word is, so the line is made from such a segment by the page's own module."""
    found = talk.evaluate("""async () => {
        const { Lines } = await import("/page/lines.js");
        const words = [["Are", "S1"], ["you?", "S1"], ["No,", "S2"], ["I", "S2"], ["see.", "S1"]]
            .map(([text, speaker], at) => ({ text, speaker, start: at, end: at + 1 }));
        const lines = new Lines();
        const texts = [{ text: "Are  you? No, I see.", words }, { text: "Otherwise.", words }, { text: "Plain." }];
        const made = texts
            .map((segment, id) => ({ id, start: 5 * id, end: 5 * id + 5, speaker: "S1", ...segment }));
        lines.fill(made);
        document.querySelector("#task").append(lines.element);
        const colour = (element) => getComputedStyle(element).color;
        return [...lines.list.children].map((line) => ({
            text: line.querySelector("p").textContent,
            parts: [...line.querySelectorAll(".part")]
                .map((part) => [part.textContent, colour(part) === colour(line.querySelector(".voice"))]),
        }));
    }""")
    assert found == [
        {
            "text": "S1Are  you? S2: No, I S1: see.",
            "parts": [["Are  you? ", True], ["S2: No, I ", False], ["S1: see.", True]],
        },
        {"text": "S1Otherwise.", "parts": []},
        {"text": "S1Plain.", "parts": []},
    ]


def test_changes_go_on_top_of_others(visit: Visit, server: Server) -> None:
    page = visit(server, None)
    found = page.evaluate("""async () => {
        const { Edits } = await import("/page/edits.js");
        const { reapply } = await import("/page/reapply.js");
        const segment = (id, start, text, speaker) => ({ id, start, end: start + 1, text, speaker });
        const mine = new Edits({ version: 1, segments: [segment(0, 0, "a", "S1"), segment(1, 1, "b", "S2"),
            segment(2, 2, "c", "S1"), segment(3, 3, "d", "S2"), segment(4, 4, "e", "S3")] });
        // They have taken the first line away (so the ids moved), renamed S1, and changed one text.
        const theirs = { version: 2, segments: [segment(0, 1, "b", "S2"), segment(1, 2, "c", "Anna"),
            segment(2, 3, "D", "S2"), segment(3, 4, "e", "S3")] };
        mine.setText(0, "mine, but it is gone");
        mine.setText(1, "B");
        mine.setText(3, "another d");
        mine.setText(4, "");
        mine.rename("S2", "Ben");
        mine.rename("S1", "Annika");
        mine.setSpeaker(2, "Ben");
        const { clashes, make } = reapply(mine, theirs);
        const same = new Edits(mine.base);
        same.setText(3, " D ");
        same.rename("S1", "Anna");
        const both = reapply(same, theirs);
        return { clashes, mine: make(true).patch(), theirs: make(false).patch(),
            both: [both.clashes, both.make(true).patch()] };
    }""")
    assert found["clashes"] == [
        {"start": 0, "mine": "mine, but it is gone", "theirs": None},
        {"start": 3, "mine": "another d", "theirs": "D"},
        {"start": None, "mine": "Annika", "theirs": "Anna"},
    ]
    agreed = [{"id": 0, "text": "B"}, {"id": 1, "speaker": "Ben"}, {"id": 3, "text": ""}]
    assert found["theirs"] == {"base": 2, "segments": agreed, "speakers": {"S2": "Ben"}}
    assert found["mine"] == {
        "base": 2,
        "segments": [*agreed[:2], {"id": 2, "text": "another d"}, agreed[2]],
        "speakers": {"S2": "Ben", "Anna": "Annika"},
    }
    assert found["both"] == [[], None]
