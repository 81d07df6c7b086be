"""A small finished run for tests of the chaos checker: its journal, and an API that shows it, served for real. All is
well in it, until a test changes something."""

from __future__ import annotations

import copy
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from tests.support import media

ANN, BOB = "acme/ann", "birch/bob"
SOUND = media.wav(bytes(range(256)) * 100)
TEXTS = ["aa", "bb"]
LIVE_PCM = bytes(range(250)) * 128  # 16,000 samples
FINALS = [[0, 8000, "cc"], [8000, 16_000, "dd"]]
HOOK = {
    "id": "msg_t0",
    "by": "r0",
    "task": "t0",
    "state": "succeeded",
    "text": "aa bb",
    "sha256": "5a",
    "tenant": "acme",
}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Town:
    """`lines` are the journal's entries, `tasks` what the API shows by principal and task, `uploads` what it answers
    for a session. Served while it is a context."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.tasks: dict[str, dict[str, dict[str, Any]]] = {ANN: {}, BOB: {}}
        self.uploads: dict[str, dict[str, Any]] = {}
        self.afterwards: dict[str, dict[str, Any]] = {}  # a task's row from the second listing on
        self.lists = 0
        self._kept()
        self._cancelled()
        self._deleted()
        self._aborted()
        self._given_up()
        self._live()

    # --- what happened

    def tell(self, who: str, kind: str, **data: Any) -> None:
        self.lines.append({"at": float(len(self.lines)), "who": who, "kind": kind, **data})

    def ask(self, who: str, **more: Any) -> None:
        asked = {"principal": ANN, "session": f"s-{who}", "fate": "keep", "texts": TEXTS, "sha256": sha256(SOUND)}
        self.tell(who, "asked", **asked, size=len(SOUND), last=1, webhook=False, **more)

    def _kept(self) -> None:
        self.ask("r0")
        self.lines[-1]["webhook"] = True
        self.tell("r0", "chunk", seq=0, sha256="00", status=200, tries=1)
        self.tell("r0", "chunk", seq=1, sha256="01", status=202, tries=2, task="t0")
        self.tell("r0", "result", task="t0", state="running", text=None)
        self.tell("r0", "result", task="t0", state="succeeded", text="aa bb")
        self.tell("r0", "event", task="t0", id=2, event="segment", text="aa", code=None)
        self.tell("r0", "event", task="t0", id=3, event="restarted", text=None, code=None)
        self.tell("r0", "event", task="t0", id=5, event="segment", text="aa", code=None)
        self.tell("r0", "event", task="t0", id=6, event="segment", text="bb", code=None)
        self.tell("r0", "event", task="t0", id=8, event="done", text=None, code=None)
        self.tell("receiver", "webhook", **HOOK, tries=1)
        self.tell("receiver", "webhook", **HOOK, tries=2)
        self.tasks[ANN]["t0"] = self.task("t0", "s-r0")

    def task(self, task: str, session: str, **more: Any) -> dict[str, Any]:
        row = {"task_id": task, "session_id": session, "state": "succeeded", "percent": 100}
        return copy.deepcopy(
            {
                "row": row | {"result": {"text": " ".join(TEXTS), "duration": 1.6}},
                "transcript": {"text": " ".join(TEXTS), "segments": [{"text": text} for text in TEXTS]},
                "audio": SOUND,
                "events": [
                    [5, "segment", {"text": "aa"}], [6, "segment", {"text": "bb"}], [8, "done", {"state": "succeeded"}],
                ],
            }
            | more
        )  # fmt: skip

    def _cancelled(self) -> None:
        self.ask("r1")
        self.tell("r1", "chunk", seq=1, sha256="01", status=202, tries=1, task="t1")
        self.tell("r1", "deleting", task="t1")
        self.tell("r1", "deleted", task="t1", status=200, state="cancelled", tries=1)
        gone = self.task("t1", "s-r1", audio=None, transcript=None, events=[[1, "cancelled", {}]])
        gone["row"] = {"task_id": "t1", "session_id": "s-r1", "state": "cancelled", "percent": 0}
        self.tasks[ANN]["t1"] = gone

    def _deleted(self) -> None:
        self.ask("r2")
        self.tell("r2", "chunk", seq=1, sha256="01", status=202, tries=1, task="t2")
        self.tell("r2", "result", task="t2", state="succeeded", text="aa bb")
        self.tell("r2", "deleting", task="t2")
        self.tell("r2", "deleted", task="t2", status=204, state=None, tries=1)

    def _aborted(self) -> None:
        self.ask("r3")
        self.tell("r3", "chunk", seq=0, sha256="00", status=200, tries=1)
        self.tell("r3", "aborting")
        self.tell("r3", "aborted", status=204, tries=1)

    def _given_up(self) -> None:
        self.ask("r4")
        self.tell("r4", "chunk", seq=0, sha256="00", status=200, tries=1)
        self.tell("r4", "gave_up", what="chunk", tries=20)
        self.uploads["s-r4"] = {"received": [0], "state": "open"}

    def _live(self) -> None:
        self.tell("l0", "live_asked", principal=BOB, finals=FINALS, samples=16_000, rate=16_000,
                  sha256=sha256(LIVE_PCM), webhook=False)  # fmt: skip
        self.tell("l0", "live_ready", session="t9", offset=0)
        self.tell("l0", "live_ack", samples=8000, safe=0)
        self.tell("l0", "live_final", id=0, start_sample=0, end_sample=8000, text="cc")
        self.tell("l0", "live_ack", samples=16_000, safe=8000)
        self.tell("l0", "live_ready", session="t9", offset=12_000)
        self.tell("l0", "live_ack", samples=16_000, safe=8000)
        self.tell("l0", "live_final", id=1, start_sample=8000, end_sample=16_000, text="dd")
        self.tell("l0", "live_done", task_id="t9", finals=2, samples=16_000)
        segments = [{"id": n, "start": a / 16_000, "end": b / 16_000, "text": x} for n, (a, b, x) in enumerate(FINALS)]
        live = self.task("t9", "t9", audio=media.wav(LIVE_PCM), transcript={"text": "cc dd", "segments": segments})
        live["row"]["result"]["text"] = "cc dd"
        self.tasks[BOB]["t9"] = live

    # --- for changes

    def line(self, who: str, kind: str, nth: int = 0, **like: Any) -> dict[str, Any]:
        """The nth entry of that kind, and of these members."""
        return [x for x in self.lines if x["who"] == who and x["kind"] == kind and like.items() <= x.items()][nth]

    def drop(self, line: dict[str, Any]) -> None:
        self.lines.remove(line)

    def journal(self, path: Path) -> Path:
        path.write_text("".join(json.dumps(line) + "\n" for line in self.lines))
        return path

    # --- as an API

    def __enter__(self) -> Self:
        town = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body, kind = town.answer(self.headers["authorization"].removeprefix("Bearer "), self.path)
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: TracebackType | object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def tokens(self) -> dict[str, str]:
        return {ANN: ANN, BOB: BOB}

    def answer(self, principal: str, path: str) -> tuple[int, bytes, str]:
        where = urlsplit(path)
        mine = self.tasks[principal]
        if where.path == "/v1/tasks":
            return self._page(mine, parse_qs(where.query))
        if where.path.startswith("/v1/audio/"):
            upload = self.uploads.get(where.path.rpartition("/")[2])
            return _json(404 if upload is None else 200, upload or {"code": "upload_not_found"})
        task, _, part = where.path.removeprefix("/v1/task/").partition("/")
        if task not in mine:
            return _json(404, {"code": "task_not_found"})
        shown = mine[task].get(part or "row")
        if shown is None:
            return _json(410 if part == "audio" else 409, {"code": "gone"})
        if part == "audio":
            return 200, shown, "audio/wav"
        if part == "events":
            told = "".join(f"id: {n}\nevent: {kind}\ndata: {json.dumps(data)}\n\n" for n, kind, data in shown)
            return 200, b"retry: 1000\n\n: still here\n\n" + told.encode(), "text/event-stream"
        return _json(200, shown)

    def _page(self, mine: dict[str, Any], query: dict[str, list[str]]) -> tuple[int, bytes, str]:
        """Two tasks a page, whatever was asked for."""
        if "cursor" not in query:
            self.lists += 1
        rows = [task["row"] for _, task in sorted(mine.items(), reverse=True)]
        if self.lists > len(self.tasks):
            rows = [self.afterwards.get(row["task_id"], row) for row in rows]
        begin = int(query.get("cursor", ["0"])[0])
        page = {"tasks": rows[begin : begin + 2], "next_cursor": str(begin + 2) if begin + 2 < len(rows) else None}
        return _json(200, page)


def _json(status: int, data: Any) -> tuple[int, bytes, str]:
    return status, json.dumps(data).encode(), "application/json"
