"""What tests of editing share: doing it on the page, what the server has of it, somebody else who does the same."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.page.conftest import ask, task_id
from tests.support.server import Server


def field(page: Page, line: int) -> Locator:
    return page.locator(".editing textarea").nth(line)


def edit(page: Page) -> None:
    page.get_by_role("button", name="Edit", exact=True).click()
    expect(page.locator(".editing")).to_be_visible()


def save(page: Page, version: int) -> None:
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#said")).to_have_text(f"Saved as version {version}.")
    expect(page.locator(".editing")).to_have_count(0)
    expect(page.get_by_label("Version")).to_have_value(str(version))


def rename(page: Page, name: str, new: str) -> None:
    page.locator(".chip", has_text=name).click()
    dialog = page.get_by_role("dialog", name=f"Who is {name}?")
    dialog.get_by_label("Name").fill(new)
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)


def kept(server: Server, sub: str, page: Page, version: int | None = None) -> dict[str, Any]:
    """The server's transcript, the newest unless a version is named."""
    query = f"?version={version}" if version else ""
    answer = ask(server, sub, f"/v1/task/{task_id(page)}/transcript{query}")
    assert answer.status_code == 200
    return answer.json()


def correct(server: Server, sub: str, page: Page, **body: Any) -> None:
    """Somebody else, who has the same rights, saves by the API."""
    with server.http(sub) as http:
        answer = http.patch(f"/v1/task/{task_id(page)}/transcript", json=body)
    assert answer.status_code == 200, answer.text


def texts(transcript: dict[str, Any]) -> list[str]:
    return [segment["text"] for segment in transcript["segments"]]


def speakers(transcript: dict[str, Any]) -> list[str]:
    return [segment["speaker"] for segment in transcript["segments"]]
