"""Answers on the bare wire: to what never becomes a request, so that no door, no trace and no layer is there for it."""

from __future__ import annotations

_PROBLEM = b"""{"type":"/docs#bad_request","title":"The request cannot be understood","status":400,\
"detail":"The request cannot be understood","code":"bad_request"}"""
MALFORMED = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\nconnection: close\r\ncontent-length: "
    + str(len(_PROBLEM)).encode()
    + b"\r\n\r\n"
    + _PROBLEM
)
