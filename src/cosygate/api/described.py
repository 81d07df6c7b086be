"""The OpenAPI description of the two chunk routes. They read their requests by themselves (streaming, and on the hot
path), so what FastAPI would derive from a signature is written here; test_openapi holds it to the truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from cosygate.model.options import Channels, Priority, Wish

_EXAMPLE_SESSION = "call-2026-11-22-0042"
_OPTIONS: dict[str, dict[str, Any]] = {
    "language": {"type": "string", "description": "BCP 47 tag, or `auto` (default).", "examples": ["en", "auto"]},
    "model": {"type": "string", "description": "A name from `GET /v1/models`; default: the engine's first."},
    "channels": {"type": "string", "enum": list(Channels), "description": "`split`: each channel alone."},
    "priority": {"type": "string", "enum": list(Priority), "description": "`low` waits for all others."},
    "words": {"type": "string", "enum": list(Wish), "description": "Times of words; `auto`: if the model has any."},
    "diarize": {"type": "string", "enum": list(Wish), "description": "Who spoke when, as `S1`, `S2`, …"},
    "num_speakers": {"type": "integer", "minimum": 1, "maximum": 30, "description": "How many there are."},
    "max_speakers": {"type": "integer", "minimum": 1, "maximum": 30, "description": "There are no more."},
    "emotion": {"type": "string", "enum": list(Wish), "description": "Of each segment; default `auto`."},
    "itn": {"type": "string", "enum": list(Wish), "description": "Numbers as digits; default `auto`."},
    "hotwords": {
        "type": "string",
        "description": "Words or phrases to listen for, between commas.",
        "examples": ["CosyGate, Dashwood"],
    },
    "audio_format": {
        "type": "string",
        "description": "For headerless PCM: `s16le;rate=R;channels=C`.",
        "examples": ["s16le;rate=16000;channels=1"],
    },
    "filename": {"type": "string", "description": "Shown in the result.", "examples": ["call.wav"]},
    "callback_url": {
        "type": "string",
        "description": "Who is told when the task has ended (docs/webhooks.md).",
        "examples": ["https://receiver.example/hooks"],
    },
}
_IS_LAST = {"type": "string", "enum": ["0", "1"], "description": "1: this seq is the highest; options go with it."}
_SEQ = {"type": "integer", "minimum": 0, "examples": [0]}
_SESSION = {"type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$", "examples": [_EXAMPLE_SESSION]}


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Error answers of a route, all in one shape."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": "Problem (RFC 9457)", "content": {"application/problem+json": {"schema": schema}}}
        for status in statuses
    }


def chunk_routes(routes: APIRouter, post: Callable[..., Any], put: Callable[..., Any], ok: type[BaseModel],
                 accepted: type[BaseModel]) -> None:  # fmt: skip
    responses: dict[int | str, dict[str, Any]] = {
        200: {"model": ok, "description": "Stored; more chunks are missing."},
        202: {"model": accepted, "description": "Stored, the recording is complete: its task."},
        **problem_responses(400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 503, 507),
    }
    routes.post(
        "/v1/audio",
        summary="Send a chunk as a form",
        description="The article's call. Fields may come in any order, chunks too, and in parallel.",
        responses=responses,
        openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _form()}}}},
    )(post)
    routes.put(
        "/v1/audio/{session_id}/{seq}",
        summary="Send a chunk as a raw body",
        description="The fast way: the body is the chunk. `Content-Digest` is checked when sent.",
        responses=responses,
        openapi_extra={
            "parameters": [
                {"name": "session_id", "in": "path", "required": True, "schema": _SESSION},
                {"name": "seq", "in": "path", "required": True, "schema": _SEQ},
                {"name": "is_last", "in": "query", "required": False, "schema": _IS_LAST},
                *({"name": n, "in": "query", "required": False, "schema": s} for n, s in _OPTIONS.items()),
                {
                    "name": "Content-Digest",
                    "in": "header",
                    "required": False,
                    "schema": {"type": "string"},
                    "description": "RFC 9530: `sha-256=:base64:` or `sha-512=:base64:`.",
                },
            ],
            "requestBody": {
                "required": True,
                "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
            },
        },
    )(put)


def _form() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["chunk", "session_id", "seq"],
        "properties": {
            "chunk": {"type": "string", "format": "binary"},
            "session_id": _SESSION,
            "seq": _SEQ,
            "is_last": _IS_LAST,
            **_OPTIONS,
        },
    }
