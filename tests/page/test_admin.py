"""The operator's page in a real Chromium: who may see it, what it shows while it happens, draining, dead letters."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Page, Route, expect

from tests.page.conftest import Visit
from tests.page.test_access import check
from tests.support.faults import Victim, recording, submit

pytestmark = pytest.mark.needs("chromium")


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """One recording at a time, each for longer than the test."""
    settings = {"engines": 1, "engine_slots": 1, "runner_jobs": 1, "drain_s": 0}
    with Victim(tmp_path_factory.mktemp("operator"), script={"texts": ["x"], "delay_s": 60}, **settings) as running:
        yield running


def operator(visit: Visit, server: Victim, **how: object) -> Page:
    page = visit(server, None, path="/admin", **how)
    page.get_by_label("Token").fill(server.token("root", scopes=["admin"]))
    page.keyboard.press("Enter")
    expect(page.locator("#state")).to_have_text(f"Ready. Version {version()}.")
    return page


def version() -> str:
    from cosygate import __version__

    return __version__


def figure(page: Page, name: str) -> object:
    return page.locator(f'[data-name="{name}"] dd')


def test_only_an_operators_token_opens_it(visit: Visit, busy: Victim) -> None:
    page = visit(busy, None, path="/admin")
    expect(page.locator("#signin")).to_be_visible()
    check(page, "sign-in")
    page.get_by_label("Token").fill(busy.token("alice"))
    page.keyboard.press("Enter")
    expect(page.locator("#signin-error")).to_contain_text("It lacks the scope admin")
    expect(page.locator("#app")).to_be_hidden()


def test_the_queue_shows_itself_while_it_grows(visit: Visit, busy: Victim) -> None:
    page = operator(visit, busy)
    row = page.locator("#engines tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("scripted")
    expect(row.locator("td").last).to_have_text("closed")
    with busy.http("anna", tenant="acme") as http:
        for number in range(3):
            submit(http, f"shown-{number}", recording(number, 90.0))
    expect(figure(page, "Running")).to_have_text("1")  # without a reload
    expect(figure(page, "Waiting")).to_have_text("2")
    expect(figure(page, "Audio waiting")).to_have_text("3:00")
    expect(page.locator("#queue tbody tr")).to_contain_text("acme")
    expect(page.locator("#dead")).to_have_text("None.")
    check(page, "busy")


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1440, "light")])
def test_draining_is_asked_for_twice_and_undone_once(visit: Visit, busy: Victim, width: int, scheme: str) -> None:
    page = operator(visit, busy, width=width, scheme=scheme)
    page.get_by_role("button", name="Drain").click()
    page.get_by_role("dialog").get_by_role("button", name="Leave it").click()
    expect(page.locator("#state")).to_contain_text("Ready")
    page.get_by_role("button", name="Drain").click()
    page.get_by_role("dialog").get_by_role("button", name="Drain").click()
    expect(page.locator("#state")).to_have_text("Takes nothing new: draining.")
    check(page, "drained")
    with busy.http() as http:
        assert http.put("/v1/audio/refused/0", content=b"x").json()["code"] == "draining"
    page.reload()
    expect(page.locator("#state")).to_have_text("Takes nothing new: draining.")
    page.get_by_role("button", name="Take work again").click()
    expect(page.locator("#state")).to_contain_text("Ready")


def test_a_server_that_does_not_answer_is_said_to(visit: Visit, busy: Victim) -> None:
    page = operator(visit, busy)
    page.route("**/v1/admin/overview", lambda route: route.abort())
    expect(page.locator("#state")).to_contain_text("What is shown may be old")
    check(page, "away")
    page.unroute("**/v1/admin/overview")
    expect(page.locator("#state")).to_contain_text("Ready")


def test_what_tenants_have_used_is_shown(visit: Visit, busy: Victim) -> None:
    """No recording ends on this server: the row is put where the end of one would have put it."""
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    with closing(sqlite3.connect(busy.data_dir / "cosygate.db", timeout=10)) as database, database:
        database.execute("INSERT INTO usage VALUES (?, ?, 'file', 3725, 2)", ("acme", today))
    page = operator(visit, busy)
    row = page.locator("#usage tbody tr")
    expect(row).to_have_count(1)
    expect(row.locator("td")).to_have_text(["acme", "1:02:05", "none", "1:02:05", "none"])
    check(page, "use")


def test_an_open_breaker_is_shown(visit: Visit, busy: Victim) -> None:
    """The engine works: here is what the page does with what the overview tells of another one."""

    def opened(route: Route) -> None:
        seen = route.fetch().json()
        [engine] = seen["engines"]
        route.fulfill(json=seen | {"engines": [engine | {"breaker": "open", "probe_in_s": 41.2}]})

    page = operator(visit, busy)
    page.route("**/v1/admin/overview", opened)
    cell = page.locator("#engines tbody tr td").last
    expect(cell).to_have_text("open, tries in 42 s")
    expect(cell).to_have_class("wrongly")
    check(page, "open breaker")
    page.unroute("**/v1/admin/overview")
    expect(cell).to_have_text("closed")


def test_a_dead_letter_is_sent_again(visit: Visit, busy: Victim) -> None:
    """The server's own dead letters are test_webhooks' to make: here is what the page does with one."""
    asked: list[str] = []
    letter = {
        "id": "msg_1",
        "tenant": "acme",
        "kind": "task.succeeded",
        "host": "hooks.example",
        "attempt": 10,
        "status": 500,
        "error": "http_status",
        "tried_at": 1_780_000_000.0,
    }

    def with_letter(route: Route) -> None:
        seen = route.fetch().json()
        route.fulfill(json=seen | ({"dead_count": 1, "dead": [letter]} if not asked else {}))

    def replay(route: Route) -> None:
        asked.append(route.request.method)
        route.fulfill(status=202)

    page = operator(visit, busy)
    page.route("**/v1/admin/overview", with_letter)
    page.route("**/v1/admin/deliveries/msg_1/replay", replay)
    expect(page.locator("#dead tbody tr")).to_contain_text("hooks.example")
    check(page, "dead letters")
    page.get_by_role("button", name="Send msg_1 again").click()
    expect(page.locator("#dead")).to_have_text("None.")
    assert asked == ["POST"]
    expect(page.locator("#said")).to_have_text("It is sent again.")
