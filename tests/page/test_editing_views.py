"""Editing in every state and size: readable, named, fast on a long transcript; its options and formats."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.page.conftest import Visit, ask, choose, open_transcript, read_talk, speech, talking, task_id, until
from tests.page.editing import correct, edit, field, kept, texts
from tests.page.speaking import speak, stop
from tests.page.test_access import check
from tests.support.server import Server, wait_task

pytestmark = pytest.mark.needs("chromium")


LONG = 2_000  # lines


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (360, "dark"), (1440, "light"), (1440, "dark")])
def test_editing_is_readable_named_and_fits(
    visit: Visit, talking_server: Server, sub: str, width: int, scheme: str
) -> None:
    page = read_talk(visit(talking_server, sub, width=width, scheme=scheme))
    check(page, "speakers")
    page.locator(".chip", has_text="S2").click()
    page.get_by_label("Name").fill("S1")
    check(page, "renaming")
    page.keyboard.press("Escape")
    expect(page.locator(".chip", has_text="S2")).to_be_focused()
    edit(page)
    check(page, "editing")
    expect(page.get_by_label("Text at 0:02", exact=True)).to_have_value("This is line number 2.")  # no mere placeholder
    field(page, 0).fill("")
    field(page, 1).fill("A much longer line, with more words than fit into one line on a phone or on a desk. " * 3)
    box = field(page, 1).bounding_box()
    assert box and box["height"] > 80  # it has grown with its text
    check(page, "changed")
    correct(talking_server, sub, page, base=1, segments=[{"id": 0, "text": "Theirs"}, {"id": 1, "text": "Theirs"}])
    page.keyboard.press("Control+s")
    check(page, "conflict")
    page.get_by_role("dialog").get_by_role("button", name="Put mine on top").click()
    expect(page.get_by_role("dialog", name="2 things were changed by both")).to_be_visible()
    check(page, "clashes")
    page.get_by_role("button", name="Keep mine").click()
    expect(page.get_by_label("Version")).to_have_value("3")
    check(page, "versions")
    page.get_by_label("Version").select_option("1")
    expect(page.get_by_role("button", name="Restore this version")).to_be_visible()
    check(page, "an earlier version")


@pytest.fixture
def quick_server(tmp_path: Path) -> Iterator[Server]:
    """Hears a line every 0.1 seconds: a long transcript of a small file."""
    yield from talking(tmp_path, segment_s=0.1)


def test_two_thousand_lines_are_edited_at_once(visit: Visit, quick_server: Server, sub: str) -> None:
    with quick_server.http(sub) as http:
        query = {"is_last": "1", "filename": "long.wav", "diarize": "true"}
        sent = http.put("/v1/audio/long/0", content=speech(LONG / 10, 64), params=query)
        wait_task(http, sent.json()["task_id"], 120)
    page = visit(quick_server, sub)
    open_transcript(page, "long.wav")
    expect(page.locator(".chip")).to_have_count(3)
    expect(page.locator(".line")).to_have_count(LONG)
    took = page.evaluate("""async () => {
        const began = performance.now();
        [...document.querySelectorAll("button")].find((button) => button.textContent === "Edit").click();
        await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
        return performance.now() - began;
    }""")
    expect(page.locator(".editing textarea")).to_have_count(LONG)
    print(f"{took:.0f} ms")
    assert took < 1_000  # milliseconds, until it is seen
    last = field(page, LONG - 1)
    last.fill("The last line")
    page.keyboard.press("Control+s")
    # Not by `expect`: while it waits, Playwright describes all these fields to itself, for many seconds.
    until(page, "document.querySelector('#version').value === '2'")
    assert texts(kept(quick_server, sub, page))[-1] == "The last line"


def test_words_and_ttml_are_saved_under_names_of_their_own(talk: Page, talking_server: Server, sub: str) -> None:
    for label, form, name in (("VTT words: ", "vtt-karaoke", "talk.karaoke.vtt"), ("TTML: ", "ttml", "talk.ttml")):
        with talk.expect_download() as download:
            talk.get_by_role("button", name=label).click()
        assert download.value.suggested_filename == name
        answer = ask(talking_server, sub, f"/v1/task/{task_id(talk)}/transcript?format={form}")
        assert download.value.path().read_bytes() == answer.content


def test_speakers_and_word_times_are_asked_for_and_not_of_live_sessions(
    speaker: Visit, talking_server: Server, sub: str
) -> None:
    page = speaker(talking_server, sub)
    sent: list[str] = []
    page.on("request", lambda asked: sent.append(asked.url) if "is_last" in asked.url else None)
    page.locator("#options summary").click()
    page.get_by_label("Speakers", exact=True).select_option("There are 3")
    page.get_by_label("Word times").select_option("Yes")
    expect(page.locator("#options summary")).to_have_text("Options · Speakers · Word times")
    choose(page, ("talk.wav", speech(4, 63)))
    open_transcript(page, "talk.wav")
    query = dict(httpx2.URL(sent[0]).params)
    assert {"diarize": "true", "num_speakers": "3", "words": "true"}.items() <= query.items()
    page.reload()
    expect(page.get_by_label("Word times", exact=True)).to_have_value("yes")  # remembered
    speak(page)  # a live session would be refused that
    stop(page)
