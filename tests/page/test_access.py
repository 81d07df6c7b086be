"""Everybody can use it: names and contrast in every state, both schemes, phone and desk; the keyboard alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.page.conftest import Visit, choose, open_transcript, speech, until
from tests.page.test_upload import Parts
from tests.support.server import Server

pytestmark = pytest.mark.needs("chromium")

CHECK = (Path(__file__).parent / "access.js").read_text().split("\n", 1)[1]
# Roles that Chromium's accessibility tree must have a name for (WCAG 2.2, 4.1.2).
NAMED = {"button", "link", "textbox", "combobox", "slider", "progressbar", "dialog", "heading", "navigation", "region"}
NAMED |= {"log", "DisclosureTriangle"}


def nameless(page: Page) -> list[str]:
    """What assistive technology would meet without a name, by the browser's own computation."""
    session = page.context.new_cdp_session(page)
    nodes: list[dict[str, Any]] = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    assert len(nodes) > 10
    return [
        node["role"]["value"]
        for node in nodes
        if not node["ignored"] and node["role"]["value"] in NAMED and not node["name"]["value"].strip()
    ]


def check(page: Page, state: str) -> None:
    assert page.evaluate(CHECK) == [], state
    assert nameless(page) == [], state


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (360, "dark"), (1440, "light"), (1440, "dark")])
def test_every_state_is_readable_named_and_fits(visit: Visit, server: Server, width: int, scheme: str) -> None:
    sub = f"viewer-{width}-{scheme}"
    page = visit(server, None, width=width, scheme=scheme)
    expect(page.locator("#signin")).to_be_visible()
    page.get_by_label("Token").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#signin-error")).not_to_be_empty()
    check(page, "sign-in")

    page = visit(server, sub, width=width, scheme=scheme)
    expect(page.locator("#tasks-empty")).to_be_visible()
    page.locator("#options summary").click()
    check(page, "empty, options open")

    parts = Parts(page)
    parts.hold_from = 3
    long_name = "a-recording-with-a-name-that-nobody-broke-into-words-" * 2 + ".wav"
    choose(page, (long_name, speech(30, 40)), ("notes.txt", b"words " * 99))
    expect(page.locator(".upload progress").first).to_have_attribute("value", "40")
    page.get_by_role("button", name="Pause a-recording").click()
    expect(page.locator(".upload-problem code")).to_be_visible()
    check(page, "uploads: paused and refused")

    parts.hold_from = None
    page.get_by_role("button", name="Continue a-recording").click()
    if width < 960:
        expect(page.locator(".back")).to_be_visible()
    else:
        open_transcript(page, long_name)
    expect(page.locator(".downloads")).to_be_visible()
    page.locator(".line p").nth(1).click()
    expect(page.locator(".line").nth(1)).to_have_attribute("aria-current", "true")
    check(page, "transcript")
    page.get_by_role("button", name="Delete").click()
    check(page, "dialog")
    page.keyboard.press("Escape")
    page.evaluate("location.hash = '#/task/0123456789abcdef0123456789abcdef'")
    expect(page.locator(".ended [role=alert]")).to_be_visible()
    check(page, "no such task")


def test_the_keyboard_alone_is_enough(visit: Visit, server: Server) -> None:
    """From the first Tab to a deleted transcript, without a pointer."""
    page = visit(server, "typist")
    # The browser is told to hand choosers over when the first listener comes, and a key press would overtake that.
    page.on("filechooser", lambda _: None)
    page.keyboard.press("Tab")
    expect(page.locator("#skip")).to_be_focused()
    stops = []
    for _ in range(7):
        page.keyboard.press("Tab")
        stops.append(page.evaluate("document.activeElement.textContent.trim()"))
    assert stops[:6] == ["CosyGate", "API", "Sign out", "Choose recordings", "Speak", "Options"]
    page.locator("#choose").focus()
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files({"name": "typed.wav", "mimeType": "audio/wav", "buffer": speech(16, 41)})
    row = page.locator(".row", has_text="typed.wav")
    expect(row).to_have_attribute("data-state", "succeeded")
    row.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".line")).to_have_count(8)

    # The lines are one stop; arrows, Home and End walk them, Enter plays.
    page.locator("#task h1").focus()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.stamp')"):
            break
    expect(page.locator(".stamp").first).to_be_focused()
    page.keyboard.press("End")
    page.keyboard.press("ArrowUp")
    expect(page.locator(".stamp").nth(6)).to_be_focused()
    page.keyboard.press("Enter")
    until(page, "document.querySelector('audio').currentTime >= 12")
    page.keyboard.press("Tab")
    expect(page.get_by_role("slider", name="Position")).to_be_focused()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"  # where the focus is can be seen

    page.get_by_role("button", name="Delete").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(row).to_have_count(0)
    expect(page.locator("#choose")).to_be_focused()


def test_the_skip_link_leads_to_the_transcript(visit: Visit, server: Server) -> None:
    page = visit(server, "typist")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#reading")).to_be_focused()


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1440, "light")])
def test_the_description_of_the_api_is_complete_and_readable(
    visit: Visit, server: Server, width: int, scheme: str
) -> None:
    page = visit(server, None, path="/docs", width=width, scheme=scheme)
    expect(page.locator(".operation").first).to_be_visible()
    described = page.request.get(f"{server.url}/openapi.json").json()
    calls = [f"{method.upper()} {path}" for path, item in described["paths"].items() for method in item]
    titles = [" ".join(title.split()) for title in page.locator(".operation h3:has(.method)").all_inner_texts()]
    assert sorted(titles) == sorted(calls)
    schemas = page.locator("[id^='schema-'] h3").all_inner_texts()
    assert schemas == list(described["components"]["schemas"])
    send = page.locator("[id='put-v1-audio-session-id-seq']")
    expect(send.get_by_label("Command to try")).to_contain_text('-H "Authorization: Bearer $TOKEN"')
    expect(send.locator("th", has_text="is_last")).to_be_attached()
    check(page, "docs")
