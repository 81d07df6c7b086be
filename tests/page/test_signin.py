"""Who uses the page: by link, by form, with a token that is wrong, expired or somebody else's."""

from __future__ import annotations

import re

import httpx2
import pytest
from playwright.sync_api import Route, expect

from tests.page.conftest import Visit, choose, speech
from tests.support.server import Server

pytestmark = pytest.mark.needs("chromium")


def test_a_link_signs_in_and_its_token_leaves_the_address_at_once(visit: Visit, server: Server) -> None:
    page = visit(server, "bob")
    assert page.url == f"{server.url}/"
    expect(page.locator("#who")).to_have_text("bob")
    assert page.evaluate("history.length") == 2  # about:blank and the page: no entry with the token to go back to
    assert page.evaluate("Object.keys(localStorage)") == []
    page.reload()
    expect(page.locator("#who")).to_have_text("bob")  # this tab keeps it
    other = page.context.new_page()
    other.goto(server.url)
    expect(other.locator("#signin")).to_be_visible()  # another tab does not have it


def test_the_form_signs_in(visit: Visit, server: Server) -> None:
    page = visit(server, None)
    expect(page.get_by_label("Token")).to_be_focused()
    page.keyboard.type(server.token("carol"))
    page.keyboard.press("Enter")
    expect(page.locator("#who")).to_have_text("carol")
    expect(page.locator("#tasks-empty")).to_be_visible()


@pytest.mark.parametrize(
    ("token", "words"),
    [("nonsense", "The token is not valid"), ("two words", "That is no token"), ("tökén", "That is no token")],
)
def test_a_wrong_token_is_refused_in_words(visit: Visit, server: Server, token: str, words: str) -> None:
    page = visit(server, None)
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#signin-error")).to_contain_text(words)
    expect(page.locator("#app")).to_be_hidden()
    assert page.evaluate("sessionStorage.length") == 0


def test_an_expired_token_brings_the_form_and_the_upload_continues_with_a_new_one(visit: Visit, server: Server) -> None:
    page = visit(server, None)
    short = server.token("dora", ttl_s=1)
    page.get_by_label("Token").fill(short)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#who")).to_have_text("dora")
    held: list[Route] = []
    page.route(re.compile(r"/v1/audio/.*/[1-9]"), lambda route: held.append(route))  # a slow line
    choose(page, ("long.wav", speech(30)))
    while httpx2.get(f"{server.url}/v1/tasks", headers={"Authorization": f"Bearer {short}"}).status_code == 200:
        page.wait_for_timeout(200)  # the server allows for clocks that differ by a few seconds
    assert len(held) == 3
    for route in held:
        route.continue_()
    expect(page.locator("#signin-error")).to_have_text("Your token has expired. Paste a new one.")
    page.unroute_all(behavior="ignoreErrors")
    page.get_by_label("Token").fill(server.token("dora"))
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator(".row", has_text="long.wav")).to_have_attribute("data-state", "succeeded")


def test_a_link_for_somebody_else_asks_first(visit: Visit, server: Server) -> None:
    page = visit(server, "erin")
    link = f"#token={server.token('mallory')}"
    page.evaluate("hash => { location.hash = hash; }", link)
    dialog = page.get_by_role("dialog", name="Sign in as mallory?")
    expect(dialog).to_contain_text("This tab is signed in as erin.")
    dialog.get_by_role("button", name="Stay").click()
    expect(page.locator("#who")).to_have_text("erin")
    assert "token" not in page.url
    page.evaluate("hash => { location.hash = hash; }", link)
    dialog.get_by_role("button", name="Change").click()
    expect(page.locator("#who")).to_have_text("mallory")


def test_signing_out_forgets_the_token_and_what_was_kept(visit: Visit, server: Server) -> None:
    page = visit(server, "frank")
    page.route(re.compile(r"/v1/audio/.*/[2-9]"), lambda route: None)  # held: the upload stays unfinished
    choose(page, ("kept.wav", speech(30)))
    expect(page.locator(".upload")).to_have_count(1)
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("dialog").get_by_role("button", name="Sign out").click()
    expect(page.locator("#signin")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0
    kept = """() => new Promise((resolve) => {
        const open = indexedDB.open("cosygate");
        open.onsuccess = () => {
            const all = open.result.transaction("uploads").objectStore("uploads").count();
            all.onsuccess = () => { open.result.close(); resolve(all.result); };
        };
    })"""
    assert page.evaluate(kept) == 0
