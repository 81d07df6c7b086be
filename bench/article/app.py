"""The HTTP side of the article's design: chunks in, files out, ffprobe on the last, a Celery task behind it."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import jwt
from flask import Flask, abort, g, jsonify, request
from flask.typing import ResponseReturnValue

from bench.article.tasks import celery, transcribe

ROOT = Path(os.environ["ARTICLE_DATA"])
SECRET = os.environ["ARTICLE_SECRET"]
_SESSION = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 9 * 1024 * 1024


@app.before_request
def authenticate() -> None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer":
        abort(401)
    try:
        g.user = jwt.decode(token, SECRET, algorithms=["HS256"], options={"require": ["exp", "sub"]})["sub"]
    except jwt.InvalidTokenError:
        abort(401)


@app.post("/v1/audio")
def audio() -> ResponseReturnValue:
    session, seq = request.form["session_id"], request.form["seq"]
    if not _SESSION.fullmatch(session) or not (seq.isascii() and seq.isdigit()):
        abort(422)
    folder = ROOT / session
    folder.mkdir(exist_ok=True)
    with open(folder / f"{int(seq):05d}.part", "wb") as out:
        out.write(request.files["chunk"].read())
    if request.form.get("is_last") != "1":
        return jsonify(status="chunk_ok", session_id=session, seq=int(seq))
    recording = merge(folder, int(seq))
    if not is_audio(recording):
        abort(415)
    return jsonify(task_id=transcribe.delay(str(recording)).id), 202


def merge(folder: Path, last: int) -> Path:
    """One file out of parts 0 to `last`; 409 when one is missing."""
    recording = folder / "recording"
    try:
        with open(recording, "wb") as out:
            for seq in range(last + 1):
                with open(folder / f"{seq:05d}.part", "rb") as part:
                    shutil.copyfileobj(part, out, 1024 * 1024)
    except FileNotFoundError:
        abort(409)
    return recording


def is_audio(recording: Path) -> bool:
    """What ffprobe says of the file's first audio stream and duration."""
    command = ["ffprobe", "-v", "error", "-of", "json", "-select_streams", "a:0"]
    command += ["-show_entries", "stream=codec_name:format=duration", str(recording)]
    probe = subprocess.run(command, capture_output=True, timeout=30)
    if probe.returncode != 0:
        return False
    found = json.loads(probe.stdout)
    return bool(found.get("streams")) and float(found["format"].get("duration", 0)) > 0


@app.get("/v1/task/<task_id>")
def task(task_id: str) -> ResponseReturnValue:
    found = celery.AsyncResult(task_id)
    return jsonify(task_id=task_id, state=found.state, result=found.result if found.successful() else None)
