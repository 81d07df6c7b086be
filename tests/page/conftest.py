"""A real Chromium on the real server. Whatever a test does, nothing may leave the origin, break the content security
policy, or throw on the page."""

from __future__ import annotations

import io
import json
import random
import re
import shutil
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.support.server import READY_S, Server

SAMPLES = Path(__file__).parents[2] / "samples"
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS = 20_000  # a loaded machine
SCRIPT = {"texts": [f"This is line number {n}." for n in range(1, 9)], "segment_s": 2.0}

expect.set_options(timeout=WAIT_MS)
Visit = Callable[..., Page]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Ends with this folder: Playwright's own event loop must not outlive it, other tests bring theirs."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def speaking_browser(browser: Browser) -> Iterator[Browser]:
    """A browser of its own, whose microphone plays samples/dialogue.wav once and gives silence from then on."""
    args = [
        *ARGS,
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={SAMPLES / 'dialogue.wav'}%noloop",
        "--autoplay-policy=no-user-gesture-required",  # as after any click; some tests go on after a reload
    ]
    running = browser.browser_type.launch(executable_path=shutil.which("chromium"), args=args)
    yield running
    running.close()


def _script(folder: Path, **members: Any) -> Path:
    path = folder / "script.json"
    path.write_text(json.dumps(SCRIPT | members))
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Recognises at once: eight different lines, one every two seconds of audio."""
    folder = tmp_path_factory.mktemp("page")
    with Server(folder, recogniser="scripted", script=_script(folder), engines=1) as running:
        yield running


@pytest.fixture(scope="module")
def slow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Takes a second for each line, one recording at a time: there is something to watch."""
    folder = tmp_path_factory.mktemp("slow")
    settings = {"engines": 1, "engine_slots": 1, "drain_s": 0}
    with Server(folder, recogniser="scripted", script=_script(folder, delay_s=1.0), **settings) as running:
        yield running


def talking(folder: Path, **members: Any) -> Iterator[Server]:
    """Knows who speaks: S1, S2, S1 and S3 in turn."""
    lines = [{"text": f"This is line number {n}.", "speaker": who} for n, who in enumerate(("S1", "S2", "S1", "S3"), 1)]
    script = _script(folder, texts=lines, capabilities=["speakers", "words"], **members)
    with Server(folder, recogniser="scripted", script=script, engines=1) as running:
        until_engines(running)
        yield running


def until_engines(running: Server) -> None:
    """The page offers what its engine can."""
    deadline = time.monotonic() + READY_S
    with running.http() as http:
        while not http.get("/v1/models").json()["engines"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture(scope="module")
def talking_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Every line has two seconds."""
    yield from talking(tmp_path_factory.mktemp("talking"))


@pytest.fixture
def sub(request: pytest.FixtureRequest) -> str:
    """Everybody has a list of their own."""
    return re.sub(r"\W+", "-", request.node.name)


class Guard:
    """Watches everything that a context asks for and says."""

    def __init__(self, context: BrowserContext, origin: str) -> None:
        self.origin = origin
        self.wrong: list[str] = []
        context.on("request", self._request)
        context.on("console", self._console)
        context.on("weberror", lambda error: self.wrong.append(f"uncaught: {error.error}"))

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.origin + "/", "blob:" + self.origin, "data:")):
            self.wrong.append(f"left the origin: {request.url}")

    def _console(self, message: ConsoleMessage) -> None:
        # Chromium reports every refused or failed request; what the page makes of it is the tests' to say.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.wrong.append(f"console: {message.text}")


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Opens a server's page in a browser of its own, signed in unless `sub` is None."""
    yield from _visits(browser)


@pytest.fixture
def speaker(speaking_browser: Browser) -> Iterator[Visit]:
    """The same, with a microphone that it is allowed to use."""
    yield from _visits(speaking_browser, permissions=["microphone"])


def _visits(browser: Browser, permissions: list[str] | None = None) -> Iterator[Visit]:
    contexts: list[tuple[BrowserContext, Guard]] = []

    def open_page(
        server: Server, sub: str | None = "alice", *, width: int = 1280, height: int = 860, scheme: str = "light",
        path: str = "/", script: str = "", url: str = "",
    ) -> Page:  # fmt: skip
        """`url`: where the server is reached, when that is not its own address (a proxy)."""
        origin = url or server.url
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type]  # light or dark
            accept_downloads=True,
            reduced_motion="reduce",  # states, not their animations
            permissions=permissions,
        )
        context.set_default_timeout(WAIT_MS)
        contexts.append((context, Guard(context, origin)))
        if script:
            context.add_init_script(script)
        page = context.new_page()
        page.goto(f"{origin}{path}" + (f"#token={server.token(sub)}" if sub else ""))
        if sub and path == "/":
            expect(page.locator("#choose")).to_be_visible()
        return page

    yield open_page
    wrong = [line for _, guard in contexts for line in guard.wrong]
    for context, _ in contexts:
        for page in context.pages:
            page.unroute_all(behavior="ignoreErrors")  # requests that a test held back
        context.close()
    assert wrong == []


def speech(seconds: float, seed: int = 1, channels: int = 1) -> bytes:
    """A WAV that no other seed gives: 16 kHz of quiet noise. The scripted recogniser hears its script in it."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(16_000)
        noise = random.Random(seed).randbytes(int(seconds * 16_000) * channels)
        out.writeframes(b"".join(bytes((byte, 0)) for byte in noise))
    return buffer.getvalue()


def until(page: Page, condition: str) -> None:
    """Waits for a condition in the page. Playwright's own wait evaluates text there, which the policy forbids."""
    deadline = time.monotonic() + WAIT_MS / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, f"never so: {condition}"
        page.wait_for_timeout(20)


def choose(page: Page, *files: tuple[str, bytes]) -> None:
    page.set_input_files("#files", [{"name": name, "mimeType": "audio/wav", "buffer": data} for name, data in files])


def ask(server: Server, sub: str, path: str) -> httpx2.Response:
    """The API's own answer, to compare with what the page makes of it."""
    return httpx2.get(server.url + path, headers={"Authorization": f"Bearer {server.token(sub)}"}, timeout=30)


def open_transcript(page: Page, name: str) -> None:
    """Waits until the named recording is transcribed, and shows it."""
    row = page.locator(".row", has_text=name)
    expect(row).to_have_attribute("data-state", "succeeded")
    row.click()
    expect(page.locator(".downloads")).to_be_visible()


def task_id(page: Page) -> str:
    """Of the transcript that is shown."""
    return page.evaluate("location.hash.split('/').pop()")


@pytest.fixture
def talk(visit: Visit, talking_server: Server, sub: str) -> Page:
    """Shows a transcript of four lines, two seconds each, by S1, S2, S1 and S3."""
    return read_talk(visit(talking_server, sub))


def read_talk(page: Page) -> Page:
    page.locator("#options summary").click()
    page.get_by_label("Speakers", exact=True).select_option("3")
    choose(page, ("talk.wav", speech(8, 60)))
    expect(page.locator(".line")).to_have_count(4)  # it was opened by itself
    expect(page.locator(".chip")).to_have_count(3)
    return page
