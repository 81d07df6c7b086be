"""What a real Chromium's MediaRecorder says of a (simulated) microphone, piece by piece."""

from __future__ import annotations

import base64
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from playwright.sync_api import sync_playwright

_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
_RECORD = """async ([seconds, pieceMs, video]) => {
    const microphone = await navigator.mediaDevices.getUserMedia({audio: true, video});
    const mimeType = video ? "video/webm;codecs=vp8,opus" : "audio/webm;codecs=opus";
    const recorder = new MediaRecorder(microphone, {mimeType});
    const blobs = [];
    recorder.ondataavailable = (event) => { if (event.data.size) blobs.push(event.data); };
    const stopped = new Promise((resolve) => { recorder.onstop = resolve; });
    recorder.start(pieceMs);
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
    recorder.stop();
    await stopped;
    const pieces = [];
    for (const blob of blobs) {
        const bytes = new Uint8Array(await blob.arrayBuffer());
        pieces.push(btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")));
    }
    return pieces;
}"""


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>recorder</title>")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _origin() -> Iterator[str]:
    """A page on localhost, which may use the microphone as one by https may."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def record(seconds: float, piece_ms: int, *, video: bool = False) -> tuple[bytes, ...]:
    """Blocks; for a thread without an event loop."""
    with _origin() as origin, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_ARGS)
        try:
            page = browser.new_page()
            page.goto(origin)
            said = page.evaluate(_RECORD, [seconds, piece_ms, video])
        finally:
            browser.close()
    return tuple(base64.b64decode(piece) for piece in said)
