"""One's own changes on top of somebody else's, by the page's own module: what goes where, and what is asked."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.page.conftest import Visit
from tests.page.editing import correct, edit, kept, rename, speakers
from tests.support.server import Server

pytestmark = pytest.mark.needs("chromium")

# Lines of two seconds. What I do: [voice, name] renames, [place, name] gives a line a speaker.
APPLY = """async ([before, mine, after, texts]) => {
    const { Edits } = await import("/page/edits.js");
    const { reapply } = await import("/page/reapply.js");
    const make = (version, voices) => ({ version, segments: voices.map((speaker, id) => (
        { id, start: 2 * id, end: 2 * id + 2, text: version > 1 && texts?.[id] || `t${id}`, speaker })) });
    const edits = new Edits(make(1, before));
    for (const [what, name] of mine) {
        if (typeof what === "number") edits.setSpeaker(what, name);
        else edits.rename(what, name);
    }
    const { clashes, make: put } = reapply(edits, make(2, after));
    const called = (some) => some.segments.map((_, at) => some.speaker(at)).join(" ");
    return { clashes: clashes.map(({ start, mine, theirs, taken }) => [start, mine, theirs, Boolean(taken)]),
        mine: called(put(true)), theirs: called(put(false)), count: put(true).count };
}"""


def line(place: int, mine: str, theirs: str, *, taken: bool = False) -> list[Any]:
    return [2 * place, mine, theirs, taken]


def name(mine: str, theirs: str | None, *, taken: bool = False) -> list[Any]:
    return [None, mine, theirs, taken]


CASES: dict[str, tuple[str, list[list[Any]], str, list[list[Any]], str, str]] = {
    # before, mine, theirs; what clashes, the names with my side of it, with theirs
    "they corrected most lines of whom I renamed": (
        "S1 S2 S1 S2 S2 S1", [["S2", "Ben"]], "S1 S1 S1 S1 S2 S1",
        [line(1, "Ben", "S1"), line(3, "Ben", "S1")], "S1 Ben S1 Ben Ben S1", "S1 S1 S1 S1 Ben S1",
    ),
    "they corrected half of the lines": (
        "S1 S2 S1 S2", [["S2", "Ben"]], "S1 S1 S1 S2",
        [line(1, "Ben", "S1")], "S1 Ben S1 Ben", "S1 S1 S1 Ben",
    ),
    "they merged whom I renamed": (
        "S1 S2 S1 S2", [["S2", "Ben"]], "S1 S1 S1 S1",
        [line(1, "Ben", "S1"), line(3, "Ben", "S1")], "S1 Ben S1 Ben", "S1 S1 S1 S1",
    ),
    "they merged both under a new name": (
        "S1 S2 S1 S2", [["S2", "Ben"]], "Anna Anna Anna Anna",
        [line(1, "Ben", "Anna"), line(3, "Ben", "Anna")], "Anna Ben Anna Ben", "Anna Anna Anna Anna",
    ),
    "both gave a name to two speakers": (
        "S1 S2 S1 S2", [["S2", "Anna"]], "Anna S2 Anna S2",
        [name("Anna", "S2", taken=True)], "Anna Anna Anna Anna", "Anna S2 Anna S2",
    ),
    "I gave a line a new speaker of the name that they gave to another": (
        "S1 S2 S1 S2 S2", [[1, "Anna"]], "Anna S2 Anna S2 S2",
        [line(1, "Anna", "S2", taken=True)], "Anna Anna Anna S2 S2", "Anna S2 Anna S2 S2",
    ),
    "a name that frees another is not taken": (
        "S1 S2 S3", [["S2", "Anna"], ["S3", "S2"]], "Anna S2 S3",
        [name("Anna", "S2", taken=True), name("S2", "S3", taken=True)], "Anna Anna S2", "Anna S2 S3",
    ),
    "I merged with somebody whom they renamed": (
        "S1 S2 S1 S2", [["S2", "S1"]], "Anna S2 Anna S2", [], "Anna Anna Anna Anna", "Anna Anna Anna Anna",
    ),
    "both merged the same": ("S1 S2 S1 S2", [["S2", "S1"]], "S1 S1 S1 S2", [], "S1 S1 S1 S1", "S1 S1 S1 S1"),
    "both renamed, I gave a line to that speaker": (
        "S1 S2 S1 S2", [["S1", "Anna"], [1, "Anna"]], "Maria S2 Maria S2",
        [name("Anna", "Maria")], "Anna Anna Anna S2", "Maria Maria Maria S2",
    ),
    "I gave a line to somebody whom they renamed": (
        "S1 S2 S1 S2", [[1, "S1"]], "Anna S2 Anna S2", [], "Anna Anna Anna S2", "Anna Anna Anna S2",
    ),
    "they gave a line to whom I renamed": (
        "S1 S2 S1 S2", [["S2", "Ben"]], "S2 S2 S1 S2", [], "Ben Ben S1 Ben", "Ben Ben S1 Ben",
    ),
    "both gave the only line of a speaker": (
        "S1 S2 S1 S3", [[3, "S1"]], "S1 S2 S1 Zoe", [line(3, "S1", "Zoe")], "S1 S2 S1 S1", "S1 S2 S1 Zoe",
    ),
    "they gave the first of two lines to somebody new": (
        "S1 S2 S1 S2", [["S2", "Ben"]], "S1 Zoe S1 S2",
        [line(1, "Ben", "Zoe")], "S1 Ben S1 Ben", "S1 Zoe S1 Ben",
    ),
    "I gave a line the name that I had freed": (
        "S3 S2 S3 S2", [["S2", "Ben"], ["S3", "S1"], [0, "S3"]], "S3 S1 S3 S1",
        [name("Ben", "S1"), name("S1", "S3", taken=True)], "S3 Ben S1 Ben", "S3 S1 S3 S1",
    ),
    "both gave a name to others, and one name leads to it": (
        "S3 S1 S3 S2", [["S1", "S3"], [1, "Anna"]], "Anna S1 Anna S2",
        [line(1, "Anna", "Anna", taken=True)], "Anna Anna Anna S2", "Anna Anna Anna S2",
    ),
    "they gave one of two lines to somebody new": (
        "S1 S1", [["S1", "Anna"]], "S1 Zoe",
        [line(1, "Anna", "Zoe")], "Anna Anna", "Anna Zoe",
    ),
    "I swapped two names": ("S1 S2", [["S1", "x"], ["S2", "S1"], ["x", "S2"]], "S1 S2", [], "S2 S1", "S2 S1"),
    "a name that I freed is theirs for another's line": (
        "S3 S1 S1", [["S3", "Ben"], [0, "S1"]], "S3 S3 S1",
        [name("Ben", "S3")], "S1 Ben S1", "S1 S3 S1",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def anywhere(browser: Any, server: Server) -> Any:
    """A page whose modules can be had."""
    page = browser.new_page()
    page.goto(server.url)
    yield page
    page.close()


@pytest.mark.parametrize("case", CASES)
def test_names_on_top_of_others(anywhere: Page, case: str) -> None:
    before, mine, after, clashes, with_mine, with_theirs = CASES[case]
    found = anywhere.evaluate(APPLY, [before.split(), mine, after.split(), ["another text"]])
    assert found["clashes"] == clashes
    assert (found["mine"], found["theirs"]) == (with_mine, with_theirs)


@pytest.mark.parametrize("case", CASES)
def test_what_they_have_already_is_not_asked(anywhere: Page, case: str) -> None:
    """The answer to a save was lost: they have exactly mine."""
    before, mine, *_ = CASES[case]
    saved = anywhere.evaluate(APPLY, [before.split(), mine, before.split(), ["another text"]])["mine"]
    found = anywhere.evaluate(APPLY, [before.split(), mine, saved.split(), []])
    assert (found["clashes"], found["count"], found["mine"]) == ([], 0, saved)


def test_a_speaker_who_is_gone_is_told(anywhere: Page) -> None:
    """Nothing of one's own is dropped unseen: they have removed the only line of whom I renamed."""
    found = anywhere.evaluate("""async () => {
        const { Edits } = await import("/page/edits.js");
        const { reapply } = await import("/page/reapply.js");
        const line = (id, speaker) => ({ id, start: id, end: id + 1, text: "a", speaker });
        const edits = new Edits({ version: 1, segments: [line(0, "S1"), line(1, "S2")] });
        edits.rename("S2", "Ben");
        const { clashes, make } = reapply(edits, { version: 2, segments: [line(0, "S1")] });
        return [clashes, make(true).patch()];
    }""")
    assert found == [[{"start": None, "mine": "Ben", "theirs": None}], None]


def test_two_people_do_not_become_one_unseen(talk: Page, talking_server: Server, sub: str) -> None:
    edit(talk)
    rename(talk, "S2", "Anna")
    correct(talking_server, sub, talk, base=1, speakers={"S1": "Anna"})
    talk.get_by_role("button", name="Save", exact=True).click()
    talk.get_by_role("dialog").get_by_role("button", name="Put mine on top").click()
    clash = talk.get_by_role("dialog", name="One thing was changed by both")
    expect(clash.locator("li")).to_have_text(
        "A speaker's nameMine: AnnaTheirs: S2They call somebody else Anna: with mine the two become one"
    )
    clash.get_by_role("button", name="Keep theirs").click()
    expect(talk.get_by_label("Version")).to_have_value("2")
    assert speakers(kept(talking_server, sub, talk)) == ["Anna", "S2", "Anna", "S3"]


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
