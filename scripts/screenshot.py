"""Takes docs/images/page.png: the page with a real transcript of samples/, recognised by the real engine.

    .venv/bin/python scripts/screenshot.py [--scheme dark] [--width 390] [OUT.png]

Needs Chromium (Debian's package is enough). Nothing is drawn by hand: what the picture shows is what the page does.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ("note.wav", "dialogue.wav")  # the last one is shown
LARGEST = 200_000  # bytes: a README is read on phones too
# The page asks for the system's own font. A bare Debian has none to be proud of; Liberation Sans is close to what
# people have on their machines, so the picture looks like what they will see.
FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>
<include ignore_missing="yes">/etc/fonts/fonts.conf</include>
<match target="pattern"><test name="family" compare="not_contains"><string>Mono</string></test>
<edit name="family" mode="prepend" binding="strong"><string>Liberation Sans</string></edit></match></fontconfig>"""


@contextmanager
def gateway(folder: Path) -> Iterator[tuple[str, str]]:
    """A gateway on a free port with an empty data folder: its address, and a token."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("COSYGATE_")} | {"COSYGATE_DATA_DIR": str(folder)}
    cosygate = [sys.executable, "-m", "cosygate"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*cosygate, "serve", "--port", "0"], env=env, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[1]
            token = subprocess.run([*cosygate, "token", "--sub", "anna"], env=env, check=True, capture_output=True)
            yield address, token.stdout.decode().strip()
        finally:
            process.terminate()
            process.wait(30)


def take(address: str, token: str, out: Path, *, width: int, height: int, scheme: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
            locale="en-GB",
            reduced_motion="reduce",
        )
        page = context.new_page()
        expect.set_options(timeout=60_000)
        page.goto(f"{address}/#token={token}")
        page.locator("#options summary").click()
        page.locator("#speakers").select_option("auto")
        page.locator("#options summary").click()
        for sample in SAMPLES:
            page.set_input_files("#files", ROOT / "samples" / sample)
            row = page.locator(".row", has_text=sample)
            expect(row).to_have_attribute("data-state", "succeeded")
            row.evaluate("row => row.click()")
            expect(page.locator(".downloads")).to_be_visible()
        line = page.locator(".line p").nth(2)
        line.click()
        page.wait_for_timeout(1500)
        page.get_by_role("button", name="Pause", exact=True).click()
        page.mouse.move(0, 0)
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        page.wait_for_timeout(200)
        page.screenshot(path=out)
        browser.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("out", nargs="?", type=Path, default=ROOT / "docs" / "images" / "page.png")
    parser.add_argument("--scheme", choices=["light", "dark"], default="light")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=800)
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        fonts = Path(folder) / "fonts.conf"
        fonts.write_text(FONTS)
        os.environ["FONTCONFIG_FILE"] = str(fonts)
        with gateway(Path(folder)) as (address, token):
            take(address, token, given.out, width=given.width, height=given.height, scheme=given.scheme)
    size = given.out.stat().st_size
    print(f"{given.out}: {size} bytes")
    return 0 if size <= LARGEST else 1


if __name__ == "__main__":
    raise SystemExit(main())
