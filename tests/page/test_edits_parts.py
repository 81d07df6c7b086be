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


def test_steps_without_effect_and_typing_after_an_undo(visit: Visit, server: Server) -> None:
    found = visit(server, None).evaluate("""async () => {
        const { Edits } = await import("/page/edits.js");
        const segments = [0, 1].map((id) => ({ id, start: id, end: id + 1, text: "a", speaker: "S1" }));
        const back = new Edits({ version: 1, segments });
        back.setText(0, "ab", 0);
        back.setText(0, "a", 1); // typed and taken back at once
        const nothing = [back.canUndo, back.count];
        back.setText(0, "first", 10);
        back.setText(0, "second", 5_000);
        back.setText(0, "first", 5_001);
        const one = back.undo() && [back.text(0), back.canUndo];
        const after = new Edits({ version: 1, segments });
        after.setText(0, "typed", 0);
        after.setText(1, "other", 1);
        after.undo();
        after.setText(0, "typed on", 2); // what was undone cannot be done again, and this is a step of its own
        return [nothing, one, after.canRedo, after.undo() && after.text(0)];
    }""")
    assert found == [[False, 0], ["a", False], False, "typed"]
