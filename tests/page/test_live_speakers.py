"""Who speaks, while it is spoken: asked for where a model can tell it live, and shown with the lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.page.conftest import Visit, _script, ask, until, until_engines
from tests.page.speaking import speak, stop, transcript
from tests.support.server import Server

pytestmark = pytest.mark.needs("chromium")

TURNS = [{"text": f"Turn {n}.", "speaker": who} for n, who in enumerate(("anna", "bo", "anna", "bo"), 1)]


def told(folder: Path, capabilities: list[str]) -> Iterator[Server]:
    script = _script(folder, texts=TURNS, segment_s=1.0, capabilities=capabilities)
    with Server(folder, recogniser="scripted", script=script, engines=1) as running:
        until_engines(running)
        yield running


@pytest.fixture(scope="module")
def live_teller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from told(tmp_path_factory.mktemp("live"), ["speakers", "live_speakers", "words"])


@pytest.fixture(scope="module")
def late_teller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Tells it at a recording's end only."""
    yield from told(tmp_path_factory.mktemp("late"), ["speakers", "words"])


def starts(page: Page) -> list[dict[str, Any]]:
    """The first messages of live sessions, as they go out."""
    found: list[dict[str, Any]] = []

    def sent(message: str | bytes) -> None:
        if isinstance(message, str) and json.loads(message)["type"] == "start":
            found.append(json.loads(message))

    page.on("websocket", lambda socket: socket.on("framesent", sent))
    return found


def choose_speakers(page: Page, label: str) -> None:
    page.locator("#options summary").click()
    page.get_by_label("Speakers", exact=True).select_option(label)


@pytest.mark.parametrize(
    ("label", "options"),
    [("There are 2", {"diarize": "true", "num_speakers": "2"}), ("Tell them apart", {"diarize": "true"})],
)
def test_who_speaks_is_asked_for_and_shown(
    speaker: Visit, live_teller: Server, sub: str, label: str, options: dict[str, str]
) -> None:
    [model] = [one for engine in ask(live_teller, sub, "/v1/models").json()["engines"] for one in engine["models"]]
    assert model["live_speakers"]
    page = speaker(live_teller, sub)
    sent = starts(page)
    choose_speakers(page, label)
    speak(page)
    until(page, "document.querySelectorAll('.live-line').length >= 2")
    shown = page.locator(".live-line .voice").all_inner_texts()
    stop(page)
    filename = sent[0]["options"].pop("filename")
    assert filename.startswith("Spoken ") and sent[0]["options"] == options
    assert shown[:2] == [segment["speaker"] for segment in transcript(live_teller, sub, page)][:2] != ["", ""]
    expect(page.locator(".chip")).to_have_count(2)


def test_it_is_not_asked_where_no_model_can_tell_it_live(speaker: Visit, late_teller: Server, sub: str) -> None:
    page = speaker(late_teller, sub)
    sent = starts(page)
    choose_speakers(page, "There are 2")
    speak(page)  # it would be refused
    stop(page)
    assert set(sent[0]["options"]) == {"filename"}
