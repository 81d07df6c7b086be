"""The checker of the chaos run: a run in which all was well passes, and every broken promise is named by its rule."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tests.chaos.cluster
from tests.chaos.cluster.check import check, main
from tests.chaos.cluster.journal import read
from tests.chaos.cluster.rules import RULES
from tests.chaos.cluster.world import Api
from tests.support import media
from tests.support.chaos_town import ANN, BOB, HOOK, LIVE_PCM, Town

FOLDER = Path(tests.chaos.cluster.__file__).parent
CHECKER = ("check", "journal", "stories", "world", "rules", "live_rules")


def broken(town: Town, tmp_path: Path, wait_s: float = 0.5) -> dict[str, Any]:
    """Rule → the first violation of it."""
    with town:
        api = Api(town.url, town.tokens)
        try:
            report = check(read(town.journal(tmp_path / "journal.jsonl")), api, wait_s)
        finally:
            api.close()
    found: dict[str, Any] = {}
    for violation in report.violations:
        found.setdefault(violation.rule, violation)
    return found


def test_all_was_well(tmp_path: Path) -> None:
    assert broken(Town(), tmp_path) == {}


# --- one change each, and the rules that it breaks


def lost_job(town: Town) -> None:
    del town.tasks[ANN]["t0"]


def lost_live_task(town: Town) -> None:
    del town.tasks[BOB]["t9"]


def complete_without_a_task(town: Town) -> None:
    town.uploads["s-r4"] = {"received": [0, 1], "state": "complete", "task_id": "t7"}


def transcript_away(town: Town) -> None:
    town.tasks[ANN]["t0"]["transcript"] = None


def every_chunk_and_no_task(town: Town) -> None:
    """Two last chunks at once, and each was told that the other was missing."""
    town.tell("r4", "chunk", seq=1, sha256="01", status=200, tries=1)
    town.uploads["s-r4"]["received"] = [0, 1]


def not_there_to_be_cancelled(town: Town) -> None:
    town.line("r1", "deleted").update(status=404, state=None)
    del town.tasks[ANN]["t1"]


def not_there_to_be_deleted(town: Town) -> None:
    town.line("r2", "deleted")["status"] = 404
    struck(town, town.line("r2", "deleting")["at"] - 60)  # long before, or another part


def not_there_to_be_aborted(town: Town) -> None:
    town.line("r3", "aborted")["status"] = 404


def refused_chunk(town: Town) -> None:
    """A repeat, after the first answer was lost."""
    town.tell("r4", "refused", what="chunk", status=409, code="upload_closed", tries=2)


def refused_task(town: Town) -> None:
    """It was there before, and after."""
    town.tell("r0", "refused", what="task", status=404, code="task_not_found", tries=1)


def refused_abort(town: Town) -> None:
    """As a task already, though its last chunk was never sent."""
    town.line("r3", "aborted")["status"] = 409
    town.tell("r3", "refused", what="abort", status=409, code="upload_closed", tries=1)


def refused_library(town: Town) -> None:
    town.tell("r4", "refused", what="library", status=409, code="part_conflict", tries=2)


def refused_live(town: Town) -> None:
    town.tell("l0", "refused", what="live", status=401, code="token_invalid", tries=1)


def two_tasks_listed(town: Town) -> None:
    no_webhook(town)
    town.tasks[ANN]["t5"] = town.task("t5", "s-r0")
    town.line("r0", "asked")["webhook"] = False


def two_tasks_told(town: Town) -> None:
    town.tell("r1", "chunk", seq=1, sha256="01", status=202, tries=1, task="t1b")


def unasked(town: Town) -> None:
    town.tasks[BOB]["t5"] = town.task("t5", "s-nobody")


def asked_by_somebody_else(town: Town) -> None:
    town.tasks[BOB]["t0"] = town.task("t0", "s-r0")


def aborted_became_one(town: Town) -> None:
    town.tasks[ANN]["t5"] = town.task("t5", "s-r3")


def still_running(town: Town) -> None:
    town.tasks[ANN]["t0"]["row"] |= {"state": "running"}


def failed(town: Town) -> None:
    town.tasks[BOB]["t9"]["row"] |= {"state": "failed", "error": {"code": "engine_failed"}}


def failed_recording(town: Town) -> None:
    town.ask("r5")
    town.tell("r5", "accepted", task="t5")
    town.tasks[ANN]["t5"] = task = town.task("t5", "s-r5", transcript=None, events=[[3, "failed", {"code": "x"}]])
    task["row"] = {"task_id": "t5", "session_id": "s-r5", "state": "failed", "error": {"code": "x"}}


def cancelled_by_nobody(town: Town) -> None:
    for line in [x for x in town.lines if x["who"] == "r1" and x["kind"] in ("deleting", "deleted")]:
        town.drop(line)


def cancel_came_back(town: Town) -> None:
    town.tasks[ANN]["t1"] = town.task("t1", "s-r1")


def cancelled_went_away(town: Town) -> None:
    del town.tasks[ANN]["t1"]


def deleted_is_there(town: Town) -> None:
    town.tasks[ANN]["t2"] = town.task("t2", "s-r2")


def wrong_segment(town: Town) -> None:
    town.tasks[ANN]["t0"]["transcript"]["segments"][1]["text"] = "xx"


def truncated(town: Town) -> None:
    town.tasks[ANN]["t0"]["transcript"]["segments"].pop()


def wrong_joined_text(town: Town) -> None:
    town.tasks[ANN]["t0"]["transcript"]["text"] = "bb aa"


def told_another_text(town: Town) -> None:
    town.line("r0", "result", 1)["text"] = "aa xx"


def changed_between_two_readings(town: Town) -> None:
    row = town.tasks[ANN]["t0"]["row"]
    town.afterwards["t0"] = row | {"result": row["result"] | {"duration": 1.7}}


def succeeded_and_then_running(town: Town) -> None:
    town.lines.insert(town.lines.index(town.line("r0", "event")), town.line("r0", "result", state="running") | {})


def succeeded_and_then_failed(town: Town) -> None:
    town.line("r0", "result", 1)["state"] = "failed"


def other_bytes(town: Town) -> None:
    town.tasks[ANN]["t0"]["audio"] = town.tasks[ANN]["t0"]["audio"][:-2]


def audio_gone(town: Town) -> None:
    town.tasks[ANN]["t0"]["audio"] = None


def other_live_bytes(town: Town) -> None:
    sound = town.tasks[BOB]["t9"]["audio"]
    town.tasks[BOB]["t9"]["audio"] = sound[:-2] + b"\x99\x99"


def lost_chunk(town: Town) -> None:
    town.uploads["s-r4"]["received"] = []


def lost_upload(town: Town) -> None:
    del town.uploads["s-r4"]


def two_ends(town: Town) -> None:
    town.tasks[ANN]["t0"]["events"].append([9, "done", {"state": "succeeded"}])


def two_ends_heard(town: Town) -> None:
    town.tell("r0", "event", task="t0", id=9, event="failed", text=None, code="x")


def no_end(town: Town) -> None:
    town.tasks[ANN]["t0"]["events"].pop()


def more_after_the_end(town: Town) -> None:
    town.tasks[ANN]["t0"]["events"].append([9, "progress", {"percent": 10}])


def the_other_end(town: Town) -> None:
    town.tasks[ANN]["t0"]["events"][-1] = [8, "failed", {"code": "x"}]


def a_segment_twice(town: Town) -> None:
    town.tasks[ANN]["t0"]["events"].insert(1, [6, "segment", {"text": "aa"}])


def a_segment_not_heard(town: Town) -> None:
    town.drop(town.line("r0", "event", id=6))


def an_event_twice(town: Town) -> None:
    town.line("r0", "event", id=6)["id"] = 5


def no_webhook(town: Town) -> None:
    for line in [x for x in town.lines if x["kind"] == "webhook"]:
        town.drop(line)


def two_webhooks(town: Town) -> None:
    town.line("receiver", "webhook", 1)["id"] = "msg_other"


def changed_webhook(town: Town) -> None:
    town.line("receiver", "webhook", 1)["sha256"] = "5b"


def wrong_webhook(town: Town) -> None:
    for nth in (0, 1):
        town.line("receiver", "webhook", nth)["text"] = "aa xx"


def forged_webhook(town: Town) -> None:
    town.line("receiver", "webhook", 1)["tenant"] = None


def webhook_of_another_tenant(town: Town) -> None:
    town.line("receiver", "webhook", 1)["tenant"] = "birch"


def webhook_of_another_task(town: Town) -> None:
    webhook(town, id="msg_t1", task="t1", text="cc dd")


def webhook_for_nobody(town: Town) -> None:
    webhook(town, by="r77")


def webhook_unasked(town: Town) -> None:
    no_webhook(town)
    webhook(town, id="msg_t2", by="r2", task="t2")


def webhook(town: Town, **other: Any) -> None:
    town.lines.append({**HOOK, **other, "at": 0.0, "who": "receiver", "kind": "webhook", "tries": 1})


def changed_final(town: Town) -> None:
    town.lines.insert(-1, town.line("l0", "live_final") | {"text": "xx"})


def final_again(town: Town) -> None:
    town.lines.insert(-1, town.line("l0", "live_final") | {})


def final_left_out(town: Town) -> None:
    town.line("l0", "live_final", 1)["id"] = 2


def overlapping(town: Town) -> None:
    town.line("l0", "live_final", 1)["start_sample"] = 7999


def ack_below_safe(town: Town) -> None:
    town.line("l0", "live_ack", 2).update(samples=7000, safe=7000)


def ready_below_safe(town: Town) -> None:
    town.line("l0", "live_ready", 1)["offset"] = 7999


def ack_back(town: Town) -> None:
    town.line("l0", "live_ack", 1).update(samples=7000, safe=0)


def left_out(town: Town) -> None:
    town.tell("l0", "live_gap", **{"from": 0, "to": 100, "code": "engine_failed"})


def wrong_transcript(town: Town) -> None:
    town.tasks[BOB]["t9"]["transcript"]["segments"][1]["text"] = "xx"


def wrong_final(town: Town) -> None:
    town.line("l0", "live_final", 1)["text"] = "xx"


def wrong_done(town: Town) -> None:
    town.line("l0", "live_done")["finals"] = 3


def done_of_another(town: Town) -> None:
    town.line("l0", "live_done")["task_id"] = "t0"


def forgotten_final(town: Town) -> None:
    """The client gave up before the end; what it was told has to be there all the same."""
    town.drop(town.line("l0", "live_done"))
    town.tasks[BOB]["t9"]["transcript"]["segments"][0]["text"] = "xx"


def live_given_up(town: Town) -> None:
    """It was told a final, and that samples are safe."""
    town.drop(town.line("l0", "live_done"))
    town.drop(town.line("l0", "live_final", 1))
    del town.tasks[BOB]["t9"]


def live_safe_alone(town: Town) -> None:
    live_given_up(town)
    town.drop(town.line("l0", "live_final"))


def live_final_alone(town: Town) -> None:
    live_given_up(town)
    for nth in range(3):
        town.line("l0", "live_ack", nth)["safe"] = 0


def live_left_open(town: Town) -> None:
    town.drop(town.line("l0", "live_done"))
    town.tasks[BOB]["t9"]["row"] |= {"state": "running"}


def live_lost_sound(town: Town) -> None:
    """Of a client that gave up: less than was safe."""
    town.drop(town.line("l0", "live_done"))
    town.tasks[BOB]["t9"]["audio"] = media.wav(LIVE_PCM[: 2 * 7999])


def live_lost_finals(town: Town) -> None:
    town.drop(town.line("l0", "live_done"))
    town.tasks[BOB]["t9"]["transcript"]["segments"].pop()


def ended_by_an_error(town: Town) -> None:
    town.tell("l0", "live_error", code="internal")


def session_forgotten(town: Town) -> None:
    town.tell("l0", "live_error", code="session_not_found")


def broken_client(town: Town) -> None:
    town.tell("r0", "broken", error="KeyError()")


def struck(town: Town, at: float, part: str = "gateway-0", do: str = "kill") -> None:
    town.lines.insert(0, {"at": at, "who": "faults", "kind": "fault", "part": part, "do": do})


CHANGES: dict[Callable[[Town], None], set[str]] = {
    lost_job: {"task_missing"},
    lost_live_task: {"task_missing"},
    complete_without_a_task: {"task_missing"},
    transcript_away: {"task_missing"},
    every_chunk_and_no_task: {"task_missing"},
    not_there_to_be_cancelled: {"task_missing"},
    not_there_to_be_deleted: {"task_missing"},
    not_there_to_be_aborted: {"chunk_lost"},
    refused_chunk: {"refused_unasked"},
    refused_task: {"refused_unasked"},
    refused_abort: {"refused_unasked"},
    refused_library: {"refused_unasked"},
    refused_live: {"refused_unasked"},
    two_tasks_listed: {"two_tasks"},
    two_tasks_told: {"two_tasks", "task_missing"},
    unasked: {"unasked_task"},
    asked_by_somebody_else: {"unasked_task"},
    aborted_became_one: {"task_of_aborted"},
    still_running: {"not_finished"},
    failed: {"task_failed"},
    failed_recording: {"task_failed"},
    cancelled_by_nobody: {"cancelled_unasked"},
    cancel_came_back: {"cancel_undone"},
    cancelled_went_away: {"task_missing"},
    deleted_is_there: {"deleted_task_there"},
    wrong_segment: {"wrong_text"},
    truncated: {"wrong_text"},
    wrong_joined_text: {"wrong_text"},
    told_another_text: {"result_changed"},
    changed_between_two_readings: {"result_changed"},
    succeeded_and_then_running: {"state_went_back"},
    succeeded_and_then_failed: {"state_went_back"},
    other_bytes: {"wrong_audio"},
    audio_gone: {"wrong_audio"},
    other_live_bytes: {"wrong_audio"},
    lost_chunk: {"chunk_lost"},
    lost_upload: {"chunk_lost"},
    two_ends: {"events_two_ends"},
    two_ends_heard: {"events_two_ends", "events_wrong"},
    no_end: {"events_two_ends"},
    more_after_the_end: {"events_two_ends"},
    the_other_end: {"events_wrong"},
    a_segment_twice: {"events_wrong"},
    a_segment_not_heard: {"events_wrong"},
    an_event_twice: {"events_back"},
    no_webhook: {"webhook_missing"},
    two_webhooks: {"webhook_two"},
    changed_webhook: {"webhook_two"},
    wrong_webhook: {"webhook_wrong"},
    forged_webhook: {"webhook_forged"},
    webhook_of_another_tenant: {"webhook_forged"},
    webhook_of_another_task: {"webhook_wrong"},
    webhook_for_nobody: {"webhook_wrong"},
    webhook_unasked: {"webhook_missing", "webhook_wrong"},
    changed_final: {"live_changed", "live_ids"},
    final_again: {"live_ids"},
    final_left_out: {"live_ids"},
    overlapping: {"live_overlap", "live_wrong_text"},
    ack_below_safe: {"live_ack_back"},
    ready_below_safe: {"live_ack_back"},
    ack_back: {"live_ack_back"},
    left_out: {"live_gap"},
    wrong_transcript: {"live_wrong_text"},
    wrong_final: {"live_wrong_text"},
    wrong_done: {"live_wrong_done"},
    done_of_another: {"live_wrong_done"},
    forgotten_final: {"live_changed"},
    live_given_up: {"task_missing"},
    live_safe_alone: {"task_missing"},
    live_final_alone: {"task_missing"},
    live_left_open: {"not_finished"},
    live_lost_sound: {"wrong_audio"},
    live_lost_finals: {"live_changed"},
    ended_by_an_error: {"live_error"},
    session_forgotten: {"live_error"},
    broken_client: {"client_broken"},
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_broken_promise_is_named(change: Callable[[Town], None], tmp_path: Path) -> None:
    town = Town()
    change(town)
    found = broken(town, tmp_path)
    assert set(found) == CHANGES[change], found


def test_every_rule_has_a_case() -> None:
    assert set(RULES) == set().union(*CHANGES.values())


def unanswered_cancel(town: Town) -> None:
    """The one before may still have come to it, and erased it."""
    town.line("r1", "deleted")["tries"] = 2
    del town.tasks[ANN]["t1"]


def unanswered_deletion(town: Town) -> None:
    town.drop(town.line("r1", "deleted"))
    town.tell("r1", "gave_up", what="delete", tries=9)
    town.tasks[ANN]["t1"] = town.task("t1", "s-r1", audio=None)


def given_up_and_gone(town: Town) -> None:
    """What was never acknowledged may be lost."""
    town.drop(town.line("r4", "chunk"))
    del town.uploads["s-r4"]


def given_up_and_done(town: Town) -> None:
    """And may be there: the answer alone was lost."""
    del town.uploads["s-r4"]
    town.tasks[ANN]["t4"] = town.task("t4", "s-r4")


def live_given_up_before_anything(town: Town) -> None:
    """Nothing was told but that the sound has arrived, and may be forgotten by nobody."""
    live_final_alone(town)
    town.drop(town.line("l0", "live_final"))


def live_given_up_in_the_middle(town: Town) -> None:
    """It ended by itself, with what it had."""
    town.drop(town.line("l0", "live_done"))
    town.drop(town.line("l0", "live_final", 1))
    town.tasks[BOB]["t9"]["audio"] = media.wav(LIVE_PCM[: 2 * 12_000])


def came_back_after_errors(town: Town) -> None:
    for code in ("unavailable", "taken_over", "gap"):
        town.tell("l0", "live_error", code=code)


def deleted_by_the_request_before(town: Town) -> None:
    town.line("r2", "deleted").update(status=404, tries=2)
    town.line("r3", "aborted").update(status=409, tries=2)
    town.tell("r2", "refused", what="delete", status=404, code="task_not_found", tries=2)
    town.tell("r3", "refused", what="abort", status=409, code="upload_closed", tries=2)


def passed_on_by_the_balancer(town: Town) -> None:
    """The gateway that did it was killed before it answered, and another was asked, all in one request."""
    town.line("r2", "deleted")["status"] = 404
    town.line("r3", "aborted")["status"] = 404
    for line in (town.line("r2", "deleted"), town.line("r3", "aborted")):
        struck(town, line["at"] - 0.5)


NO_PROMISE = [
    unanswered_cancel, unanswered_deletion, given_up_and_gone, given_up_and_done, live_given_up_before_anything,
    live_given_up_in_the_middle, came_back_after_errors, deleted_by_the_request_before, passed_on_by_the_balancer,
]  # fmt: skip


@pytest.mark.parametrize("change", NO_PROMISE, ids=lambda change: change.__name__)
def test_what_nobody_was_told_is_no_promise(change: Callable[[Town], None], tmp_path: Path) -> None:
    town = Town()
    change(town)
    assert broken(town, tmp_path) == {}


@pytest.mark.parametrize("listed", [True, False])
def test_a_session_that_was_left_alone_is_waited_for(tmp_path: Path, listed: bool) -> None:
    """Its window passes, and a gateway ends it: until then it runs, or is not even listed."""
    town = Town()
    town.drop(town.line("l0", "live_done"))
    kept = town.tasks[BOB]["t9"]
    if listed:
        town.tasks[BOB]["t9"] = kept | {"row": kept["row"] | {"state": "running"}}
    else:
        del town.tasks[BOB]["t9"]
    threading.Timer(1.5, lambda: town.tasks[BOB].update(t9=kept)).start()
    assert broken(town, tmp_path, wait_s=20.0) == {}


def test_as_a_program_it_tells_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    town = Town()
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps({"tokens": town.tokens}))
    report = tmp_path / "report.json"
    with town:
        journal = town.journal(tmp_path / "journal.jsonl")
        told = ["--journal", str(journal), "--url", town.url, "--tokens", str(tokens), "--report", str(report)]
        assert main(told) == 0
        assert "every promise was kept" in capsys.readouterr().out
        assert json.loads(report.read_text())["kept"] is True
        wrong_segment(town)
        town.lists = 0
        assert main(told) == 1
    said = capsys.readouterr().out
    assert "wrong_text (a transcript is not what was said)" in said
    assert "r0: pieces [1] of 2 differ" in said
    number = town.lines.index(town.line("r0", "chunk", 1)) + 1
    assert f"line {number}: r0 chunk" in said, "the journal's lines that show it"
    [violation] = json.loads(report.read_text())["violations"]
    assert (violation["rule"], violation["about"]) == ("wrong_text", "r0")


def test_a_journal_that_is_cut_off_ends_before_its_last_line(tmp_path: Path) -> None:
    journal = Town().journal(tmp_path / "journal.jsonl")
    whole = read(journal)
    journal.write_bytes(journal.read_bytes()[:-10])
    assert read(journal) == whole[:-1]
    journal.write_text("{}\n" + journal.read_text())
    with pytest.raises(ValueError, match="line 1"):
        read(journal)


def test_the_checker_knows_nothing_of_the_gateway() -> None:
    """It imports the standard library, httpx2, and its own modules, which do the same."""
    for name in CHECKER:
        tree = ast.parse((FOLDER / f"{name}.py").read_text())
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        own = {f"tests.chaos.cluster.{other}" for other in CHECKER}
        foreign = {
            module for module in imported - own if module.partition(".")[0] not in {*sys.stdlib_module_names, "httpx2"}
        }
        assert not foreign, (name, foreign)


def test_nor_does_it_load_it() -> None:
    code = "import sys, tests.chaos.cluster.check; print([m for m in sys.modules if m.split('.')[0] == 'cosygate'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=FOLDER.parents[2], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
