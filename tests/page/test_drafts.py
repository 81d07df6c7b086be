"""What was not saved comes back whole: when its version comes late or not at all, when a question outlives the token,
when there is no room for it."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Page, Route, expect

from tests.page.conftest import Visit, read_talk, until
from tests.page.editing import correct, edit, field, kept, rename, save, texts
from tests.support.server import Server

pytestmark = pytest.mark.needs("chromium")

KEYS = "Object.keys(sessionStorage).filter((key) => key.startsWith('cosygate.draft.'))"
DRAFTS = f"{KEYS}.map((key) => sessionStorage.getItem(key)).join()"
BASE = "**/transcript?format=json&version=1"


def problem(route: Route, status: int, code: str) -> None:
    body = {"type": "about:blank", "status": status, "code": code, "title": "Refused", "detail": "Not now."}
    route.fulfill(status=status, content_type="application/problem+json", body=json.dumps(body))


def leave_a_draft(page: Page, server: Server, sub: str) -> None:
    """There are changes of version 1, and somebody else has made version 2."""
    page.on("dialog", lambda dialog: dialog.accept())
    edit(page)
    field(page, 2).fill("An hour of work")
    until(page, f"({DRAFTS}).includes('An hour')")
    correct(server, sub, page, base=1, segments=[{"id": 0, "text": "Theirs"}], speakers={"S1": "Anna"})
    correct(server, sub, page, base=2, segments=[{"id": 1, "text": "Theirs too"}])


def expect_nothing_can_be_changed(page: Page) -> None:
    expect(page.locator(".line")).to_have_count(4)
    expect(page.locator(".chip")).to_have_count(3)
    expect(page.get_by_role("button", name="Edit", exact=True)).to_be_hidden()
    expect(page.locator("button.chip")).to_have_count(0)
    page.get_by_label("Version").select_option("2")
    expect(page.get_by_role("button", name="Restore this version")).to_be_disabled()


def expect_it_back(page: Page, server: Server, sub: str) -> None:
    expect(field(page, 2)).to_have_value("An hour of work")
    expect(field(page, 0)).to_have_value("This is line number 1.")  # of the version that it changes
    expect(page.locator(".reading-head .verdict")).to_have_count(0)
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Put mine on top").click()
    expect(page.get_by_label("Version")).to_have_value("4")
    assert texts(kept(server, sub, page))[:3] == ["Theirs", "Theirs too", "An hour of work"]


def test_nothing_can_be_changed_before_the_draft_is_back(talk: Page, talking_server: Server, sub: str) -> None:
    leave_a_draft(talk, talking_server, sub)
    held: list[Route] = []
    talk.route(BASE, lambda route: held.append(route))
    talk.reload()
    expect_nothing_can_be_changed(talk)
    for route in held:
        route.continue_()
    expect_it_back(talk, talking_server, sub)


def test_a_draft_whose_version_cannot_be_had_is_kept_and_tried_again(
    talk: Page, talking_server: Server, sub: str
) -> None:
    leave_a_draft(talk, talking_server, sub)
    talk.route(BASE, lambda route: problem(route, 503, "unavailable"))
    talk.reload()
    trouble = talk.locator(".reading-head .verdict")
    expect(trouble).to_contain_text("Your unsaved changes are kept, but cannot be shown.")
    expect_nothing_can_be_changed(talk)
    trouble.get_by_role("button", name="Try again").click()
    expect(trouble).to_contain_text("Your unsaved changes are kept")
    assert "An hour" in talk.evaluate(DRAFTS)
    talk.unroute(BASE)
    trouble.get_by_role("button", name="Try again").click()
    expect_it_back(talk, talking_server, sub)


def test_a_draft_that_cannot_be_shown_can_be_dropped(talk: Page, talking_server: Server, sub: str) -> None:
    leave_a_draft(talk, talking_server, sub)
    talk.route(BASE, lambda route: problem(route, 503, "unavailable"))
    talk.reload()
    talk.get_by_role("button", name="Drop them").click()
    question = talk.get_by_role("dialog", name="Drop your changes?")
    question.get_by_role("button", name="Keep it").click()
    assert "An hour" in talk.evaluate(DRAFTS)
    talk.get_by_role("button", name="Drop them").click()
    question.get_by_role("button", name="Drop", exact=True).click()
    expect(talk.locator(".reading-head .verdict")).to_have_count(0)
    assert talk.evaluate(KEYS) == []
    edit(talk)
    expect(field(talk, 0)).to_have_value("Theirs")


def test_an_editor_removes_no_draft_that_is_not_its_own(talk: Page) -> None:
    """Whatever opened it: the page's own parts, with a draft that this editor has never seen."""
    found = talk.evaluate("""async () => {
        const { Editing } = await import("/page/editing.js");
        const { Drafts } = await import("/page/drafts.js");
        const { Voices } = await import("/page/voices.js");
        const drafts = new Drafts();
        drafts.enter("default/parts");
        const base = { version: 1, language: "en", segments: [{ id: 0, start: 0, end: 1, text: "a", speaker: "S1" }] };
        const make = (draft) => new Editing({ taskId: "t", drafts, voices: new Voices(), base, draft });
        const draft = { version: 1, texts: [[0, "older"]], own: [], names: [] };
        drafts.put("t", draft);
        make(null).close();
        const left = drafts.get("t")?.texts;
        await make(null).discard();
        const discarded = drafts.get("t")?.texts;
        const own = make(draft);
        own.undo();
        own.edits.setText(0, "a");
        own.keep();
        const closed = make(null);
        closed.close();
        closed.rename("S1", "Ben");
        closed.add("Carla");
        return [left, discarded, drafts.get("t"), closed.edits.count, closed.extra];
    }""")
    assert found == [[[0, "older"]], [[0, "older"]], None, 0, []]


@pytest.mark.parametrize("question", ["rename", "add", "line", "edit"])
def test_a_question_that_outlives_the_token_changes_nothing(
    talk: Page, talking_server: Server, sub: str, question: str
) -> None:
    edit(talk)
    field(talk, 2).fill("An hour of work")
    until(talk, f"({DRAFTS}).includes('An hour')")
    before = talk.evaluate(DRAFTS)
    if question == "rename":
        talk.locator(".chip", has_text="S2").click()
    elif question == "add":
        talk.get_by_role("button", name="Add a speaker").click()
    elif question == "line":
        talk.get_by_label("Speaker at 0:02").focus()
        talk.get_by_label("Speaker at 0:02").select_option("New speaker…")
    else:
        talk.get_by_role("button", name="Discard").click()
    expect(talk.locator("dialog[open]")).to_have_count(1)
    tasks = "**/v1/tasks*"
    talk.route(tasks, lambda route: problem(route, 401, "token_expired"))
    talk.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # the list is asked for again
    expect(talk.locator("#signin-error")).to_have_text("Your token has expired. Paste a new one.")
    if question == "edit":
        talk.get_by_role("dialog").get_by_role("button", name="Discard").click()
        talk.wait_for_timeout(100)
    expect(talk.locator("dialog[open]")).to_have_count(0)
    talk.wait_for_timeout(600)  # longer than the page waits before it writes a draft
    assert talk.evaluate(DRAFTS) == before
    talk.unroute(tasks)
    talk.get_by_label("Token").fill(talking_server.token(sub))
    talk.keyboard.press("Enter")
    expect(field(talk, 2)).to_have_value("An hour of work")
    rename(talk, "S2", "Ben")
    save(talk, 2)
    assert texts(kept(talking_server, sub, talk))[2] == "An hour of work"


@pytest.mark.parametrize("question", ["rename", "add"])
def test_a_name_that_is_answered_too_late_is_for_nobody(talk: Page, question: str) -> None:
    """The answer is on its way, as an event, when the transcript is left."""
    edit(talk)
    field(talk, 2).fill("An hour of work")
    until(talk, f"({DRAFTS}).includes('An hour')")
    before = talk.evaluate(DRAFTS)
    if question == "rename":
        talk.locator(".chip", has_text="S2").click()
    else:
        talk.get_by_role("button", name="Add a speaker").click()
    talk.get_by_role("dialog").get_by_label("Name").fill("Ben")
    talk.evaluate("location.hash = '#/'; document.querySelector('dialog.ask-name form').requestSubmit()")
    expect(talk.locator("#blank")).to_be_visible()
    talk.wait_for_timeout(600)
    assert talk.evaluate(DRAFTS) == before


def test_nothing_is_saved_by_an_answer_that_comes_too_late(talk: Page, talking_server: Server, sub: str) -> None:
    edit(talk)
    field(talk, 0).fill("Mine")
    correct(talking_server, sub, talk, base=1, segments=[{"id": 0, "text": "Theirs"}])
    talk.get_by_role("button", name="Save", exact=True).click()
    talk.get_by_role("dialog").get_by_role("button", name="Put mine on top").click()
    expect(talk.get_by_role("dialog", name="One thing was changed by both")).to_be_visible()
    address = talk.evaluate("location.hash")
    talk.evaluate("""location.hash = '#/';
        [...document.querySelectorAll('dialog.choose button')].find((one) => one.textContent === 'Keep mine')
            .click()""")
    expect(talk.locator("#blank")).to_be_visible()
    talk.wait_for_timeout(600)
    talk.evaluate(f"location.hash = {address!r}")
    expect(field(talk, 0)).to_have_value("Mine")
    assert texts(kept(talking_server, sub, talk))[0] == "Theirs"


FULL = """const set = Storage.prototype.setItem;
    Storage.prototype.setItem = function (key, value) {
        if (key.includes("draft")) throw new DOMException("full", "QuotaExceededError");
        set.call(this, key, value);
    };"""
TWENTY = """() => {
    const owner = JSON.parse(atob(sessionStorage.getItem("cosygate.token").split(".")[1]
        .replaceAll("-", "+").replaceAll("_", "/")));
    const draft = JSON.stringify({ version: 1, texts: [[0, "another"]], own: [], names: [] });
    for (let n = 0; n < 20; n++) {
        sessionStorage.setItem(`cosygate.draft.${owner.tenant ?? "default"}/${owner.sub}.t${n}`, draft);
    }
}"""


@pytest.mark.parametrize("why", ["full", "twenty"])
def test_an_expired_token_loses_nothing_where_there_is_no_room(
    visit: Visit, talking_server: Server, sub: str, why: str
) -> None:
    page = read_talk(visit(talking_server, sub, script=FULL if why == "full" else ""))
    if why == "twenty":
        page.evaluate(TWENTY)
    edit(page)
    field(page, 0).fill("Typed before the token expired")
    page.route("**/transcript", lambda route: problem(route, 401, "token_expired"))
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#signin-error")).to_have_text("Your token has expired. Paste a new one.")
    page.unroute("**/transcript")
    page.get_by_label("Token").fill(talking_server.token(sub))
    page.keyboard.press("Enter")
    expect(field(page, 0)).to_have_value("Typed before the token expired")
    assert page.evaluate(f"{KEYS}.length") == (20 if why == "twenty" else 0)  # no other went for it

    address = page.evaluate("location.hash")
    page.evaluate("location.hash = '#/'")  # it is asked about as before, and then forgotten
    page.get_by_role("dialog", name="Leave without saving?").get_by_role("button", name="Leave").click()
    expect(page.locator("#blank")).to_be_visible()
    page.evaluate(f"location.hash = {address!r}")
    edit(page)
    expect(field(page, 0)).to_have_value("This is line number 1.")


def test_what_has_no_room_is_nobody_elses(talk: Page) -> None:
    """A draft that is too large leaves no older one behind, is in no storage, and goes with its owner."""
    found = talk.evaluate("""async () => {
        const { Drafts } = await import("/page/drafts.js");
        const drafts = new Drafts();
        drafts.enter("default/parts");
        const make = (text) => ({ version: 1, texts: [[0, text]], own: [], names: [] });
        const stored = () => Object.keys(sessionStorage).filter((key) => key.startsWith("cosygate.draft.")).length;
        const text = (id) => drafts.get(id)?.texts[0][1].slice(0, 5);
        const large = make("large".padEnd(1_000_001, "x"));
        const steps = [drafts.put("t", make("small")), text("t"), stored(), drafts.put("t", large), text("t"), stored(),
            drafts.count];
        steps.push(drafts.put("t", make("again")), text("t"), stored(), drafts.count);
        drafts.put("t", large);
        drafts.remove("t");
        steps.push(text("t"));
        drafts.put("t", large);
        drafts.enter("default/parts");
        steps.push(text("t"));
        drafts.enter("default/another");
        drafts.enter("default/parts");
        steps.push(text("t"));
        for (let n = 0; n < 22; n++) drafts.put(`t${n}`, large);
        steps.push(drafts.count, text("t1"), text("t2"));
        drafts.clear();
        return [...steps, drafts.count, text("t2")];
    }""")
    put = [True, "small", 1, False, "large", 0, 1, True, "again", 1, 1]
    assert found == [*put, None, "large", None, 20, None, "large", 0, None]


def test_of_two_versions_the_one_chosen_last_is_shown(talk: Page) -> None:
    for version, text in ((2, "Once"), (3, "Twice")):
        edit(talk)
        field(talk, 0).fill(text)
        save(talk, version)
    held: list[Route] = []
    talk.route(BASE, lambda route: held.append(route))
    talk.get_by_label("Version").select_option("1")
    talk.get_by_label("Version").select_option("2")
    expect(talk.locator(".line p").first).to_contain_text("Once")
    assert len(held) == 1
    with talk.expect_response(BASE):
        held[0].continue_()
    talk.wait_for_timeout(300)
    expect(talk.locator(".line p").first).to_contain_text("Once")
    expect(talk.get_by_label("Version")).to_have_value("2")
