"""What a recording was promised, rule by rule; each names itself in what it yields. Pure: the journal's story on one
side, what the API shows on the other. RULES lists all, also those of live sessions (live_rules.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from itertools import pairwise
from typing import Any

from tests.chaos.cluster.journal import Line
from tests.chaos.cluster.stories import ENDS, TERMINAL, Deletion, Story, Violation, readings
from tests.chaos.cluster.world import Shown

RULES = {
    "refused_unasked": "a request that nothing was wrong with was refused for good",
    "task_missing": "an acknowledged recording, or a live session that was told a final, `safe` or `done`, has no task",
    "two_tasks": "one recording has two tasks, or was told two",
    "unasked_task": "a task exists that nobody asked for",
    "task_of_aborted": "a recording that was aborted has a task",
    "not_finished": "a task has not ended in time",
    "task_failed": "an acknowledged recording ended as failed",
    "cancelled_unasked": "a task is cancelled, and nobody cancelled it",
    "cancel_undone": "a task whose cancelling was told is not cancelled",
    "deleted_task_there": "a task whose erasing was told is there",
    "wrong_text": "a transcript is not what was said",
    "result_changed": "a task's result or end was told differently at two times",
    "state_went_back": "a task that had ended was told to be in another state",
    "wrong_audio": "the sound is not, byte for byte, what was sent",
    "chunk_lost": "a chunk that was acknowledged is not there",
    "events_two_ends": "a task's events have not exactly one end, as the last of them",
    "events_wrong": "a task's events contradict its result",
    "events_back": "a task's events came twice, or backwards",
    "webhook_missing": "a task that has ended was to be told by a webhook, and was not",
    "webhook_two": "one task was told under two webhook ids, or with two contents",
    "webhook_wrong": "a webhook contradicts its task, or is of a task that is not this receiver's",
    "webhook_forged": "a webhook's signature is nobody's, or another tenant's",
    "live_error": "a live session was told an error that no fault explains",
    "live_changed": "a final that was told is another now",
    "live_ids": "the ids of finals do not rise by one",
    "live_overlap": "the samples of two finals overlap",
    "live_ack_back": "an ack, or a ready, went back below what was safe",
    "live_gap": "samples were left out",
    "live_wrong_text": "a live transcript is not the undisturbed one",
    "live_wrong_done": "a live session's `done` contradicts its finals, or was told twice differently",
    "client_broken": "a client of the run itself failed: the run says nothing",
}


def check_recording(
    story: Story, rows: Sequence[Mapping[str, Any]], upload: Mapping[str, Any] | None, shown: Mapping[str, Shown],
    webhooks: Sequence[Line],
) -> list[Violation]:  # fmt: skip
    """`rows`: the tasks of its session. `upload`: GET /v1/audio/…, None when there is none. `shown`: by task."""
    found: list[Violation] = []

    def tell(rule: str, detail: str, *lines: Line) -> None:
        found.append(Violation(rule, story.who, detail, (story.asked, *lines)))

    check_refusals(story, tell)
    _tasks(story, rows, upload, tell)
    check_receiver(story, {row["task_id"] for row in rows} | set(story.tasks()), webhooks, tell)
    for row in rows:
        _task(story, row, shown[row["task_id"]], webhooks, tell)
    _chunks(story, rows, upload, tell)
    return found


Tell = Callable[..., None]


def check_refusals(story: Story, tell: Tell) -> None:
    """What was refused with 429 or 5xx is tried again, and told as `later`. A deletion that is asked for once more may
    find that the request before has come to it; one whose first request finds nothing has a rule of its own."""
    for line in story.of("refused"):
        what, status, tries = (line.data[name] for name in ("what", "status", "tries"))
        if what in ("delete", "abort") and (status == 404 or (status == 409 and tries > 1)):
            continue
        tell("refused_unasked", f"{what}: {status} {line.data.get('code')}, at try {tries}", line)


def _tasks(story: Story, rows: Sequence[Mapping[str, Any]], upload: Mapping[str, Any] | None, tell: Tell) -> None:
    """How many there are, and whether they should be."""
    told, deletion = story.tasks(), Deletion.of(story)
    there = {row["task_id"] for row in rows}
    if len(told) > 1:
        tell("two_tasks", f"it was told {len(told)} tasks", *told.values())
    if len(there) > 1:
        tell("two_tasks", f"its session has {len(there)} tasks: {', '.join(sorted(there))}", *told.values())
    if story.of("aborted") and there and _abort_held(story):
        tell("task_of_aborted", f"task {min(there)}", *story.of("aborted"))
    for task, line in told.items():
        if task not in there and not (deletion and (deletion.must_be_gone or deletion.perhaps)):
            tell("task_missing", f"task {task} is not in the list", line)
        if task in there and deletion and deletion.must_be_gone:
            tell("deleted_task_there", f"task {task}", deletion.line)
    if deletion and deletion.missing:
        tell("task_missing", "it was not there to be deleted", deletion.line)
    if told or there or story.of("aborted", "aborting"):
        return
    if upload and upload.get("state") == "complete":
        tell("task_missing", "its upload is complete, and has no task")
    elif {line.data["seq"] for line in story.of("chunk")} >= set(range(story.asked.data["last"] + 1)):
        tell("task_missing", "every chunk was acknowledged, and there is no task", *story.of("chunk"))


def _abort_held(story: Story) -> bool:
    return story.of("aborted")[-1].data["status"] in (204, 404)


def _task(story: Story, row: Mapping[str, Any], shown: Shown, webhooks: Sequence[Line], tell: Tell) -> None:
    deletion = Deletion.of(story)
    told = list(story.tasks().values())
    state = row["state"]
    if deletion and deletion.must_be_gone:
        return  # told already
    if state not in TERMINAL:
        tell("not_finished", f"it is {state}", *told)
        return
    if state == "failed":
        tell("task_failed", f"with {row.get('error')}", *told)
    if state == "cancelled" and deletion is None:
        tell("cancelled_unasked", f"task {row['task_id']}", *told)
    if deletion and deletion.must_be_cancelled and state != "cancelled":
        tell("cancel_undone", f"it is {state}", deletion.line)
    if state == "succeeded" and not (deletion and deletion.perhaps):
        _result(story, row, shown, tell)
    _told_states(story, row, tell)
    check_events(story, row, shown, tell)
    check_webhooks(story, row, webhooks, tell)


def _result(story: Story, row: Mapping[str, Any], shown: Shown, tell: Tell) -> None:
    asked, told = story.asked.data, list(story.tasks().values())
    if shown.status != 200 or shown.transcript_status != 200:
        tell("task_missing", f"the task answers {shown.status}, its transcript {shown.transcript_status}", *told)
        return
    texts = [segment["text"] for segment in shown.transcript["segments"]]
    if texts != asked["texts"]:
        tell("wrong_text", f"{_compared(texts, asked['texts'])}", *told)
    for text in (row["result"]["text"], shown.task.get("result", {}).get("text"), shown.transcript["text"]):
        if text != " ".join(asked["texts"]):
            tell("wrong_text", "the task's text is not the one of its segments", *told)
            break
    if row["result"] != shown.task.get("result"):
        tell("result_changed", "two readings of the API differ", *told)
    if shown.audio_status != 200:
        tell("wrong_audio", f"it answers {shown.audio_status}", *told)
    elif shown.audio_sha256 != asked["sha256"]:
        tell("wrong_audio", "other bytes than were sent", *told)


def _told_states(story: Story, row: Mapping[str, Any], tell: Tell) -> None:
    """What the client read itself, in order, and then the API's last word."""
    ended: tuple[Line, str, Any] | None = None
    for line, state, text in readings(story):
        if ended and (state, text) != ended[1:]:
            rule = "result_changed" if state == ended[1] else "state_went_back"
            tell(rule, f"{ended[1]}, and then {state}", ended[0], line)
        if state in TERMINAL and not ended:
            ended = line, state, text
    if ended is None:
        return
    if row["state"] != ended[1]:
        tell("state_went_back", f"told as {ended[1]}, and in the end {row['state']}", ended[0])
    elif row["state"] == "succeeded" and ended[2] != row["result"]["text"]:
        tell("result_changed", "the client was told another text", ended[0])


def check_events(story: Story, row: Mapping[str, Any], shown: Shown, tell: Tell) -> None:
    """Those that a client heard, and those that the API tells in the end."""
    heard = [(line.data["id"], line.data["event"], line.data, line) for line in story.of("event")]
    if any(after[0] <= before[0] for before, after in pairwise(heard)):
        tell("events_back", "ids that do not rise", *(line for *_, line in heard))
    ends = [(kind, line) for _, kind, _, line in heard if kind in ENDS]
    if len(ends) > 1:
        tell("events_two_ends", f"{', '.join(kind for kind, _ in ends)}", *(line for _, line in ends))
    for kind, line in ends:
        if ENDS[kind] != row["state"]:
            tell("events_wrong", f"{kind} was told, and it is {row['state']}", line)
    told = list(story.tasks().values())
    last = [(kind, data) for _, kind, data in shown.events]
    at = [number for number, (kind, _) in enumerate(last) if kind in ENDS]
    if at != [len(last) - 1] or not last:
        tell(
            "events_two_ends", f"in the end: {', '.join(kind for kind, _ in last)}", *told, *(line for _, line in ends)
        )
    elif ENDS[last[-1][0]] != row["state"]:
        tell("events_wrong", f"the last one is {last[-1][0]}, and it is {row['state']}", *told)
    if row["state"] == "succeeded" and "texts" in story.asked.data:
        for segments, lines in (
            (_segments([(kind, data) for _, kind, data in shown.events]), ()),
            (_segments([(kind, data) for _, kind, data, _ in heard]) if ends else None, tuple(x for *_, x in heard)),
        ):
            if segments is not None and segments != story.asked.data["texts"]:
                tell("events_wrong", f"segments: {_compared(segments, story.asked.data['texts'])}", *told, *lines)


def _segments(events: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """The texts that count: those after the last `restarted`."""
    found: list[str] = []
    for kind, data in events:
        if kind == "restarted":
            found = []
        elif kind == "segment":
            found.append(data["text"])
    return found


def check_receiver(story: Story, own: Set[str], webhooks: Sequence[Line], tell: Tell) -> None:
    """`webhooks`: all that came to this client's address. `own`: its tasks."""
    for line in webhooks:
        if line.data["task"] not in own:
            tell("webhook_wrong", f"of task {line.data['task']}, which is not this client's", line)
        elif not story.asked.data["webhook"]:
            tell("webhook_wrong", "nobody asked for it", line)


def check_webhooks(story: Story, row: Mapping[str, Any], webhooks: Sequence[Line], tell: Tell) -> None:
    """`webhooks`: those that came for this client."""
    if not story.asked.data["webhook"]:
        return
    mine = [line for line in webhooks if line.data["task"] == row["task_id"]]
    if not mine and story.tasks() and Deletion.of(story) is None:
        tell("webhook_missing", f"task {row['task_id']} is {row['state']}", *story.tasks().values())
    if len({line.data["id"] for line in mine}) > 1 or len({line.data["sha256"] for line in mine}) > 1:
        tell("webhook_two", f"{len(mine)} came", *mine)
    for line in mine:
        text = (row.get("result") or {}).get("text")
        if line.data["state"] != row["state"] or line.data["text"] != text:
            tell("webhook_wrong", f"{line.data['state']}, and it is {row['state']}", line)
            break


def _chunks(story: Story, rows: Sequence[Mapping[str, Any]], upload: Mapping[str, Any] | None, tell: Tell) -> None:
    """Of a recording that never became a task: its acknowledged chunks wait for the rest."""
    acknowledged = {line.data["seq"]: line for line in story.of("chunk")}
    began, told = story.of("aborting"), story.of("aborted")
    if began and told and acknowledged and story.never_there(began[0], told[-1]):
        tell("chunk_lost", "there was no upload to be aborted", *acknowledged.values(), told[-1])
    if rows or began or told or story.of("deleting") or story.tasks():
        return
    received = set((upload or {}).get("received") or ())
    for seq, line in acknowledged.items():
        if seq not in received:
            tell("chunk_lost", f"chunk {seq}", line)


def _compared(got: Sequence[str], wanted: Sequence[str]) -> str:
    if len(got) != len(wanted):
        return f"{len(got)} pieces instead of {len(wanted)}"
    wrong = [n for n, pair in enumerate(zip(got, wanted, strict=True)) if pair[0] != pair[1]]
    return f"pieces {wrong} of {len(wanted)} differ"
