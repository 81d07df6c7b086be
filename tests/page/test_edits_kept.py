"""Nothing of a correction is lost: versions, somebody else who saves first, reloads, expired tokens; and nothing is
left behind."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.page.conftest import Visit, read_talk, until
from tests.page.editing import correct, edit, field, kept, rename, save, speakers, texts
from tests.support.server import Server

pytestmark = pytest.mark.needs("chromium")


def answer_questions(page: Page) -> list[str]:
    """Leaves whatever the browser asks about; the kinds of what it asked."""
    asked: list[str] = []

    def yes(dialog: Any) -> None:
        asked.append(dialog.type)
        dialog.accept()

    page.on("dialog", yes)
    return asked


def test_every_version_can_be_read_and_the_first_restored(talk: Page, talking_server: Server, sub: str) -> None:
    expect(talk.locator(".versions")).to_be_hidden()
    for version, text in ((2, "Once"), (3, "Twice")):
        edit(talk)
        field(talk, 0).fill(text)
        save(talk, version)
    picker = talk.get_by_label("Version")
    labels = picker.locator("option").all_inner_texts()
    assert re.fullmatch(r"Version 3 · today \S+.* \(newest\)", labels[0]) and labels[2] == "1 · as recognised"
    expect(talk.locator(".versions p")).to_have_text(f"Saved by {sub}.")

    picker.select_option("1")
    expect(talk.locator(".line p").first).to_contain_text("This is line number 1.")
    expect(talk.get_by_role("button", name="Edit", exact=True)).to_be_hidden()  # it is to read only
    expect(talk.locator("button.chip")).to_have_count(0)
    with talk.expect_download() as download:
        talk.get_by_role("button", name="TXT: ").click()
    assert "This is line number 1." in download.value.path().read_text()
    talk.context.grant_permissions(["clipboard-read", "clipboard-write"])
    talk.get_by_role("button", name="Copy").click()
    expect(talk.get_by_role("button", name="Copied")).to_be_visible()
    assert talk.evaluate("navigator.clipboard.readText()").startswith("This is line number 1.")

    talk.get_by_role("button", name="Restore this version").click()
    expect(picker).to_have_value("4")
    expect(picker).to_be_focused()
    expect(talk.locator(".versions p")).to_have_text(f"Saved by {sub}. The same as version 1.")
    expect(talk.get_by_role("button", name="Edit", exact=True)).to_be_visible()
    assert kept(talking_server, sub, talk) == kept(talking_server, sub, talk, 1) | {"version": 4}
    assert texts(kept(talking_server, sub, talk, 3))[0] == "Twice"


def test_a_text_that_is_too_long_is_told_and_not_cut(talk: Page, talking_server: Server, sub: str) -> None:
    edit(talk)
    field(talk, 0).fill("x" * 2_500)
    talk.get_by_role("button", name="Save", exact=True).click()
    expect(talk.get_by_role("alert")).to_contain_text("at most 2000 characters")
    expect(field(talk, 0)).to_have_value("x" * 2_500)
    field(talk, 0).fill("x" * 1_500)
    save(talk, 2)
    assert texts(kept(talking_server, sub, talk))[0] == "x" * 1_500


def test_somebody_else_saves_first_and_both_are_kept(talk: Page, talking_server: Server, sub: str) -> None:
    edit(talk)
    field(talk, 1).fill("Mine")
    rename(talk, "S3", "Carla")
    correct(talking_server, sub, talk, base=1, segments=[{"id": 0, "text": ""}, {"id": 2, "text": "Theirs"}])
    talk.get_by_role("button", name="Save", exact=True).click()
    question = talk.get_by_role("dialog", name="Somebody else has saved first")
    expect(question.get_by_role("button", name="Go on editing")).to_be_focused()
    talk.keyboard.press("Escape")
    expect(field(talk, 1)).to_have_value("Mine")
    assert texts(kept(talking_server, sub, talk)) == [
        f"This is line number {n}." if n != 3 else "Theirs" for n in (2, 3, 4)
    ]
    talk.get_by_role("button", name="Save", exact=True).click()
    question.get_by_role("button", name="Put mine on top").click()
    expect(talk.get_by_label("Version")).to_have_value("3")
    transcript = kept(talking_server, sub, talk)
    assert texts(transcript) == ["Mine", "Theirs", "This is line number 4."]
    assert speakers(transcript) == ["S2", "S1", "Carla"]


@pytest.mark.parametrize("side", ["mine", "theirs", "drop"])
def test_what_both_have_changed_is_asked(talk: Page, talking_server: Server, sub: str, side: str) -> None:
    edit(talk)
    field(talk, 0).fill("Mine")
    field(talk, 1).fill("Mine too")
    correct(talking_server, sub, talk, base=1, speakers={"S1": "Anna"}, segments=[{"id": 0, "text": "Theirs"}])
    talk.get_by_role("button", name="Save", exact=True).click()
    question = talk.get_by_role("dialog", name="Somebody else has saved first")
    if side == "drop":
        question.get_by_role("button", name="Drop mine, show theirs").click()
        expect(talk.get_by_label("Version")).to_have_value("2")
        assert texts(kept(talking_server, sub, talk))[:2] == ["Theirs", "This is line number 2."]
        return
    question.get_by_role("button", name="Put mine on top").click()
    clash = talk.get_by_role("dialog", name="One thing was changed by both")
    expect(clash.locator("li")).to_have_text("At 0:00Mine: MineTheirs: Theirs")
    clash.get_by_role("button", name=f"Keep {side}").click()
    expect(talk.get_by_label("Version")).to_have_value("3")
    transcript = kept(talking_server, sub, talk)
    assert texts(transcript)[:2] == ["Mine" if side == "mine" else "Theirs", "Mine too"]
    assert speakers(transcript)[0] == "Anna"


def test_a_draft_survives_a_reload_and_another_transcript(talk: Page, talking_server: Server, sub: str) -> None:
    asked = answer_questions(talk)
    edit(talk)
    field(talk, 2).fill("Not saved yet")
    rename(talk, "S2", "Ben")
    talk.reload()
    assert asked == ["beforeunload"]
    expect(field(talk, 2)).to_have_value("Not saved yet")
    expect(talk.locator(".chip-name")).to_have_text(["S1", "Ben", "S3"])
    address = talk.evaluate("location.hash")
    field(talk, 3).fill("Typed last")  # and left at once
    talk.evaluate("location.hash = '#/'")
    expect(talk.locator("#blank")).to_be_visible()
    talk.evaluate(f"location.hash = {address!r}")
    expect(field(talk, 2)).to_have_value("Not saved yet")
    expect(field(talk, 3)).to_have_value("Typed last")

    correct(talking_server, sub, talk, base=1, segments=[{"id": 0, "text": "Theirs"}])
    talk.reload()  # the draft stays on the version that was edited
    expect(field(talk, 0)).to_have_value("This is line number 1.")
    talk.get_by_role("button", name="Save", exact=True).click()
    talk.get_by_role("dialog").get_by_role("button", name="Put mine on top").click()
    expect(talk.get_by_label("Version")).to_have_value("3")
    assert texts(kept(talking_server, sub, talk)) == ["Theirs", "This is line number 2.", "Not saved yet", "Typed last"]
    assert talk.evaluate("Object.keys(sessionStorage).filter(key => key.includes('draft'))") == []
    asked.clear()
    talk.reload()
    expect(talk.locator(".chip")).to_have_count(3)
    assert asked == []


def test_an_expired_token_loses_no_text(talk: Page, talking_server: Server, sub: str) -> None:
    edit(talk)
    field(talk, 0).fill("Typed before the token expired")

    def refuse(route: Route) -> None:
        problem = {
            "type": "about:blank",
            "status": 401,
            "code": "token_expired",
            "title": "Expired",
            "detail": "It has.",
        }
        route.fulfill(status=401, content_type="application/problem+json", body=json.dumps(problem))

    talk.route("**/transcript", refuse)
    talk.get_by_role("button", name="Save", exact=True).click()
    expect(talk.locator("#signin-error")).to_have_text("Your token has expired. Paste a new one.")
    talk.unroute("**/transcript")
    talk.get_by_label("Token").fill(talking_server.token(sub))
    talk.keyboard.press("Enter")
    expect(field(talk, 0)).to_have_value("Typed before the token expired")
    save(talk, 2)
    assert texts(kept(talking_server, sub, talk))[0] == "Typed before the token expired"


def test_a_save_whose_answer_is_lost_is_not_asked_about(talk: Page, talking_server: Server, sub: str) -> None:
    edit(talk)
    field(talk, 0).fill("Saved once")
    rename(talk, "S2", "Ben")

    def cut(route: Route) -> None:
        route.fetch()  # the server has it
        route.abort()

    talk.route("**/transcript", cut)
    talk.get_by_role("button", name="Save", exact=True).click()
    expect(talk.locator(".notice")).to_contain_text("The server cannot be reached.")
    expect(field(talk, 0)).to_have_value("Saved once")
    talk.unroute("**/transcript")
    talk.get_by_role("button", name="Save", exact=True).click()
    expect(talk.get_by_label("Version")).to_have_value("2")
    expect(talk.get_by_role("dialog")).to_have_count(0)
    assert texts(kept(talking_server, sub, talk))[0] == "Saved once"


def test_signing_out_asks_and_forgets_and_nobody_else_gets_a_draft(
    talk: Page, talking_server: Server, sub: str
) -> None:
    drafts = "Object.keys(sessionStorage).filter(key => key.includes('draft')).length"
    edit(talk)
    field(talk, 0).fill("Secret")
    until(talk, f"{drafts} === 1")
    talk.get_by_role("button", name="Sign out").click()
    dialog = talk.get_by_role("dialog", name="Sign out?")
    dialog.get_by_role("button", name="Stay").click()
    expect(field(talk, 0)).to_have_value("Secret")

    talk.evaluate(f"location.hash = '#token={talking_server.token('somebody-else')}'")
    link = talk.get_by_role("dialog", name="Sign in as somebody-else?")
    expect(link).to_contain_text("Changes that are not saved are lost.")
    link.get_by_role("button", name="Stay").click()
    assert talk.evaluate(drafts) == 1
    talk.get_by_role("button", name="Sign out").click()
    dialog.get_by_role("button", name="Sign out").click()
    expect(talk.locator("#signin")).to_be_visible()
    assert talk.evaluate(drafts) == 0
    assert "Secret" not in talk.evaluate("JSON.stringify({...sessionStorage, ...localStorage})")


def test_another_caller_in_the_same_tab_finds_no_draft(talk: Page, talking_server: Server) -> None:
    edit(talk)
    field(talk, 0).fill("Secret")
    talk.evaluate(f"location.hash = '#token={talking_server.token('somebody-else')}'")
    talk.get_by_role("dialog").get_by_role("button", name="Change").click()
    expect(talk.locator("#who")).to_have_text("somebody-else")
    assert "Secret" not in talk.evaluate("JSON.stringify({...sessionStorage})")


def test_what_no_draft_can_keep_is_asked_about(visit: Visit, talking_server: Server, sub: str) -> None:
    full = """const set = Storage.prototype.setItem;
        Storage.prototype.setItem = function (key, value) {
            if (key.includes("draft")) throw new DOMException("full", "QuotaExceededError");
            set.call(this, key, value);
        };"""
    page = read_talk(visit(talking_server, sub, script=full))
    edit(page)
    field(page, 0).fill("No room for this")
    page.evaluate("location.hash = '#/'")
    dialog = page.get_by_role("dialog", name="Leave without saving?")
    dialog.get_by_role("button", name="Stay").click()
    expect(field(page, 0)).to_have_value("No room for this")
    page.evaluate("location.hash = '#/'")
    dialog.get_by_role("button", name="Leave").click()
    expect(page.locator("#blank")).to_be_visible()
