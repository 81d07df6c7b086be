"""Correcting a transcript on the page: names, texts, undo, saving; the sound meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.page.conftest import Visit, ask, choose, open_transcript, speech, task_id, until
from tests.page.editing import edit, field, kept, rename, save, speakers, texts
from tests.support.server import Server

pytestmark = pytest.mark.needs("chromium")


def test_speakers_have_colours_and_shares(talk: Page) -> None:
    chips = talk.locator(".speakers li")
    assert [" ".join(t.split()) for t in chips.all_inner_texts()] == [
        "S1 50 % Rename",
        "S2 25 % Rename",
        "S3 25 % Rename",
    ]
    colours = {talk.evaluate(f"getComputedStyle(document.querySelectorAll('.chip')[{n}]).color") for n in range(3)}
    assert len(colours) == 3


def test_renaming_and_merging_speakers(talk: Page, talking_server: Server, sub: str) -> None:
    before = talk.locator(".chip", has_text="S1").evaluate("chip => getComputedStyle(chip).color")
    rename(talk, "S1", "  Anna   Berg ")
    chip = talk.locator(".chip", has_text="Anna Berg")
    expect(chip).to_be_focused()
    assert chip.evaluate("chip => getComputedStyle(chip).color") == before  # who is renamed keeps the colour

    talk.locator(".chip", has_text="S2").click()
    dialog = talk.get_by_role("dialog", name="Who is S2?")
    dialog.get_by_label("Name").fill("Anna Berg")
    expect(dialog.get_by_role("status")).to_have_text(
        "Anna Berg is a speaker already: S2 and Anna Berg will be merged."
    )
    dialog.get_by_role("button", name="Merge").click()
    expect(talk.locator(".chip-name")).to_have_text(["Anna Berg", "S3"])

    talk.get_by_role("button", name="Undo").click()
    expect(talk.locator(".chip-name")).to_have_text(["Anna Berg", "S2", "S3"])
    talk.get_by_role("button", name="Redo").click()
    expect(talk.locator(".chip-name")).to_have_text(["Anna Berg", "S3"])
    assert speakers(kept(talking_server, sub, talk)) == ["S1", "S2", "S1", "S3"]  # nothing is saved yet
    rename(talk, "S3", "Carla")
    expect(talk.locator(".chip", has_text="Carla")).to_be_focused()  # and not the first one
    save(talk, 2)
    assert speakers(kept(talking_server, sub, talk)) == ["Anna Berg", "Anna Berg", "Anna Berg", "Carla"]
    expect(talk.locator(".line .voice").first).to_have_text("Anna Berg")


def test_a_line_is_given_another_and_a_new_speaker(talk: Page, talking_server: Server, sub: str) -> None:
    edit(talk)
    select = talk.get_by_label("Speaker at 0:02")
    select.focus()
    select.select_option("S1")
    expect(talk.locator(".chip-name")).to_have_text(["S1", "S3"])
    select = talk.get_by_label("Speaker at 0:04")
    select.focus()
    select.select_option("New speaker…")
    talk.get_by_role("dialog", name="A new speaker").get_by_label("Name").fill("Zoë")
    talk.keyboard.press("Enter")
    expect(select).to_have_value("Zoë")
    expect(select).to_be_focused()
    talk.keyboard.press("Control+z")
    expect(select).to_have_value("S1")
    talk.keyboard.press("Control+y")
    expect(select).to_have_value("Zoë")
    save(talk, 2)
    assert speakers(kept(talking_server, sub, talk)) == ["S1", "S1", "Zoë", "S3"]


def test_text_is_typed_undone_done_again_saved_and_exported(talk: Page, talking_server: Server, sub: str) -> None:
    edit(talk)
    expect(field(talk, 0)).to_be_focused()
    talk.keyboard.press("Control+a")
    talk.keyboard.type("Hello  there, world")
    talk.keyboard.press("Enter")  # to the next line
    expect(field(talk, 1)).to_be_focused()
    talk.keyboard.type(" And more")
    talk.keyboard.press("Control+z")
    expect(field(talk, 1)).to_have_value("This is line number 2.")
    talk.keyboard.press("Control+z")
    expect(field(talk, 0)).to_have_value("This is line number 1.")  # one step for all that was typed at once
    expect(field(talk, 0)).to_be_focused()
    expect(talk.get_by_role("button", name="Undo")).to_be_disabled()
    expect(talk.get_by_role("button", name="Save", exact=True)).to_be_disabled()
    talk.keyboard.press("Control+Shift+z")
    expect(field(talk, 0)).to_have_value("Hello  there, world")
    talk.keyboard.press("Control+y")
    expect(field(talk, 1)).to_have_value("This is line number 2. And more")
    field(talk, 2).fill("")  # an empty line goes
    expect(talk.locator(".edit-state")).to_have_text("3 changes")
    talk.keyboard.press("Escape")
    expect(talk.get_by_role("button", name="Save", exact=True)).to_be_focused()

    bodies: list[Any] = []
    talk.on("request", lambda asked: bodies.append(asked.post_data_json) if asked.method == "PATCH" else None)
    talk.keyboard.press("Control+s")
    expect(talk.get_by_label("Version")).to_have_value("2")
    assert bodies == [
        {
            "base": 1,
            "segments": [
                {"id": 0, "text": "Hello there, world"},
                {"id": 1, "text": "This is line number 2. And more"},
                {"id": 2, "text": ""},
            ],
        }
    ]
    expect(talk.get_by_role("button", name="Edit", exact=True)).to_be_focused()
    wanted = ["Hello there, world", "This is line number 2. And more", "This is line number 4."]
    assert texts(kept(talking_server, sub, talk)) == wanted

    talk.reload()
    expect(talk.locator(".line")).to_have_count(3)
    expect(talk.locator(".line p").nth(0)).to_contain_text("Hello there, world")
    with talk.expect_download() as download:
        talk.get_by_role("button", name="SRT: ").click()
    subtitles = download.value.path().read_text()
    assert "Hello there, world" in subtitles and "line number 1" not in subtitles


def test_typing_after_a_pause_is_a_step_of_its_own(talk: Page) -> None:
    edit(talk)
    talk.keyboard.type(" One")
    talk.wait_for_timeout(1_100)
    talk.keyboard.type(" two")
    talk.keyboard.press("Control+z")
    expect(field(talk, 0)).to_have_value("This is line number 1. One")


def test_discarding_asks_only_when_there_is_something_to_lose(talk: Page, talking_server: Server, sub: str) -> None:
    edit(talk)
    talk.get_by_role("button", name="Close").click()
    expect(talk.locator(".editing")).to_have_count(0)
    edit(talk)
    field(talk, 0).fill("A mistake")
    talk.get_by_role("button", name="Discard").click()
    dialog = talk.get_by_role("dialog", name="Discard your changes?")
    talk.keyboard.press("Escape")
    expect(field(talk, 0)).to_have_value("A mistake")
    talk.get_by_role("button", name="Discard").click()
    dialog.get_by_role("button", name="Discard").click()
    expect(talk.locator(".line p").first).to_contain_text("This is line number 1.")
    assert len(ask(talking_server, sub, f"/v1/task/{task_id(talk)}/transcript/versions").json()["versions"]) == 1
    talk.reload()
    expect(talk.locator(".chip")).to_have_count(3)
    expect(talk.locator(".editing")).to_have_count(0)


def test_the_sound_goes_on_while_lines_are_edited(talk: Page) -> None:
    edit(talk)
    talk.get_by_role("button", name="Hear from 0:04").click()
    until(talk, "!document.querySelector('audio').paused && document.querySelector('audio').currentTime >= 4")
    expect(talk.locator(".line").nth(2)).to_have_attribute("aria-current", "true")
    field(talk, 1).click()
    talk.keyboard.press("End")
    talk.keyboard.type(" a b")  # Space is a space
    expect(field(talk, 1)).to_have_value("This is line number 2. a b")
    assert not talk.evaluate("document.querySelector('audio').paused")
    talk.keyboard.press("Control+Enter")
    until(talk, "document.querySelector('audio').currentTime < 4")
    talk.keyboard.press("Control+Enter")
    until(talk, "document.querySelector('audio').paused")


def test_a_pasted_line_break_is_a_space(talk: Page) -> None:
    edit(talk)
    talk.keyboard.press("Control+a")
    talk.evaluate("document.execCommand('insertText', false, 'one\\ntwo\\n\\nthree')")
    expect(field(talk, 0)).to_have_value("one two three")


def test_a_transcript_without_speakers_gets_some(visit: Visit, server: Server, sub: str) -> None:
    page = visit(server, sub)
    choose(page, ("alone.wav", speech(4, 61)))
    open_transcript(page, "alone.wav")
    expect(page.locator(".line")).to_have_count(2)
    expect(page.locator(".chip")).to_have_count(0)
    edit(page)
    expect(page.get_by_label("Speaker at 0:00")).to_be_hidden()
    page.get_by_role("button", name="Add a speaker").click()
    page.get_by_role("dialog", name="A new speaker").get_by_label("Name").fill("Anna")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)  # while it is there, nothing behind it takes the focus
    page.get_by_label("Speaker at 0:02").focus()
    page.get_by_label("Speaker at 0:02").select_option("Anna")
    save(page, 2)
    assert [segment.get("speaker") for segment in kept(server, sub, page)["segments"]] == [None, "Anna"]


def test_each_channel_is_a_speaker_to_be_named(visit: Visit, server: Server, sub: str) -> None:
    page = visit(server, sub)
    page.locator("#options summary").click()
    expect(page.get_by_label("Speakers", exact=True)).to_be_hidden()  # this server's model cannot tell
    page.get_by_label("Channels").select_option("split")
    choose(page, ("call.wav", speech(4, 62, channels=2)))
    open_transcript(page, "call.wav")
    expect(page.locator(".chip-name")).to_have_text(["S1", "S2"])
    rename(page, "S2", "Anna")
    save(page, 2)
    assert {(s["channel"], s["speaker"]) for s in kept(server, sub, page)["segments"]} == {(0, "S1"), (1, "Anna")}
