"""A recording that the browser fetches from the object store itself plays, and seeks, as one that we stream."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from deploy.local_cluster.services import ObjectStore
from tests.page.conftest import SCRIPT, open_transcript, speech, until
from tests.support import services
from tests.support.server import Server

pytestmark = pytest.mark.needs("chromium")
SOUND = "document.querySelector('audio')"


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with services.object_store() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, store: ObjectStore) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("page")
    script = folder / "script.json"
    script.write_text(json.dumps(SCRIPT))
    running = Server(
        folder,
        recogniser="scripted",
        script=script,
        engines=1,
        store_url="s3://cosygate",
        store_endpoint=store.endpoint,
        store_public_endpoint=f"http://localhost:{store.port}",
    )
    running.env |= store.credentials
    with running:
        yield running


def test_it_plays_from_the_store(browser: Browser, server: Server, store: ObjectStore) -> None:
    with server.http("listener") as http:  # in one chunk, which the page would not do with so much
        last = {"is_last": "1", "filename": "talk.wav"}
        http.put("/v1/audio/talk/0", content=speech(8), params=last).raise_for_status()
    context = browser.new_context()
    said: list[str] = []
    asked: list[str] = []
    context.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    context.on("request", lambda request: asked.append(request.url))
    page = context.new_page()
    page.goto(f"{server.url}/#token={server.token('listener')}")
    expect(page.locator("#choose")).to_be_visible()
    open_transcript(page, "talk.wav")
    until(page, f"{SOUND}.readyState >= 1")
    assert abs(page.evaluate(f"{SOUND}.duration") - 8) < 0.1
    page.evaluate(f"{SOUND}.muted = true")
    page.locator(".line").nth(2).click()
    until(page, f"{SOUND}.currentTime > 4.1")
    assert any(url.startswith(f"http://localhost:{store.port}/cosygate/uploads/") for url in asked)
    assert said == []
    context.close()
