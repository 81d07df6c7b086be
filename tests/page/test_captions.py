"""The audience's page: what is said, as it is said, for whoever has the link, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.page.conftest import Visit, _script, until
from tests.page.speaking import speak, stop
from tests.page.test_access import check
from tests.support.proxy import FaultProxy
from tests.support.server import Server

pytestmark = pytest.mark.needs("chromium")


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Hears eight different lines, one a second."""
    folder = tmp_path_factory.mktemp("talk")
    with Server(folder, recogniser="scripted", script=_script(folder, segment_s=1.0), engines=1) as running:
        yield running


def shared(page: Page) -> str:
    """The path of the captions page of whoever speaks on `page`."""
    page.get_by_role("button", name="Share").click()
    link = page.get_by_label("Captions link").input_value()
    return "/captions" + link.split("/captions")[1]


def read(page: Page) -> list[str]:
    return [text.split("\n")[-1] for text in page.locator(".live-line").all_inner_texts()]


def test_whoever_has_the_link_reads_along_without_signing_in(speaker: Visit, visit: Visit, talk: Server) -> None:
    speaking = speaker(talk, "ada")
    speak(speaking)
    expect(speaking.locator("#live .live-line").first).to_be_visible()
    path = shared(speaking)
    audience = visit(talk, None, path=path)
    asked: list[str] = []
    audience.on("request", lambda request: asked.append(request.url))
    expect(audience.locator("#state")).to_have_text("Live")
    expect(audience.locator(".partial")).not_to_be_empty()  # what is being said, too
    expect(audience.locator(".live-line").nth(2)).to_be_visible()
    assert read(audience)[:2] == ["This is line number 1.", "This is line number 2."]  # from the beginning
    audience.reload()
    expect(audience.locator(".live-line").nth(3)).to_be_visible()
    stop(speaking)
    expect(audience.locator("#state")).to_have_text("Over")
    expect(audience.locator("#end")).to_contain_text("That was all")
    spoken = [text.split("\n")[-1] for text in speaking.locator(".line").all_inner_texts()]
    assert read(audience) == spoken
    assert audience.locator(".partial").inner_text() == ""
    assert all("share." not in url for url in asked)  # a fragment goes nowhere
    assert audience.evaluate("[sessionStorage.length, Object.keys(localStorage).length]") == [0, 0]

    # The ticket only reads, and only this.
    ticket = path.split("/")[-1]
    session = path.split("#")[1].split("/")[0]
    with httpx2.Client(base_url=talk.url, headers={"Authorization": f"Bearer {ticket}"}) as http:
        assert http.get("/v1/tasks").status_code == 401
        assert http.get(f"/v1/task/{session}/audio").status_code == 401
        assert http.post("/v1/live/tickets").status_code == 401
        assert http.post(f"/v1/live/{session}/shares").status_code == 401


def test_readers_lose_nothing_when_their_network_does(speaker: Visit, visit: Visit, talk: Server) -> None:
    speaking = speaker(talk, "bea")
    speak(speaking)
    path = shared(speaking)
    with FaultProxy(talk.port) as proxy:
        audience = visit(talk, None, path=path, url=f"http://127.0.0.1:{proxy.port}")
        expect(audience.locator(".live-line").first).to_be_visible()
        proxy.refuse()
        expect(audience.locator("#state")).to_have_text("Connection lost, trying again")
        check(audience, "lost")
        there = audience.locator(".live-line").count()
        expect(speaking.locator("#live .live-line").nth(there + 1)).to_be_visible()  # and they say on
        proxy.heal()
        expect(audience.locator("#state")).to_have_text("Live")
        expect(audience.locator(".live-line").nth(there + 1)).to_be_visible()
        stop(speaking)
        expect(audience.locator("#state")).to_have_text("Over")
        assert read(audience) == [text.split("\n")[-1] for text in speaking.locator(".line").all_inner_texts()]


@pytest.mark.parametrize(
    ("fragment", "told"),
    [
        ("", "This is not a whole captions link."),
        ("#0123456789abcdef0123456789abcdef", "This is not a whole captions link."),
        ("#0123456789abcdef0123456789abcdef/share.forged", "This link does not work any more."),
        ("#%E0%A4%A/share.forged", "This is not a whole captions link."),
        ("#../tasks/share.forged", "This is not a whole captions link."),
    ],
)
def test_a_wrong_link_says_what_to_do(visit: Visit, talk: Server, fragment: str, told: str) -> None:
    page = visit(talk, None, path=f"/captions{fragment}")
    expect(page.locator("#end")).to_contain_text(told)
    check(page, told)


def test_size_and_scheme_are_the_readers(speaker: Visit, visit: Visit, talk: Server) -> None:
    """By keyboard, kept for the next time."""
    speaking = speaker(talk, "cleo")
    speak(speaking)
    page = visit(talk, None, path=shared(speaking), scheme="light")
    expect(page.locator(".live-line").first).to_be_visible()
    size = "parseFloat(getComputedStyle(document.querySelector('.live-line p')).fontSize)"
    ground = "getComputedStyle(document.body).backgroundColor"
    before, light = page.evaluate(size), page.evaluate(ground)
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Smaller text")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate(size) > before
    for _ in range(9):
        page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Larger text")).to_be_disabled()
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate(ground) != light
    large = page.evaluate(size)
    page.reload()
    expect(page.locator(".live-line").first).to_be_visible()
    assert page.evaluate(size) == large
    expect(page.get_by_role("button", name="Dark")).to_have_attribute("aria-pressed", "true")
    check(page, "largest, dark")


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (360, "light"), (1440, "dark"), (1440, "light")])
def test_it_is_readable_and_follows(speaker: Visit, visit: Visit, talk: Server, width: int, scheme: str) -> None:
    speaking = speaker(talk, "dina")
    speak(speaking)
    page = visit(talk, None, path=shared(speaking), width=width, height=420, scheme=scheme)
    expect(page.locator(".live-line").nth(1)).to_be_visible()
    check(page, "live")
    for _ in range(3):
        page.get_by_role("button", name="Larger text").click()
    until(page, "scrollY > 400")  # follows by itself
    page.evaluate("scrollTo(0, 0)")
    expect(page.get_by_role("button", name="Back to now")).to_be_visible()
    there = page.locator(".live-line").count()
    expect(page.locator(".live-line").nth(there)).to_be_attached()
    assert page.evaluate("scrollY") == 0  # whoever reads back is left in peace
    check(page, "read back")
    page.get_by_role("button", name="Back to now").click()
    until(page, "scrollY > 50")
    expect(page.get_by_role("button", name="Back to now")).to_be_hidden()
    log = page.get_by_role("log", name="What was said")
    expect(log).to_have_attribute("aria-live", "polite")
    assert re.search(r"\d:\d\d", log.inner_text())
