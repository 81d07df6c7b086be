"""From waiting to reading: lines appear as they are recognised, are heard by a click, saved, deleted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Page, Route, expect

from tests.page.conftest import Visit, ask, choose, open_transcript, speech, task_id, until
from tests.support.server import Server

pytestmark = pytest.mark.needs("chromium")

SOUND = "document.querySelector('audio')"


@pytest.fixture
def reader(visit: Visit, server: Server, sub: str) -> Iterator[Page]:
    """Shows a transcript of eight lines, two seconds each."""
    page = visit(server, sub)
    choose(page, ("talk.wav", speech(16, 20)))
    open_transcript(page, "talk.wav")
    expect(page.locator(".line")).to_have_count(8)
    yield page


def test_lines_appear_while_they_are_recognised(visit: Visit, slow_server: Server) -> None:
    page = visit(slow_server, "watcher")
    choose(page, ("slow.wav", speech(12, 21)))
    progress = page.locator(".going progress")
    expect(page.locator(".line").first).to_contain_text("This is line number 1.")  # it was opened by itself
    expect(progress).to_be_visible()
    expect(page.locator("[role=log]")).to_have_attribute("aria-live", "polite")
    early = page.locator(".line").count()
    assert early < 6
    expect(page.locator(".row", has_text="slow.wav")).to_have_attribute("data-state", "running")
    expect(page.locator(".line")).to_have_count(6)
    expect(progress).to_be_hidden()
    expect(page.locator("#said")).to_have_text("The transcript is complete.")
    expect(page.locator("[role=log]")).to_have_attribute("aria-live", "off")  # nothing is read out twice


def test_a_server_that_dies_in_the_middle_only_costs_time(visit: Visit, slow_server: Server) -> None:
    page = visit(slow_server, "watcher")
    resumed: list[str | None] = []
    page.on(
        "request",
        lambda asked: resumed.append(asked.headers.get("last-event-id")) if asked.url.endswith("/events") else None,
    )
    choose(page, ("interrupted.wav", speech(12, 22)))
    expect(page.locator(".line")).to_have_count(2)
    port = slow_server.port
    slow_server.kill()
    slow_server.start(port)
    expect(page.locator(".downloads")).to_be_visible(timeout=60_000)
    assert resumed[0] is None
    assert int(resumed[-1] or 0) > 1  # taken up where it broke
    texts = page.locator(".line p").all_inner_texts()
    assert texts == [f"This is line number {n}." for n in range(1, 7)]


def test_clicking_a_line_plays_it_and_marks_what_is_heard(reader: Page) -> None:
    reader.locator(".line p").nth(4).click()
    assert reader.evaluate(f"{SOUND}.currentTime") >= 8  # at once, not by playing until there
    until(reader, f"!{SOUND}.paused && {SOUND}.currentTime > 8")
    expect(reader.locator(".line").nth(4)).to_have_attribute("aria-current", "true")
    until(reader, f"{SOUND}.currentTime > 10.1")
    expect(reader.locator(".line[aria-current]")).to_have_count(1)
    expect(reader.locator(".line").nth(5)).to_have_attribute("aria-current", "true")
    reader.get_by_role("button", name="Pause", exact=True).click()
    assert reader.evaluate(f"{SOUND}.paused")


def test_the_player_moves_by_slider_buttons_speed_and_space(reader: Page) -> None:
    position = reader.get_by_role("slider", name="Position")
    position.fill("13")
    expect(reader.locator(".line").nth(6)).to_have_attribute("aria-current", "true")
    expect(position).to_have_attribute("aria-valuetext", "13 seconds of 16 seconds")
    reader.get_by_role("button", name="Back 10 seconds").click()
    assert 2.9 < reader.evaluate(f"{SOUND}.currentTime") < 3.1
    reader.get_by_label("Speed").select_option("1.5")
    assert reader.evaluate(f"{SOUND}.playbackRate") == 1.5
    reader.locator("#task h1").click()
    reader.keyboard.press("Space")
    until(reader, f"!{SOUND}.paused")
    reader.keyboard.press("Space")
    until(reader, f"{SOUND}.paused")


@pytest.mark.parametrize("refusals", [1, 99])
def test_an_expired_sound_cookie_is_renewed_and_a_lasting_refusal_said(
    visit: Visit, server: Server, sub: str, refusals: int
) -> None:
    page = visit(server, sub)
    refused: list[str] = []

    def refuse(route: Route) -> None:
        if len(refused) < refusals:
            refused.append(route.request.url)
            route.fulfill(status=401)
        else:
            route.continue_()

    page.route(re.compile(r"/v1/task/[0-9a-f]+/audio$"), refuse)
    cookies: list[str] = []
    page.on("request", lambda request: cookies.append(request.url) if request.url.endswith("/audio-cookie") else None)
    choose(page, ("talk.wav", speech(16, 20)))
    open_transcript(page, "talk.wav")
    trouble = page.locator(".player [role=alert]")
    if refusals == 1:
        until(page, f"{SOUND}.readyState >= 1")
        page.locator(".line p").nth(2).click()
        until(page, f"!{SOUND}.paused && {SOUND}.currentTime > 4")
        expect(trouble).to_be_empty()
        (cookie,) = page.context.cookies(f"{server.url}/v1/task/{task_id(page)}/audio")
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    else:
        expect(trouble).to_contain_text("This browser cannot play the recording.")
        expect(page.get_by_role("button", name="Play", exact=True)).to_be_disabled()
    assert len(cookies) == 2


@pytest.mark.parametrize("kind", ["json", "txt", "srt", "vtt", "tsv"])
def test_each_format_is_saved_as_the_api_gives_it(
    reader: Page, server: Server, sub: str, kind: str, tmp_path: Path
) -> None:
    with reader.expect_download() as download:
        reader.get_by_role("button", name=f"{kind.upper()}: ").click()
    assert download.value.suggested_filename == f"talk.{kind}"
    path = tmp_path / "saved"
    download.value.save_as(path)
    answer = ask(server, sub, f"/v1/task/{task_id(reader)}/transcript?format={kind}")
    assert answer.status_code == 200
    assert path.read_bytes() == answer.content
    assert "This is line number 8." in path.read_text()


def test_copying_gives_the_text(reader: Page) -> None:
    reader.context.grant_permissions(["clipboard-read", "clipboard-write"])
    reader.get_by_role("button", name="Copy").click()
    expect(reader.get_by_role("button", name="Copied")).to_be_visible()
    text = reader.evaluate("navigator.clipboard.readText()")
    assert text.startswith("This is line number 1. This is")


def test_deleting_asks_erases_and_goes_back(reader: Page, server: Server, sub: str) -> None:
    doomed = task_id(reader)
    rows = reader.locator("#tasks li").count()
    reader.get_by_role("button", name="Delete").click()
    dialog = reader.get_by_role("dialog", name="Delete this transcript?")
    expect(dialog.get_by_role("button", name="Keep it")).to_be_focused()
    reader.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert ask(server, sub, f"/v1/task/{doomed}").status_code == 200
    reader.get_by_role("button", name="Delete").click()
    dialog.get_by_role("button", name="Delete").click()
    expect(reader.locator("#blank")).to_be_visible()
    expect(reader.locator("#tasks li")).to_have_count(rows - 1)
    expect(reader.locator("#choose")).to_be_focused()
    assert ask(server, sub, f"/v1/task/{doomed}").status_code == 404
    reader.goto(f"{server.url}/#/task/{doomed}")
    expect(reader.locator(".ended [role=alert]")).to_contain_text("There is no such task")


def test_deleting_an_active_task_cancels_it(visit: Visit, slow_server: Server) -> None:
    page = visit(slow_server, "canceller")
    choose(page, ("endless.wav", speech(60, 23)))
    expect(page.locator(".line").first).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel and erase").click()
    expect(page.locator(".verdict")).to_have_text("Cancelled. The recording has been erased.")
    row = page.locator(".row", has_text="endless.wav")
    expect(row).to_have_attribute("data-state", "cancelled")
    expect(page.locator(".line")).to_have_count(0)
    assert ask(slow_server, "canceller", f"/v1/task/{task_id(page)}").json()["state"] == "cancelled"
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(row).to_have_count(0)


def test_a_failed_task_says_why(visit: Visit, server: Server) -> None:
    page = visit(server, "unlucky")
    choose(page, ("broken.flac", b"fLaC" + bytes(range(256)) * 40))
    row = page.locator(".row", has_text="broken.flac")
    expect(row).to_have_attribute("data-state", "failed")
    expect(page.locator(".ended [role=alert]")).to_contain_text("could not be transcribed")
    expect(page.locator(".verdict code")).to_have_text("media_undecodable")


def test_earlier_tasks_come_page_by_page_newest_first(visit: Visit, server: Server) -> None:
    page = visit(server, "collector")
    choose(page, *((f"number {n:02}.wav", speech(1, 100 + n)) for n in range(23)))
    expect(page.locator("#tasks .name")).to_have_count(23, timeout=60_000)
    expect(page.locator("#uploads li")).to_have_count(0)
    page.goto(f"{server.url}/#/")
    page.reload()
    names = page.locator("#tasks .name")
    expect(names).to_have_count(20)
    assert names.first.inner_text() == "number 22.wav"
    page.get_by_role("button", name="Show earlier ones").click()
    expect(names).to_have_count(23)
    assert names.last.inner_text() == "number 00.wav"
    expect(page.locator("#more")).to_be_hidden()


def test_a_task_begun_elsewhere_is_seen_to_its_end(visit: Visit, slow_server: Server) -> None:
    """Sent by a command line while the page shows the list: reloading it follows the task without a click."""
    page = visit(slow_server, "elsewhere")
    answer = httpx2.put(
        f"{slow_server.url}/v1/audio/other-door/0?is_last=1&filename=other.wav",
        content=speech(6, 24),
        headers={"Authorization": f"Bearer {slow_server.token('elsewhere')}"},
    )
    assert answer.status_code == 202
    page.reload()
    row = page.locator(".row", has_text="other.wav")
    expect(row).to_have_attribute("data-state", "running")
    expect(row).to_have_attribute("data-state", "succeeded")
    expect(row).to_contain_text("This is line number 1.")


def test_events_are_parsed_however_they_are_cut(visit: Visit, server: Server) -> None:
    page = visit(server, None)
    parsed = page.evaluate("""async () => {
        const { EventParser } = await import("/page/events.js");
        const text = 'retry: 1000\\n\\nid: 1\\nevent: progress\\ndata: {"percent":4}\\n\\n: still here\\n\\n' +
            'id: 2\\r\\nevent: segment\\r\\ndata: {"text":\\r\\ndata: "zwölf"}\\r\\n\\r\\n' +
            'id: 3\\nevent: done\\ndata: {}\\n\\n';
        const outcomes = new Set();
        for (let size = 1; size <= text.length; size++) {
            const parser = new EventParser();
            const events = [];
            for (let at = 0; at < text.length; at += size) events.push(...parser.feed(text.slice(at, at + size)));
            outcomes.add(JSON.stringify(events));
        }
        return [...outcomes];
    }""")
    assert parsed == [
        '[{"id":"1","kind":"progress","data":{"percent":4}},'
        '{"id":"2","kind":"segment","data":{"text":"zwölf"}},{"id":"3","kind":"done","data":{}}]'
    ]
