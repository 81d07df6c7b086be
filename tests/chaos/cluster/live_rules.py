"""What a live session was promised, message by message and in the end. Pure, as rules.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.chaos.cluster.journal import Line
from tests.chaos.cluster.rules import Tell, check_events, check_receiver, check_refusals, check_webhooks
from tests.chaos.cluster.stories import TERMINAL, Story, Violation
from tests.chaos.cluster.world import Shown

# After these a client comes back (docs/live.md): a part was away, or somebody came between. The others end a session.
PASSING = frozenset(
    {
        "breaker_open", "database_busy", "draining", "engine_busy", "engine_leaving", "engine_unavailable", "gap",
        "keys_unavailable", "limits_unavailable", "live_idle", "quota_exceeded", "queue_full", "rate_limited",
        "reader_too_slow", "sessions_full", "storage_full", "storage_unavailable", "taken_over", "tenant_queue_full",
        "too_many_sessions", "unavailable",
    }
)  # fmt: skip


def check_speech(
    story: Story, row: Mapping[str, Any] | None, shown: Shown | None, webhooks: Sequence[Line]
) -> list[Violation]:
    """`row`, `shown`: of the task that has the session's id."""
    found: list[Violation] = []

    def tell(rule: str, detail: str, *lines: Line) -> None:
        found.append(Violation(rule, story.who, detail, lines or (story.asked,)))

    check_refusals(story, tell)
    for line in story.of("live_error"):
        if line.data["code"] not in PASSING:
            tell("live_error", f"{line.data['code']}", line)
    check_receiver(story, {line.data["session"] for line in story.of("live_ready")}, webhooks, tell)
    finals = _finals(story, tell)
    _acks(story, tell)
    for line in story.of("live_gap"):
        tell("live_gap", f"{line.data['from']}-{line.data['to']}: {line.data['code']}", line)
    _done(story, finals, tell)
    _transcript(story, finals, row, shown, webhooks, tell)
    return found


def promised(story: Story) -> list[Line]:
    """What was told that cannot be taken back: finals, and sound that the client may forget."""
    return [x for x in story.of("live_final", "live_ack", "live_done") if x.kind != "live_ack" or x.data["safe"] > 0]


def _finals(story: Story, tell: Tell) -> dict[int, Line]:
    """By id, as first told."""
    finals: dict[int, Line] = {}
    for line in story.of("live_final"):
        number = line.data["id"]
        if number in finals:
            if line.data != finals[number].data:
                tell("live_changed", f"final {number}", finals[number], line)
            tell("live_ids", f"final {number} was told again", finals[number], line)
            continue
        if number != len(finals):
            tell("live_ids", f"final {number} after {len(finals)} of them", line)
        before = finals.get(number - 1)
        if before and before.data["end_sample"] > line.data["start_sample"]:
            tell("live_overlap", f"finals {number - 1} and {number}", before, line)
        finals[number] = line
    return finals


def _acks(story: Story, tell: Tell) -> None:
    """`safe` never falls, nothing that is said falls below it, and on one connection `samples` never falls."""
    safe: Line | None = None
    acked: Line | None = None
    for line in story.of("live_ready", "live_ack"):
        ready = line.kind == "live_ready"
        reached = line.data["offset" if ready else "samples"]
        floor = safe.data["safe"] if safe else 0
        if reached < floor or (not ready and line.data["safe"] < floor):
            tell("live_ack_back", f"{reached}, and {floor} was safe", *([safe] if safe else []), line)
        if not ready and acked and reached < acked.data["samples"]:
            tell("live_ack_back", f"{reached} after {acked.data['samples']}", acked, line)
        acked = None if ready else line
        if not ready and line.data["safe"] >= floor:
            safe = line


def _done(story: Story, finals: Mapping[int, Line], tell: Tell) -> None:
    told = story.of("live_done")
    if not told:
        return
    sessions = {line.data["session"] for line in story.of("live_ready")}
    for line in told:
        if line.data["finals"] != len(finals) or line.data["samples"] != story.asked.data["samples"]:
            tell("live_wrong_done", f"{len(finals)} finals were told", line)
        if line.data["task_id"] not in sessions or line.data != told[0].data:
            tell("live_wrong_done", "another task than the session's", told[0], line)


def _transcript(
    story: Story, finals: Mapping[int, Line], row: Mapping[str, Any] | None, shown: Shown | None,
    webhooks: Sequence[Line], tell: Tell,
) -> None:  # fmt: skip
    done, rate = story.of("live_done"), story.asked.data["rate"]
    wanted = [tuple(final) for final in story.asked.data["finals"]]
    told = [(x.data["start_sample"], x.data["end_sample"], x.data["text"]) for _, x in sorted(finals.items())]
    if done and told != wanted:
        tell("live_wrong_text", f"{_first_difference(told, wanted)} of what was told", *finals.values(), *done)
    if row is None or shown is None:
        if promised(story):
            tell("task_missing", f"no task, and {len(told)} finals were told", *promised(story)[-3:])
        return
    if row["state"] != "succeeded":
        # Also where the client gave up: without one the session ends by itself, once its window has passed.
        tell("task_failed" if row["state"] in TERMINAL else "not_finished", f"it is {row['state']}", *done)
        return
    heard = [(s["id"], s["start"], s["end"], s["text"]) for s in shown.transcript.get("segments", ())]
    expected = [(n, round(a / rate, 3), round(b / rate, 3), text) for n, (a, b, text) in enumerate(wanted)]
    if done:
        if heard != expected:
            tell("live_wrong_text", f"{_first_difference(heard, expected)} of the transcript", *done)
        if (shown.audio_status, shown.pcm_sha256) != (200, story.asked.data["sha256"]):
            tell("wrong_audio", f"it answers {shown.audio_status}, with {shown.pcm_samples} samples", *done)
        check_events(story, row, shown, tell)
        check_webhooks(story, row, webhooks, tell)
        return
    # Of a session whose client gave up: what was told stays, as far as it goes.
    if heard[: len(told)] != [(n, round(a / rate, 3), round(b / rate, 3), x) for n, (a, b, x) in enumerate(told)]:
        tell("live_changed", "the transcript does not begin with the finals that were told", *finals.values())
    safe = max((x.data["safe"] for x in story.of("live_ack")), default=0)
    if safe and (shown.audio_status != 200 or shown.pcm_samples < safe):
        tell("wrong_audio", f"it answers {shown.audio_status}, with {shown.pcm_samples} samples; {safe} were safe")


def _first_difference(got: Sequence[object], wanted: Sequence[object]) -> str:
    for number, pair in enumerate(zip(got, wanted, strict=False)):
        if pair[0] != pair[1]:
            return f"final {number} differs: {pair[0]} instead of {pair[1]}, the first"
    return f"{len(got)} finals instead of {len(wanted)}"
