"""Writes docs/settings.md, docs/errors.md and docs/metrics.md from the code, so that they cannot drift.

`python scripts/write_reference.py` writes them; tests/docs/test_reference.py fails while they are not what this writes.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.metrics import MetricWrapperBase
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from cosygate import errors
from cosygate.api import problems
from cosygate.kit import metrics
from cosygate.settings import Settings
from cosygate.settings.cluster import ClusterSettings

DOCS = Path(__file__).resolve().parent.parent / "docs"
_NOTE = "<!-- Written by scripts/write_reference.py: change the code, then run it. -->\n"


def table(*rows: tuple[str, ...]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body]) + "\n"


# --- settings ----------------------------------------------------------------------------------------------------

_SETTINGS = """# Settings

Every setting is an environment variable. Those with an option in [cli.md](cli.md) may be given there, too; the option
wins. An empty variable counts as not set. A wrong value ends the command with status 2 and a line that names the
variable, never its value. `serve` hands the settings on to the processes that it starts, and nothing reads them later:
change one and restart.
"""


def settings_page() -> str:
    parts = [_SETTINGS]
    for title, names in _sections():
        rows = [(f"`COSYGATE_{n.upper()}`", *_setting(n, Settings.model_fields[n])) for n in names]
        parts.append(f"## {title}\n\n{table(('variable', 'default', 'may be', 'meaning'), *rows)}")
    return _page(parts)


def _sections() -> Iterator[tuple[str, list[str]]]:
    """The comments between the fields are the headings."""
    title, names = "", list[str]()
    for line in (inspect.getsource(Settings) + inspect.getsource(ClusterSettings)).splitlines():
        if heading := re.fullmatch(r"    # ([a-z ]+)(?: \(.*\))?", line):
            if names:
                yield title, names
            title, names = heading[1].capitalize(), []
        elif (field := re.match(r"    (\w+): ", line)) and field[1] in Settings.model_fields:
            names.append(field[1])
    yield title, names


def _setting(name: str, field: FieldInfo) -> tuple[str, str, str]:
    default = field.default
    if default is PydanticUndefined:  # made by a factory, which looks at the environment
        shown = "`$XDG_DATA_HOME/cosygate`, else `~/.local/share/cosygate`"
    elif default is None or default == "":
        shown = "none"
    else:
        shown = _value(name, default)
    return shown, _domain(name, field), str(field.description)


def _value(name: str, value: Any) -> str:
    if name.endswith("_bytes"):
        for unit, size in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
            if value and value % size == 0:
                return f"`{value}` ({value // size} {unit})"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _domain(name: str, field: FieldInfo) -> str:
    kinds = typing.get_args(field.annotation)
    if typing.get_origin(field.annotation) is typing.Literal:
        return ", ".join(f"`{kind}`" for kind in kinds)
    kind = next((k for k in kinds if k is not types.NoneType), field.annotation)
    bounds = {sign: getattr(m, key) for m in field.metadata for key, sign in _SIGNS.items() if hasattr(m, key)}
    what = {int: "integer", float: "number", str: "text", Path: "path"}[kind]
    return " ".join([what, *(f"{sign} {_value(name, bound)}" for sign, bound in bounds.items())])


_SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}

# --- errors ------------------------------------------------------------------------------------------------------

_ERRORS = """# Errors

Every error is an `application/problem+json` (RFC 9457) with `type`, `title`, `status`, `detail`, `code` and `trace_id`.
Some have more members: `retry_after` (seconds, as the header `Retry-After`) wherever trying again may help, and
`option`, `seq`, `last_seq`, `limit`, `scope` or `state`, which say what was wrong; `policy`, `window_s`, `quota` and
`used` are in [limits.md](limits.md). `code` is stable: branch on it, not
on the text. `trace_id` is also in the response's `X-Trace-Id` and in every log line of the request.

```json
{"type": "/docs#task_not_found", "title": "There is no such task", "status": 404,
 "detail": "There is no such task", "code": "task_not_found", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"}
```

*Again* says whether the same request may succeed later. The close code is that of a live connection
([live.md](live.md)), which tells the error in a last message. What is only known there has the status that HTTP would
give it.
A task that ends as `failed` carries a `code` of the second table in its `error`, without a status.
"""

_FAMILY = "Heads its family: nothing answers with it alone."
_LOGGED = "Not an answer: why a task was queued again, in the log (`task.requeued`)."
_LOGGED_TOO = "Also why a task was queued again, in the log."
# What somebody who got it should do.
ADVICE = {
    "internal": "Report it with the `trace_id`; the log has the stack under it.",
    "invalid_request": "Correct what `detail` names.",
    "body_malformed": "Send `multipart/form-data` with a boundary and one file field named `chunk`.",
    "session_id_invalid": "Use 1-128 of `A-Z a-z 0-9 . _ -`, not starting with a dot.",
    "seq_invalid": "Use a decimal number from 0, at most nine digits.",
    "option_invalid": "Correct the option that `option` names, or send it with the chunk that has `is_last=1`.",
    "option_unsupported": "Leave out the option that `option` names; `GET /v1/models` says what engines can.",
    "digest_invalid": "Send `Content-Digest: sha-256=:base64:` or `sha-512=:base64:`, or none.",
    "digest_mismatch": "Send the chunk again: its bytes changed on the way, or the digest is of something else.",
    "recording_empty": "Send at least one byte; abort the upload to use the `session_id` again.",
    "range_not_satisfiable": "Ask for a range within the bytes that `detail` names.",
    "live_protocol": "Correct the client by [live.md](live.md): `detail` says what was wrong.",
    "live_frame_invalid": "Send eight bytes of index and whole samples; see [live.md](live.md).",
    "gap": "Resume, and send from `offset` on; `expected` is the sample that should have come.",
    "origin_forbidden": "Open the page from the server itself; the operator adds others by `COSYGATE_LIVE_ORIGINS`.",
    "session_not_found": "Start anew: it never was, is erased, is someone else's, or the `resume_token` is another's.",
    "taken_over": "Nothing: a newer connection continues the session.",
    "live_too_long": "Start another session; this one's sound and transcript are kept as its task.",
    "too_many_sessions": "End sessions that are open; one without a client ends after `COSYGATE_LIVE_WINDOW_S`.",
    "live_idle": "Resume; send a `ping` at least every ten seconds.",
    "reader_too_slow": "Resume, and read what comes.",
    "sessions_full": "Try again later; the operator raises `COSYGATE_LIVE_SESSIONS`.",
    "token_missing": "Send `Authorization: Bearer TOKEN`.",
    "token_invalid": "Get a new token: signature, claims or shape are wrong.",
    "token_expired": "Get a new token.",
    "scope_missing": "Get a token with the scope that `scope` names.",
    "not_found": "Correct the path.",
    "task_not_found": "Nothing: it never was, was deleted or retired, or is someone else's.",
    "upload_not_found": "Begin it again: it never was, was aborted or expired, or is someone else's.",
    "version_not_found": "See `GET /v1/task/{task_id}/transcript/versions`.",
    "version_conflict": "Read the newest (`version` names it), and send the corrections with it as `base`.",
    "too_many_versions": "Nothing more can be corrected here; 500 versions, and 4 MiB of corrections, are kept.",
    "audio_gone": "Nothing: the recording was erased.",
    "conflict": _FAMILY,
    "part_conflict": "Do not mix two recordings under one `session_id`; abort it or use another.",
    "last_conflict": "Agree on which chunk is last; abort the upload and begin again.",
    "upload_closed": "To give the recording up, delete its task; to send another, use another `session_id`.",
    "task_unfinished": "Wait until the task has succeeded; a failed or cancelled one never gets a transcript.",
    "too_large": _FAMILY,
    "chunk_too_large": "Use chunks of at most `limit` bytes.",
    "recording_too_large": "Split the recording; abort this upload.",
    "too_many_parts": "Use larger chunks: `seq` stays below `limit`.",
    "media_unsupported": "Send audio in a format of [decoder.md](decoder.md), or name raw PCM by `audio_format`.",
    "sandbox_missing": "Send WAV or PCM; the operator runs `cosygate doctor`.",
    "token_revoked": "Get a new token or key.",
    "keys_unavailable": "Try again: the token's issuer could not be asked for its keys. The operator looks at it.",
    "webhook_secret_missing": "The operator runs `cosygate webhooks secret create`; or leave `callback_url` out.",
    "delivery_not_found": "Nothing: it never was, its task was deleted, or it is someone else's.",
    "delivery_pending": "Wait: it is still being tried.",
    "rate_limited": "Wait for `retry_after` seconds; the `RateLimit` fields say how much is left.",
    "quota_exceeded": "Wait for the next day or month, or (`live`) for a session to end; `GET /v1/usage` tells. The "
    "operator raises the quota.",
    "limits_unavailable": "Try again; the operator mends the counters' store.",
    "queue_full": "Try again after `retry_after` seconds; recordings begun before are still taken.",
    "tenant_queue_full": "Wait for this tenant's own tasks; others still get in.",
    "breaker_open": "Try again after `retry_after` seconds; the operator looks at the engines.",
    "too_many_streams": "Close event streams of tasks that nobody watches, or poll `GET /v1/task/{task_id}`.",
    "too_many_uploads": "Finish or abort uploads that are open.",
    "body_stalled": "Send the chunk again, in smaller chunks on a slow line.",
    "unavailable": "Try again after `retry_after` seconds.",
    "database_busy": "Try again; nothing was changed.",
    "engine_unavailable": "Start the live session again later. " + _LOGGED_TOO,
    "engine_busy": _LOGGED,
    "engine_leaving": _LOGGED,
    "retries_spent": _LOGGED,
    "draining": "Try again later, or resume on another gateway: an operator has drained the service, or it is ending. "
    + _LOGGED_TOO,
    "storage_full": "Try again later; the operator makes room, or raises `COSYGATE_STORE_MAX_BYTES`.",
    "storage_unavailable": "Try again after `retry_after` seconds; nothing that was acknowledged is lost.",
    "recording_failed": _FAMILY,
    "media_undecodable": "Check that the file plays; convert it to WAV or FLAC.",
    "media_no_audio": "Send a recording that has an audio stream.",
    "media_too_long": "Split it, or raise `COSYGATE_RECORDING_MAX_S`.",
    "media_limits": "Convert it within the limits of [decoder.md](decoder.md).",
    "engine_refused": "See `detail`: the engine says what it cannot do.",
    "decoder_died": "Convert it to WAV; keep the file if you want to report it. It was tried three times.",
    "decoder_timeout": "Convert it to WAV, or raise `COSYGATE_DECODER_CPU_S`. It was tried three times.",
    "engine_failed": "The engine's log says why. It was tried three times.",
    "lost_too_often": "Send it again; the operator looks for workers that die or hang.",
    "method_not_allowed": "Use a method that `Allow` names.",
    "bad_request": "Correct the request.",
}


def errors_page() -> str:
    assert problems.PROBLEM  # importing it declares its two errors
    known = errors.all_errors()
    failed = [e for e in known if issubclass(e, errors.RecordingFailed)]
    head = ("code", "status", "close", "again", "title", "what to do")
    parts = [_ERRORS]
    for title, classes in (("Answers", [e for e in known if e not in failed]), ("How tasks fail", failed)):
        parts.append(f"## {title}\n\n{table(head, *(_error(e) for e in sorted(classes, key=_order)))}")
    parts.append(
        "A task can also fail with `audio_gone` (its recording was erased before it was recognised) or, after three "
        "attempts, `internal`.\n"
    )
    return _page(parts)


def _order(error: type[errors.CosyGateError]) -> tuple[int, str]:
    return error.status, error.code


def _error(error: type[errors.CosyGateError]) -> tuple[str, ...]:
    again = "yes" if error.retryable else ""
    return f"`{error.code}`", str(error.status), str(error.close_code), again, error.title, ADVICE[error.code]


# --- metrics -----------------------------------------------------------------------------------------------------

_METRICS = """# Metrics

`GET /metrics` answers in the Prometheus text format, for all gateway processes of one `serve` together. It is open to
loopback and to `COSYGATE_METRICS_ALLOW`; from elsewhere, and with `X-Forwarded-For`, it takes a token with the scope
`admin`. A proxy on the same machine that does not set that header looks like loopback: do not pass `/metrics` on.
"""
_METRICS_END = """A histogram has the series `_bucket` (with the label `le`: at most so many seconds), `_sum` and
`_count`. A counter counts on when a gateway process dies and is started again; it begins at 0 with `serve`, which
`rate()` knows. A gauge ends with the process that set it.

Nobody can make series at will: no label has a path, an id, a tenant or anything else that a caller writes; a method
that HTTP does not know is `OTHER`, and beyond a thousand combinations of one metric so is everything. Where the values
of labels are known they are there from the first scrape on, at 0.

Alerts, recording rules and a dashboard: [deploy/observability](../deploy/observability/README.md). What to do when an
alert comes: [operations.md](operations.md).
"""


def metrics_page() -> str:
    rows, labels = [("metric", "type", "labels", "meaning")], list[tuple[str, ...]]()
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            name = f"{metric._name}_total" if metric._type == "counter" else metric._name
            names = metric._labelnames
            rows.append((f"`{name}`", metric._type, ", ".join(f"`{n}`" for n in names), metric._documentation))
            labels += [(f"`{n}`", f"`{name}`", _label(n, name)) for n in names]
    told = table(("label", "of", "says"), *sorted(labels))
    return _page([_METRICS, table(*rows), f"## Labels\n\n{told}", _METRICS_END])


def _label(label: str, metric: str) -> str:
    meaning = metrics.LABELS.get(f"{metric} {label}") or metrics.LABELS.get(label)
    assert meaning, f"say in kit/metrics.py, LABELS, what {label!r} of {metric} tells"
    return meaning


def _page(parts: list[str]) -> str:
    title, rest = parts[0].split("\n", 1)
    return "\n".join([title, "", _NOTE + rest, *parts[1:]])


def pages() -> dict[Path, str]:
    """File → its text as it should be."""
    return {
        DOCS / "settings.md": settings_page(),
        DOCS / "errors.md": errors_page(),
        DOCS / "metrics.md": metrics_page(),
    }


def main() -> int:
    for path, text in pages().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
