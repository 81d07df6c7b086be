"""reliability.md, "Bad inputs", Uploads: each a clear error with its status and stable code, and nothing lost."""

from __future__ import annotations

import io
import json
import socket
import time
import uuid
import zipfile
from collections.abc import Callable

import httpx2
import pytest

from tests.api.conftest import code_of, wav
from tests.support.server import Server

Send = Callable[..., httpx2.Response]
WAV = wav(0.5)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("..%2e/0", (422, "session_id_invalid")),
        ("%2e%2e/0", (422, "session_id_invalid")),
        (".hidden/0", (422, "session_id_invalid")),
        ("a%00b/0", (422, "session_id_invalid")),
        ("a%0Ab/0", (422, "session_id_invalid")),
        ("a%20b/0", (422, "session_id_invalid")),
        ("%E4%BD%A0/0", (422, "session_id_invalid")),
        (f"{'x' * 300}/0", (422, "session_id_invalid")),
        ("ok/-1", (422, "seq_invalid")),
        ("ok/1.5", (422, "seq_invalid")),
        ("ok/abc", (422, "seq_invalid")),
        ("ok/%C2%B2", (422, "seq_invalid")),  # a digit to str.isdigit, not to us
        (f"ok/{'9' * 40}", (422, "seq_invalid")),
        ("ok/20000", (413, "too_many_parts")),
        ("..%2f..%2fetc/0", (404, "not_found")),  # a slash is a slash: no such route
    ],
)
def test_ids_and_seqs(server: Server, alice: httpx2.Client, path: str, expected: tuple[int, str]) -> None:
    # As a raw request: a client library would normalise the path first.
    request = alice.build_request("PUT", "/v1/audio/x/0", content=b"abc")
    request.url = request.url.copy_with(raw_path=f"/v1/audio/{path}".encode())
    assert code_of(alice.send(request)) == expected
    assert not any(p.name in ("etc", "..") for p in server.data_dir.rglob("*"))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"is_last": "2"}, (422, "option_invalid")),
        ({"is_last": "true"}, (422, "option_invalid")),
        ({"language": "en"}, (422, "option_invalid")),  # options go with is_last=1
        ({"is_last": "1", "language": "not a tag"}, (422, "option_invalid")),
        ({"is_last": "1", "channels": "both"}, (422, "option_invalid")),
        ({"is_last": "1", "audio_format": "mp3"}, (422, "option_invalid")),
        ({"is_last": "1", "audio_format": "s16le;rate=0;channels=1"}, (422, "option_invalid")),
        ({"is_last": "1", "model": "../../etc"}, (422, "option_invalid")),
        ({"is_last": "1", "model": "no-such-model"}, (422, "option_unsupported")),
        ({"is_last": "1", "diarize": "true"}, (422, "option_unsupported")),
        ({"is_last": "1", "emotion": "true"}, (422, "option_unsupported")),
        ({"is_last": "1", "words": "true"}, (422, "option_unsupported")),
        ({"is_last": "1", "callback_url": "http://127.0.0.1/"}, (422, "option_invalid")),
        ({"is_last": "1", "surprise": "1"}, (422, "option_unsupported")),
    ],
)
def test_options(
    send: Send, alice: httpx2.Client, session_id: str, query: dict[str, str], expected: tuple[int, str]
) -> None:
    answer = send(session_id, 0, WAV, **query)
    assert code_of(answer) == expected
    if "option" in answer.json():
        assert answer.json()["option"] in query
    assert send(session_id, 0, WAV, is_last="1").status_code == 202  # nothing of the refused chunk stands in the way


def test_options_that_ask_for_nothing_are_fine(send: Send, session_id: str) -> None:
    assert send(session_id, 0, WAV, is_last="1", diarize="false", emotion="auto", words="0").status_code == 202


def test_a_gap_keeps_the_upload_open(send: Send, session_id: str) -> None:
    answer = send(session_id, 300, WAV, is_last="1")
    assert answer.status_code == 200
    assert answer.json()["missing"] == list(range(100))
    assert answer.json()["missing_count"] == 300


def test_four_and_five_digits_of_seq(send: Send, alice: httpx2.Client, session_id: str) -> None:
    assert send(session_id, 10_000, b"b").status_code == 200
    assert send(session_id, 9_999, b"a").status_code == 200
    assert alice.get(f"/v1/audio/{session_id}").json()["received"] == [9_999, 10_000]


def test_a_last_below_what_is_there(send: Send, session_id: str) -> None:
    send(session_id, 5, b"x")
    assert code_of(send(session_id, 3, b"y", is_last="1")) == (409, "last_conflict")
    assert send(session_id, 3, b"z").status_code == 200  # the refused chunk left nothing


def test_an_empty_recording(send: Send, session_id: str) -> None:
    assert code_of(send(session_id, 0, b"", is_last="1")) == (422, "recording_empty")


def test_a_million_one_byte_chunks_end_at_the_limit(send: Send, session_id: str) -> None:
    answer = send(session_id, 1_000_000, b"x")
    assert code_of(answer) == (413, "too_many_parts")
    assert answer.json()["limit"] == 20_000


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("sha-256=:AAAA:", (400, "digest_invalid")),
        ("sha-256=:!!!!:", (400, "digest_invalid")),
        ("md5=:1B2M2Y8AsgTpgAmY7PhCfg==:", (400, "digest_invalid")),
        ("nonsense", (400, "digest_invalid")),
        ("sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:", (422, "digest_mismatch")),
    ],
)
def test_digests(send: Send, session_id: str, header: str, expected: tuple[int, str]) -> None:
    assert code_of(send(session_id, 0, WAV, {"Content-Digest": header})) == expected


def test_a_chunk_beyond_the_limit_by_its_declared_length(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as wire:
        head = f"PUT /v1/audio/big/0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token()}\r\n"
        wire.sendall(f"{head}Content-Length: 9000000\r\n\r\n".encode())  # and no body: the answer does not need it
        assert wire.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_chunk_beyond_the_limit_without_a_length(alice: httpx2.Client, session_id: str) -> None:
    def endless() -> object:
        for _ in range(9):
            yield bytes(1024 * 1024)

    answer = alice.put(f"/v1/audio/{session_id}/0", content=endless())
    assert code_of(answer) == (413, "chunk_too_large")
    assert code_of(alice.get(f"/v1/audio/{session_id}")) == (404, "upload_not_found")


def test_both_content_length_and_transfer_encoding(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as wire:
        head = f"PUT /v1/audio/smuggle/0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token()}\r\n"
        body = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n"
        wire.sendall((head + body).encode())
        wire.settimeout(5)
        answer = b""
        while piece := wire.recv(4096):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1  # the smuggled request got none


def _zip() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("a.wav", WAV)
    return target.getvalue()


@pytest.mark.parametrize(
    "body",
    [
        b"Just some text, no audio at all.\n" * 40,
        _zip(),
        bytes((n * 89 + 7) % 256 for n in range(5000)),
        b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"RIFF\x00\x00\x00\x00AVI LIST",
    ],
    ids=["text", "zip", "random", "hls", "ffconcat", "dash", "png", "avi"],
)
def test_what_is_not_audio(send: Send, alice: httpx2.Client, session_id: str, body: bytes) -> None:
    assert code_of(send(session_id, 0, body, is_last="1")) == (415, "media_unsupported")
    assert code_of(send(session_id, 0, body, is_last="1")) == (415, "media_unsupported")  # the same for the retry
    assert alice.get(f"/v1/audio/{session_id}").json()["bytes"] == len(body)  # nothing lost
    assert alice.delete(f"/v1/audio/{session_id}").status_code == 204


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", b"hello"),
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"no boundary here at all"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data; name=\"seq\"\r\n\r\n0\r\n"),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="seq"\r\n\r\n0\r\n--b--\r\n'),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Disposition: form-data; name=\"seq\"\r\n\r\n" + b"0" * 5000 + b"\r\n--b--\r\n",
        ),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Disposition: form-data; name=\"other\"; filename=\"f\"\r\n\r\nx\r\n--b--\r\n",
        ),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"X-Long: " + b"y" * 10_000 + b"\r\n\r\nx\r\n--b--\r\n"),
    ],
    ids=["not-a-form", "no-boundary", "garbage", "cut-off", "no-chunk", "long-field", "other-file", "long-header"],
)  # fmt: skip
def test_malformed_forms(alice: httpx2.Client, content_type: str, body: bytes) -> None:
    answer = alice.post("/v1/audio", content=body, headers={"Content-Type": content_type})
    assert code_of(answer) == (400, "body_malformed")


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=b", "application/json"])
def test_who_leaves_in_the_middle_of_a_body_is_told_from_a_crash(server: Server, kind: str) -> None:
    """Through the framework as on the short way (PUT): 499, with the client's trace id to find it by."""
    target = "/v1/audio" if kind.startswith("multipart") else "/v1/admin/drain"
    trace_id = uuid.uuid4().hex
    token = server.token(scopes=["audio:write", "admin"])
    head = f"POST {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 4000\r\n"
    head += f"Content-Type: {kind}\r\nTraceparent: 00-{trace_id}-00f067aa0ba902b7-01\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as wire:
        wire.sendall(head.encode() + b'--b\r\nContent-Disposition: form-data; name="chunk"; filename="c"\r\n\r\nx')
        time.sleep(0.2)  # it is being read
    for _ in range(100):
        lines = [json.loads(line) for line in server.log().splitlines() if trace_id in line]
        if lines:
            break
        time.sleep(0.05)
    assert [(line["action"], line["route"], line["status"]) for line in lines] == [("http.request", target, 499)]


def test_a_form_without_session_or_seq(alice: httpx2.Client) -> None:
    assert code_of(alice.post("/v1/audio", data={"seq": "0"}, files={"chunk": b"x"})) == (422, "session_id_invalid")
    answer = alice.post("/v1/audio", data={"session_id": "form"}, files={"chunk": b"x"})
    assert code_of(answer) == (422, "seq_invalid")


def test_too_many_open_uploads(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Server(tmp_path_factory.mktemp("few"), recogniser="scripted", open_uploads=3) as server, server.http() as http:
        for n in range(3):
            assert http.put(f"/v1/audio/u{n}/0", content=b"x").status_code == 200
        refused = http.put("/v1/audio/u3/0", content=b"x")
        assert code_of(refused) == (429, "too_many_uploads")
        assert int(refused.headers["retry-after"]) >= 1
        with server.http("bob") as other:
            assert other.put("/v1/audio/u0/0", content=b"x").status_code == 200
        http.delete("/v1/audio/u0")
        assert http.put("/v1/audio/u3/0", content=b"x").status_code == 200


def test_a_recording_beyond_the_limit(tmp_path_factory: pytest.TempPathFactory) -> None:
    data = tmp_path_factory.mktemp("small")
    with Server(data, recogniser="scripted", recording_max_bytes=100_000) as server, server.http() as http:
        for seq in range(2):
            assert http.put(f"/v1/audio/u/{seq}", content=bytes(50_000)).status_code == 200
        assert code_of(http.put("/v1/audio/u/2", content=b"x")) == (413, "recording_too_large")
        assert code_of(http.put("/v1/audio/v/0", content=bytes(100_001))) == (413, "recording_too_large")
        assert http.get("/v1/audio/u").json()["bytes"] == 100_000  # what is refused is not stored
