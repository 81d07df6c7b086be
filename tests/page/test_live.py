"""Speaking into the page: a browser whose microphone plays a recording, a real server, and lines that break."""

from __future__ import annotations

import re
from collections.abc import Iterator
from time import monotonic

import jiwer
import pytest
from playwright.sync_api import Page, Route, expect

from tests.page.conftest import SAMPLES, Visit, _script, ask, task_id, until
from tests.page.speaking import DIGEST, Sent, check_sound, heard_without_cuts, speak, stop, stored, transcript
from tests.page.test_access import check
from tests.support.proxy import Fault, FaultProxy, Kind, Way
from tests.support.server import Server

pytestmark = pytest.mark.needs("chromium")

REFERENCES = dict(line.split("\t")[::2] for line in (SAMPLES / "references.tsv").read_text().splitlines()[1:])


@pytest.fixture(scope="module")
def digests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("digests")
    with Server(folder, recogniser="scripted", script=_script(folder, **DIGEST), engines=1) as running:
        yield running


@pytest.fixture
def proxy(digests: Server) -> Iterator[FaultProxy]:
    with FaultProxy(digests.port) as between:
        yield between


def words(text: str) -> str:
    return re.sub(r"[^a-z ]", "", text.lower())


@pytest.mark.slow
def test_words_appear_while_they_are_spoken_and_become_a_transcript(
    speaker: Visit, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With the real recogniser, from the button to the downloads."""
    with Server(tmp_path_factory.mktemp("hearing"), recogniser="moonshine", engines=1) as server:
        page = speaker(server, "ada")
        sent = Sent(page)
        speak(page)
        began = monotonic()
        partial, lines = page.locator("#live .partial"), page.locator("#live .live-line")
        expect(partial).not_to_be_empty()
        assert monotonic() - began < 6, "words come while they are spoken"
        check(page, "a partial")
        expect(lines.first).to_be_visible()
        assert monotonic() - began < 10
        expect(page.locator(".live-state")).to_have_text("Live")
        expect(page.get_by_role("meter", name="Microphone level")).to_be_visible()
        expect(lines).to_have_count(5, timeout=40_000)
        seen = [text.split("\n")[-1] for text in lines.all_inner_texts()]
        assert jiwer.wer(words(REFERENCES["dialogue.wav"]), words(" ".join(seen))) < 0.2
        stop(page)

        # From here on it is a task like any other.
        texts = [segment["text"] for segment in transcript(server, "ada", page)]
        assert texts == seen
        assert [text.split("\n")[-1] for text in page.locator(".line").all_inner_texts()] == seen
        expect(page.locator("#task h1")).to_contain_text("Spoken 20")
        expect(page.locator(".row", has_text="Spoken")).to_have_attribute("data-state", "succeeded")
        audio = stored(server, "ada", page)
        assert audio == sent.audio()
        check_sound(audio)
        until(page, "document.querySelector('audio').duration > 0")
        heard = page.locator("audio").evaluate("audio => audio.duration")
        assert heard == pytest.approx(len(audio) / 32_000, abs=1e-5)  # Chromium counts in microseconds


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gone", "half-open"])
def test_ten_seconds_without_a_network_leave_nothing_out(
    speaker: Visit, digests: Server, proxy: FaultProxy, kind: str
) -> None:
    """Also when nobody tells the browser: a line that swallows everything is noticed by its silence."""
    page = speaker(digests, "bea", url=f"http://127.0.0.1:{proxy.port}")
    sent = Sent(page)
    speak(page)
    lines = page.locator("#live .live-line")
    expect(lines).to_have_count(2)
    if kind == "gone":
        proxy.refuse()
        expect(page.locator(".live-state")).to_contain_text("Reconnecting, recording goes on")
        check(page, "reconnecting")
    else:
        for way in Way:
            proxy.strike(Fault(Kind.SWALLOW, way))
    expect(page.locator(".live-state")).to_contain_text(re.compile(r"· [78] s kept here"))
    page.wait_for_timeout(2_500)  # the wait is the test: ten seconds without a network
    proxy.heal()
    expect(page.locator(".live-state")).to_have_text("Live")
    said = lines.count()
    expect(lines.nth(said)).to_be_visible()  # and on it goes
    stop(page)

    audio = stored(digests, "bea", page)
    assert len(audio) > 12 * 32_000
    assert audio == sent.audio()
    check_sound(audio)
    texts = [segment["text"] for segment in transcript(digests, "bea", page)]
    assert texts == heard_without_cuts(digests, audio)
    assert len(sent.sockets) >= 2


def test_many_cuts_in_a_row_leave_nothing_out(speaker: Visit, digests: Server, proxy: FaultProxy) -> None:
    page = speaker(digests, "cleo", url=f"http://127.0.0.1:{proxy.port}")
    sent = Sent(page)
    speak(page)
    for n in range(8):
        page.wait_for_timeout(150 + 67 * n)  # into the middle of something
        proxy.cut()
        expect(page.locator(".live-state")).to_have_text("Live")
    proxy.cut()
    stop(page)  # without waiting for the line
    audio = stored(digests, "cleo", page)
    assert audio == sent.audio()
    check_sound(audio)
    assert [segment["text"] for segment in transcript(digests, "cleo", page)] == heard_without_cuts(digests, audio)
    assert len(sent.sockets) >= 9


@pytest.mark.parametrize("then", ["Finish it", "Go on speaking"])
def test_a_reload_in_mid_speech_is_taken_up(speaker: Visit, digests: Server, then: str) -> None:
    page = speaker(digests, "dina")
    speak(page)
    expect(page.locator("#live .live-line")).to_have_count(2)
    shown = page.locator("#live .live-line").all_inner_texts()
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.reload()
    assert asked == ["beforeunload"]  # nobody loses words by accident
    assert page.evaluate("location.hash") == "#/live"
    expect(page.locator("#live .verdict")).to_contain_text("A session was cut off")
    check(page, "cut off")
    page.get_by_role("button", name=then).click()
    if then == "Go on speaking":
        expect(page.locator("#live")).to_have_attribute("data-state", "live")
        expect(page.locator("#live .live-line").nth(3)).to_be_visible()
        assert page.locator("#live .live-line").all_inner_texts()[:2] == shown
        stop(page)
    expect(page.locator(".downloads")).to_be_visible()
    texts = [segment["text"] for segment in transcript(digests, "dina", page)]
    assert [line.split("\n")[-1] for line in shown] == texts[:2]
    assert texts == heard_without_cuts(digests, stored(digests, "dina", page))
    page.goto(f"{digests.url}/#/live")
    expect(page.locator("#live .verdict")).to_have_count(0)  # it is offered once
    assert page.evaluate("sessionStorage.getItem('cosygate.live')") is None


def test_an_expired_token_asks_and_the_session_goes_on(speaker: Visit, digests: Server, proxy: FaultProxy) -> None:
    page = speaker(digests, "eva", url=f"http://127.0.0.1:{proxy.port}")
    sent = Sent(page)
    speak(page)
    expect(page.locator("#live .live-line").first).to_be_visible()
    expired = {"title": "The token has expired", "code": "token_expired", "detail": ""}

    def refuse(route: Route) -> None:
        route.fulfill(status=401, json=expired, content_type="application/problem+json")

    page.route("**/v1/live/tickets", refuse)
    proxy.cut()
    expect(page.locator("#signin-error")).to_have_text("Your token has expired. Paste a new one.")
    page.unroute("**/v1/live/tickets")
    page.wait_for_timeout(500)  # words that are spoken meanwhile
    page.get_by_label("Token").fill(digests.token("eva"))
    page.keyboard.press("Enter")
    expect(page.locator("#live")).to_have_attribute("data-state", "live")
    stop(page)
    audio = stored(digests, "eva", page)
    assert audio == sent.audio()
    check_sound(audio)


def test_signing_out_ends_the_session_and_keeps_its_words(speaker: Visit, digests: Server) -> None:
    page = speaker(digests, "fay")
    speak(page)
    expect(page.locator("#live .live-line").first).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop and sign out").click()
    expect(page.locator("#signin")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0
    page.get_by_label("Token").fill(digests.token("fay"))
    page.keyboard.press("Enter")
    expect(page.locator("#now")).to_be_hidden()
    expect(page.locator(".row", has_text="Spoken")).to_have_attribute("data-state", "succeeded")


def test_the_session_goes_on_while_something_else_is_read(speaker: Visit, digests: Server) -> None:
    page = speaker(digests, "gwen")
    speak(page)
    expect(page.locator("#live .live-line").first).to_be_visible()
    page.locator(".brand").last.click()
    expect(page.locator("#live")).to_be_hidden()
    expect(page.locator("#now")).to_contain_text("Speaking · 0:0")
    page.locator("#now").click()
    stop(page)
    assert len(transcript(digests, "gwen", page)) >= 1


NO_DEVICES = "Object.defineProperty(navigator, 'mediaDevices', { value: undefined });"


def _no_microphone(page: Page, server: Server, told: str) -> None:
    page.get_by_role("button", name="Speak").click()
    expect(page.locator("#live [role=alert]")).to_contain_text(told)
    check(page, told)
    expect(page.locator("#live").get_by_role("button", name="Speak")).to_be_visible()  # to try again
    assert ask(server, "hana", "/v1/tasks").json()["tasks"] == []


def test_a_refused_microphone_is_said_in_words(speaker: Visit, server: Server) -> None:
    page = speaker(server, "hana")
    page.context.clear_permissions()
    _no_microphone(page, server, "The microphone is not allowed here")


def test_a_missing_microphone_is_said_in_words(visit: Visit, server: Server) -> None:
    page = visit(server, "hana")
    page.context.grant_permissions(["microphone"])
    _no_microphone(page, server, "There is no microphone")


def test_a_page_that_may_have_none_says_so(speaker: Visit, server: Server) -> None:
    """As over plain HTTP to another host."""
    page = speaker(server, "hana", script=NO_DEVICES)
    _no_microphone(page, server, "The browser offers no microphone to this page")


def test_a_server_that_takes_no_more_says_so(speaker: Visit, tmp_path_factory: pytest.TempPathFactory) -> None:
    with Server(tmp_path_factory.mktemp("full"), recogniser="scripted", engines=1, live_sessions_each=1) as server:
        first = speaker(server, "iris")
        speak(first)
        second = speaker(server, "iris")
        second.get_by_role("button", name="Speak").click()
        expect(second.locator("#live [role=alert]")).to_contain_text("That is one session too many")
        check(second, "refused")
        stop(first)
        second.locator("#live").get_by_role("button", name="Speak").click()
        expect(second.locator("#live")).to_have_attribute("data-state", "live")


def test_the_keyboard_alone_is_enough_to_speak(speaker: Visit, digests: Server) -> None:
    page = speaker(digests, "jane")
    page.locator("#choose").focus()
    page.keyboard.press("Tab")
    expect(page.locator("#speak")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#live h1")).to_be_focused()
    expect(page.locator("#live")).to_have_attribute("data-state", "live")
    expect(page.locator("#live .live-line").first).to_be_visible()
    assert page.locator("#live [role=log]").get_attribute("aria-live") == "polite"  # finals are read out
    assert page.locator("#live .partial").get_attribute("aria-live") == "off"  # what may change is not
    stops = tabs(page, 2)
    assert stops == ["Stop", "Share"]
    page.keyboard.press("Enter")
    expect(page.get_by_label("Captions link")).to_be_focused()
    page.get_by_role("button", name="Stop").focus()
    page.keyboard.press(" ")
    expect(page.locator(".downloads")).to_be_visible()
    expect(page.locator("#task h1")).to_be_focused()


def tabs(page: Page, count: int) -> list[str]:
    found = []
    for _ in range(count):
        page.keyboard.press("Tab")
        found.append(page.evaluate("document.activeElement.textContent.trim()"))
    return found


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1440, "light")])
def test_every_state_of_speaking_is_readable_named_and_fits(
    speaker: Visit, digests: Server, width: int, scheme: str
) -> None:
    page = speaker(digests, f"viewer-{width}", width=width, scheme=scheme)
    page.evaluate("location.hash = '#/live'")
    expect(page.locator("#live")).to_have_attribute("data-state", "idle")
    check(page, "idle")
    speak(page)
    expect(page.locator("#live .live-line").nth(2)).to_be_visible()
    check(page, "live")
    page.get_by_role("button", name="Share").click()
    expect(page.get_by_label("Captions link")).to_be_focused()
    check(page, "shared")
    page.evaluate("location.hash = '#/'")
    expect(page.locator("#now")).to_be_visible()
    check(page, "elsewhere")
    page.evaluate("location.hash = '#/live'")
    stop(page)
    check(page, "stopped")
    assert task_id(page)
