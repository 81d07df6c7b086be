"""Recordings on their way: chosen, dropped, paused, continued after a reload, refused. What was sent arrives."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.page.conftest import Visit, ask, choose, open_transcript, speech, task_id
from tests.support.server import Server

pytestmark = pytest.mark.needs("chromium")

PARTS = re.compile(r"/v1/audio/[^/]+/(\d+)")
DROP = """([name, bytes]) => {
    const carried = new DataTransfer();
    carried.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], name, { type: "audio/wav" }));
    const send = (kind) => document.getElementById("reading").dispatchEvent(
        new DragEvent(kind, { dataTransfer: carried, bubbles: true, cancelable: true }));
    send("dragenter");
    const veiled = !document.getElementById("veil").hidden;
    send("drop");
    return veiled && document.getElementById("veil").hidden;
}"""


class Parts:
    """Sees every chunk that the page sends; holds those from `hold_from` on, as a stalled line would."""

    def __init__(self, page: Page) -> None:
        self.seqs: list[int] = []
        self.hold_from: int | None = None
        self.digests: list[str] = []
        page.route(PARTS, self._part)

    def _part(self, route: Route) -> None:
        match = PARTS.search(route.request.url)
        assert match
        seq = int(match[1])
        self.seqs.append(seq)
        self.digests.append(route.request.headers.get("content-digest", ""))
        if self.hold_from is None or seq < self.hold_from:
            route.continue_()


@pytest.fixture
def parts(visit: Visit, server: Server) -> Iterator[tuple[Page, Parts]]:
    page = visit(server, "uploader")
    yield page, Parts(page)


def _bytes_stored(server: Server, page: Page) -> bytes:
    return ask(server, "uploader", f"/v1/task/{task_id(page)}/audio").content


def test_chosen_files_arrive_byte_for_byte_in_checked_chunks(parts: tuple[Page, Parts], server: Server) -> None:
    page, seen = parts
    first, second = speech(20, 1), speech(6, 2)
    choose(page, ("first.wav", first), ("second.wav", second))
    open_transcript(page, "first.wav")
    assert _bytes_stored(server, page) == first
    open_transcript(page, "second.wav")
    assert _bytes_stored(server, page) == second
    assert len(seen.seqs) == 5 + 2  # 128 KiB each
    assert all(digest.startswith("sha-256=:") for digest in seen.digests)
    expect(page.locator("#uploads-box")).to_be_hidden()


def test_a_dropped_file_is_taken_anywhere_on_the_page(visit: Visit, server: Server) -> None:
    import base64

    page = visit(server, "uploader")
    data = speech(4, 3)
    assert page.evaluate(DROP, ["dropped.wav", base64.b64encode(data).decode()])
    open_transcript(page, "dropped.wav")
    assert _bytes_stored(server, page) == data


@pytest.mark.parametrize("paused", [True, False])
def test_pause_reload_continue(parts: tuple[Page, Parts], server: Server, paused: bool) -> None:
    """Also without a pause: a reload in mid-upload continues by itself, and sends nothing twice that arrived."""
    page, seen = parts
    name = f"interrupted-{paused}.wav"
    data = speech(60, 4 + paused)  # 1.9 MB: 15 chunks
    seen.hold_from = 6
    choose(page, (name, data))
    bar = page.get_by_role("progressbar", name=f"Upload of {name}")
    expect(bar).to_have_attribute("value", "40")  # 6 of 15
    if paused:
        page.get_by_role("button", name=f"Pause {name}").click()
        expect(page.locator(".upload-state")).to_have_text("Paused at 40 %")
        expect(page.get_by_role("button", name=f"Continue {name}")).to_be_focused()
    page.reload()
    seen.seqs.clear()
    seen.hold_from = None
    if paused:
        expect(page.locator(".upload-state")).to_have_text("Paused")
        page.wait_for_timeout(300)
        assert seen.seqs == []
        page.get_by_role("button", name=f"Continue {name}").click()
    open_transcript(page, name)
    assert _bytes_stored(server, page) == data
    assert sorted(set(seen.seqs)) == list(range(6, 15))


def test_a_broken_line_is_taken_up_again(parts: tuple[Page, Parts], server: Server) -> None:
    page, _ = parts
    broken: list[str] = []

    def cut(route: Route) -> None:
        if len(broken) < 4:
            broken.append(route.request.url)
            route.abort("connectionreset")
        else:
            route.fallback()

    page.route(PARTS, cut)
    data = speech(20, 6)
    choose(page, ("shaky.wav", data))
    open_transcript(page, "shaky.wav")
    assert len(broken) == 4
    assert _bytes_stored(server, page) == data


def test_a_lost_answer_to_the_last_chunk_leads_to_the_same_task(parts: tuple[Page, Parts], server: Server) -> None:
    page, _ = parts
    lost: list[int] = []

    def swallow(route: Route) -> None:
        answer = route.fetch()
        if answer.status == 202 and not lost:
            lost.append(answer.status)
            route.abort("connectionreset")
        else:
            route.fulfill(response=answer)

    page.route(PARTS, swallow)
    choose(page, ("answered.wav", speech(4, 7)))
    open_transcript(page, "answered.wav")
    assert lost == [202]
    listed = ask(server, "uploader", "/v1/tasks?limit=100").json()["tasks"]
    assert [task["file"] for task in listed].count("answered.wav") == 1


def test_what_the_server_refuses_is_said_in_words_with_the_trace(parts: tuple[Page, Parts], server: Server) -> None:
    page, _ = parts
    choose(page, ("notes.txt", b"These are no sounds. " * 100))
    card = page.locator(".upload", has_text="notes.txt")
    expect(card.get_by_role("alert")).to_contain_text("This is not audio that can be decoded here.")
    trace = card.locator(".trace code").inner_text()
    assert re.fullmatch(r"[0-9a-f]{32}", trace)
    assert trace in server.log()
    expect(card.get_by_role("button", name="Continue")).to_have_count(0)  # it would not help
    card.get_by_role("button", name="Give up notes.txt").click()
    page.get_by_role("dialog").get_by_role("button", name="Give it up").click()
    expect(card).to_have_count(0)
    page.reload()
    expect(page.locator("#tasks li").first).to_be_visible()
    expect(card).to_have_count(0)


def test_an_empty_file_is_refused_by_the_server(parts: tuple[Page, Parts]) -> None:
    page, _ = parts
    choose(page, ("empty.wav", b""))
    expect(page.locator(".upload", has_text="empty.wav").get_by_role("alert")).to_contain_text("no bytes")


def test_a_browser_without_room_asks_for_the_same_file_again(visit: Visit, server: Server, tmp_path: Path) -> None:
    """IndexedDB refuses the file (quota): after a reload it must be chosen again, and only that one will do."""
    full = """
        const put = IDBObjectStore.prototype.put;
        IDBObjectStore.prototype.put = function (record) {
            if (record.file) throw new DOMException("no room", "QuotaExceededError");
            return put.call(this, record);
        };"""
    page = visit(server, "uploader", script=full)
    seen = Parts(page)
    seen.hold_from = 3
    file = tmp_path / "large.wav"
    file.write_bytes(speech(30, 8))  # 960 kB: 8 chunks
    page.set_input_files("#files", file)
    expect(page.get_by_role("progressbar", name="Upload of large.wav")).to_have_attribute("value", "40")
    page.reload()
    expect(page.locator(".upload-state")).to_have_text("To continue, this browser needs the file once more.")
    seen.hold_from = None
    seen.seqs.clear()
    choose_again = page.get_by_role("button", name="Choose the file again")
    with page.expect_file_chooser() as chooser:
        choose_again.click()
    chooser.value.set_files({"name": "large.wav", "mimeType": "audio/wav", "buffer": speech(30, 9)})
    expect(page.locator(".notice")).to_contain_text("That is not the same large.wav.")
    assert seen.seqs == []
    with page.expect_file_chooser() as chooser:
        choose_again.click()
    chooser.value.set_files(file)
    open_transcript(page, "large.wav")
    assert _bytes_stored(server, page) == file.read_bytes()
    assert sorted(set(seen.seqs)) == list(range(3, 8))


def test_a_server_with_smaller_chunks_still_gets_the_recording(
    visit: Visit, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Server(tmp_path_factory.mktemp("small"), recogniser="scripted", chunk_max_bytes=40_000) as small:
        page = visit(small, "uploader")
        data = speech(6, 10)
        choose(page, ("small.wav", data))
        open_transcript(page, "small.wav")
        assert _bytes_stored(small, page) == data


def test_options_travel_with_the_last_chunk(parts: tuple[Page, Parts]) -> None:
    page, _ = parts
    queries: list[str] = []
    page.on("request", lambda request: queries.append(request.url) if "is_last=1" in request.url else None)
    page.locator("#options summary").click()
    expect(page.get_by_label("Model").locator("option")).to_have_count(2)
    page.get_by_label("Language").select_option("en")
    page.get_by_label("Channels").select_option("split")
    expect(page.locator("#options summary")).to_have_text("Options · English · Recognise each alone")
    choose(page, ("stereo.wav", speech(4, 11, channels=2)))
    open_transcript(page, "stereo.wav")
    assert "language=en" in queries[0]
    assert "channels=split" in queries[0]
    assert "model=" not in queries[0]  # the default is the server's to choose
    expect(page.locator(".voice", has_text="S2")).not_to_have_count(0)  # each channel is a speaker
    page.reload()
    expect(page.locator("#options summary")).to_contain_text("English")  # remembered
