"""The operator's page in a real Chromium: who may see it, what it shows while it happens, draining, dead letters, and
that names are never more than text."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Page, Route, expect

from tests.page.conftest import Visit
from tests.page.test_access import check
from tests.support.faults import Victim, recording, submit
from tests.support.receiver import Receiver, answers

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


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """A server that recognises at once, and gives a webhook up after two tries."""
    hooks = {"webhook_scheme": "any", "webhook_allow": "127.0.0.0/8", "webhook_schedule": "0.1", "engines": 1}
    with Victim(tmp_path_factory.mktemp("done"), script={"texts": ["x"]}, **hooks) as running:
        yield running


def told(server: Victim, tenant: str, receiver: Receiver) -> str:
    """The id of a delivery about a recording of 65 s of this tenant, as its receiver is asked for the second time."""
    command = [sys.executable, "-m", "cosygate", "webhooks", "secret", "create", "--tenant", tenant]
    subprocess.run(command, env=server.env, check=True, stdout=subprocess.DEVNULL)
    with server.http("anna", tenant=tenant) as http:
        params = {"is_last": "1", "callback_url": f"{receiver.url}/hook"}
        sent = http.put("/v1/audio/told/0", params=params, content=recording(9, 65.0))
        assert sent.status_code == 202, sent.text
    return receiver.wait(2)[1].id


def test_a_dead_letter_is_sent_again(visit: Visit, done: Victim) -> None:
    """A real one, of a recording whose length is in the tenant's use."""
    with Receiver(answers(500)) as receiver:
        letter = told(done, "acme", receiver)
        page = operator(visit, done)
        cells = page.locator("#dead tbody tr td")
        shown = [letter, "acme", "task.succeeded", f"127.0.0.1:{receiver.port}", "http_status", "2"]
        expect(cells).to_have_count(8)
        assert cells.all_inner_texts()[:6] == shown
        expect(figure(page, "Dead letters")).to_have_text("1")
        expect(page.locator("#usage tbody tr td")).to_have_text(["acme", "1:05", "none", "1:05", "none"])
        check(page, "dead letters")
        receiver.behaviour = answers(204)
        page.get_by_role("button", name=f"Send {letter} again").click()
        expect(page.locator("#said")).to_have_text("It is sent again.")
        expect(page.locator("#dead")).to_have_text("None.")
        assert [call.id for call in receiver.wait(3)] == [letter] * 3


MARKUP = "<img src=x onerror=document.title=1>"
WATCHED = """
window.made = [];
new MutationObserver((all) => all.forEach((one) => one.addedNodes.forEach((node) => {
  if (node instanceof Element) made.push(...[node, ...node.querySelectorAll("*")].map((each) => each.localName));
}))).observe(document, { childList: true, subtree: true });
"""


def test_markup_in_what_strangers_name_is_text(visit: Visit, done: Victim) -> None:
    """A tenant's own name, by way of a real token to queue, use and letter; host and engine as no real one has them,
    because those are checked elsewhere."""

    def hostile(route: Route) -> None:
        seen = route.fetch().json()
        [engine] = seen["engines"]
        waiting = {"tenants": [{"tenant": MARKUP, "jobs": 1, "seconds": 1.0}]}
        letters = [letter | {"host": MARKUP, "kind": MARKUP, "error": MARKUP} for letter in seen["dead"]]
        changed = {"engines": [engine | {"name": MARKUP, "version": MARKUP}], "queue": seen["queue"] | waiting}
        route.fulfill(json=seen | changed | {"dead": letters, "reasons": [MARKUP]})

    with Receiver(answers(500)) as receiver:
        letter = told(done, MARKUP, receiver)
        page = operator(visit, done, script=WATCHED)
        expect(page.locator("#dead tbody tr td").nth(1)).to_have_text(MARKUP)
        expect(page.locator("#usage tbody tr", has_text=MARKUP)).to_have_count(1)
        page.route("**/v1/admin/overview", hostile)
        expect(page.locator("#dead tbody tr td")).to_contain_text([letter, *[MARKUP] * 4])
        expect(page.locator("#engines tbody tr")).to_contain_text(f"{MARKUP} {MARKUP}")
        expect(page.locator("#queue tbody tr")).to_contain_text(MARKUP)
        expect(page.locator("#state")).to_contain_text(MARKUP)
        page.unroute("**/v1/admin/overview")
    seen = page.evaluate("made")
    assert "td" in seen and "img" not in seen
    expect(page).to_have_title("Operator · CosyGate")
