"""Draws docs/images/trace.svg: one real trace of a recording, as a receiver of OTLP got it from a real server.

.venv/bin/python scripts/draw_trace.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support import receiver as hooks  # noqa: E402
from tests.support.otlp_receiver import Receiver, Span  # noqa: E402
from tests.support.server import Server, wait_task  # noqa: E402

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
CHUNK = 64 * 1024
WIDTH, ROW, LEFT, RIGHT, TOP = 900, 34, 330, 90, 64
COLOURS = {"cosygate-gateway": "#2563a8", "cosygate-engine": "#b4551d"}


def recorded() -> list[Span]:
    """The spans of samples/note.wav, sent in chunks by a client that has a trace of its own and wants a webhook."""
    data = (ROOT / "samples" / "note.wav").read_bytes()
    chunks = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]
    settings = {"recogniser": "moonshine", "webhook_scheme": "any", "webhook_allow": "127.0.0.0/8"}
    with (
        Receiver() as receiver,
        hooks.Receiver() as hook,
        tempfile.TemporaryDirectory(prefix="cosygate-trace-") as folder,
    ):
        with Server(Path(folder), otlp_endpoint=receiver.url, **settings) as server, server.http() as http:
            command = [sys.executable, "-m", "cosygate", "webhooks", "secret", "create"]
            subprocess.run(command, env=server.env, check=True, stdout=subprocess.DEVNULL)
            http.get("/v1/models")  # so that the engine has loaded its model
            for seq, chunk in enumerate(chunks):
                last = {"is_last": "1", "callback_url": f"{hook.url}/"} if chunk is chunks[-1] else {}
                headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
                answer = http.put(f"/v1/audio/note/{seq}", content=chunk, params=last, headers=headers)
                answer.raise_for_status()
            wait_task(http, answer.json()["task_id"])
            hook.wait()
            server.stop()
        return receiver.of(TRACE)


def ordered(spans: list[Span], parent: str, depth: int = 0) -> list[tuple[int, Span]]:
    """Depth first, by time."""
    found: list[tuple[int, Span]] = []
    for span in spans:
        if span.parent_id == parent:
            found += [(depth, span), *ordered(spans, span.span_id, depth + 1)]
    return found


def svg(rows: list[tuple[int, Span]]) -> str:
    first = min(span.began_ns for _, span in rows)
    whole = max(span.ended_ns for _, span in rows) - first
    height = TOP + ROW * len(rows) + 16
    scale = (WIDTH - LEFT - RIGHT) / whole
    told = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"',
        '     font-family="sans-serif" font-size="13">',
        "<title>A trace of one recording</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="22" fill="#333333">trace {TRACE}, {whole / 1e6:.0f} ms</text>',
    ]
    for number, (service, colour) in enumerate(COLOURS.items()):
        x = 12 + 170 * number
        told.append(f'<rect x="{x}" y="34" width="12" height="12" fill="{colour}"/>')
        told.append(f'<text x="{x + 18}" y="45" fill="#333333">{service}</text>')
    for number, (depth, span) in enumerate(rows):
        y = TOP + ROW * number
        x, width = LEFT + (span.began_ns - first) * scale, max(2.0, (span.ended_ns - span.began_ns) * scale)
        took = f"{(span.ended_ns - span.began_ns) / 1e6:.1f} ms"
        name = span.name.replace("cosygate.engine.v1.", "")
        if number % 2 == 0:
            told.append(f'<rect x="0" y="{y}" width="{WIDTH}" height="{ROW}" fill="#f4f5f7"/>')
        told.append(f'<text x="{12 + 18 * depth}" y="{y + 21}" fill="#111111">{escape(name)}</text>')
        told.append(
            f'<rect x="{x:.1f}" y="{y + 9}" width="{width:.1f}" height="16" rx="2" fill="{COLOURS[span.service]}"/>'
        )
        told.append(f'<text x="{x + width + 6:.1f}" y="{y + 21}" fill="#333333">{took}</text>')
    return "\n".join([*told, "</svg>\n"])


def main() -> None:
    place = ROOT / "docs" / "images" / "trace.svg"
    place.write_text(svg(ordered(recorded(), CALLER)))
    print(f"wrote {place.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
