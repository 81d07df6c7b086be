"""`python -m tests.chaos.cluster.check`: compares what clients were told, the journal, with what the API shows in the
end. It knows nothing else, and nothing of how the gateway is made: httpx2 and the standard library alone.

Exit status 0 when every promise was kept, 1 when one was not, 2 when the installation does not answer.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.chaos.cluster.journal import Line, read
from tests.chaos.cluster.live_rules import check_speech, promised
from tests.chaos.cluster.rules import RULES, check_recording
from tests.chaos.cluster.stories import Deletion, Story, Violation, stories
from tests.chaos.cluster.world import Api, Shown, Silent, World, wait_until_ended

WAIT_S = 180.0
_AT_ONCE = 8
_LINES_SHOWN, _LINE_SHOWN = 8, 300


@dataclass(frozen=True, slots=True)
class Report:
    violations: list[Violation]
    counts: dict[str, int]

    @property
    def kept(self) -> bool:
        return not self.violations

    def as_json(self) -> dict[str, Any]:
        return {
            "kept": self.kept,
            "counts": self.counts,
            "violations": [asdict(violation) for violation in self.violations],
        }

    def text(self) -> str:
        rows = [f"{name:34}{count:8}" for name, count in self.counts.items()]
        for violation in self.violations[:50]:
            rows += ["", f"{violation.rule} ({RULES[violation.rule]})", f"  {violation.about}: {violation.detail}"]
            rows += [f"  line {line.number}: {_shown(line)}" for line in violation.lines[:_LINES_SHOWN]]
        if len(self.violations) > 50:
            rows += ["", f"and {len(self.violations) - 50} more"]
        told = Counter(violation.rule for violation in self.violations)
        rows += ["", "every promise was kept" if self.kept else f"broken: {dict(told)}"]
        return "\n".join(rows)


def _shown(line: Line) -> str:
    return f"{line.who} {line.kind} {json.dumps(dict(line.data))}"[:_LINE_SHOWN]


def check(lines: Sequence[Line], api: Api, wait_s: float = WAIT_S) -> Report:
    """Waits until all has ended, then asks for all there is. Raises Silent."""
    told = stories(lines)
    worlds = wait_until_ended(api, wait_s, _left_alone(told))
    first = {row["task_id"]: row for world in worlds.values() for row in world.rows}
    shown = _all_shown(api, worlds)
    webhooks: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if line.kind == "webhook":
            webhooks[line.data["by"]].append(line)
    found: list[Violation] = []
    for story in told.values():
        world = worlds.get(story.principal, World())
        if story.asked.kind == "live_asked":
            found += _speech(story, world, shown, webhooks[story.who])
        else:
            found += _recording(api, story, world, shown, webhooks[story.who])
    found += _unasked(told, worlds)
    found += _changed_meanwhile(api, first, told)
    found += _receivers(told, webhooks)
    found += [Violation("client_broken", x.who, x.data["error"], (x,)) for x in lines if x.kind == "broken"]
    return Report(found, _counts(lines, told, first))


def _left_alone(told: Mapping[str, Story]) -> set[tuple[str, str]]:
    """Live sessions whose clients gave up after something was promised: they end by themselves, but late."""
    return {
        (story.principal, story.of("live_ready")[-1].data["session"])
        for story in told.values()
        if promised(story) and story.of("live_ready") and not story.of("live_done")
    }


def _receivers(told: Mapping[str, Story], webhooks: Mapping[str, Sequence[Line]]) -> Iterator[Violation]:
    """Of each webhook, whose it is by its address and by its signature."""
    for who, lines in webhooks.items():
        story = told.get(who)
        for line in lines:
            if story is None:
                yield Violation("webhook_wrong", who, "nobody has this address", (line,))
            signed_by = line.data["tenant"]
            if signed_by is None or (story and signed_by != story.tenant):
                yield Violation("webhook_forged", who, f"signed by {signed_by or 'nobody'}", (line,))


def _all_shown(api: Api, worlds: Mapping[str, World]) -> dict[str, Shown]:
    wanted = [(principal, row["task_id"]) for principal, world in worlds.items() for row in world.rows]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip([task for _, task in wanted], pool.map(lambda one: api.shown(*one), wanted), strict=True))


def _recording(
    api: Api, story: Story, world: World, shown: Mapping[str, Shown], webhooks: Sequence[Line]
) -> list[Violation]:
    session = story.asked.data["session"]
    rows = [row for row in world.rows if row["session_id"] == session]
    upload: dict[str, Any] | None = None
    if not rows:
        status, answer = api.upload(story.principal, session)
        upload = answer if status == 200 else None
    return check_recording(story, rows, upload, shown, webhooks)


def _speech(story: Story, world: World, shown: Mapping[str, Shown], webhooks: Sequence[Line]) -> list[Violation]:
    sessions = [line.data["session"] for line in story.of("live_ready")]
    row = world.of(sessions[-1]) if sessions else None
    return check_speech(story, row, shown.get(row["task_id"]) if row else None, webhooks)


def _unasked(told: Mapping[str, Story], worlds: Mapping[str, World]) -> Iterator[Violation]:
    """Tasks of sessions that no client of this principal began."""
    sessions = {(s.principal, s.asked.data["session"]) for s in told.values() if s.asked.kind == "asked"}
    live = {(s.principal, line.data["session"]) for s in told.values() for line in s.of("live_ready")}
    for principal, world in worlds.items():
        for row in world.rows:
            if (principal, row["session_id"]) not in sessions and (principal, row["task_id"]) not in live:
                yield Violation("unasked_task", principal, f"task {row['task_id']} of {row['session_id']}")


def _changed_meanwhile(api: Api, first: Mapping[str, Mapping[str, Any]], told: Mapping[str, Story]) -> list[Violation]:
    """The lists once more: what had ended is as it was."""
    owner = {task: story for story in told.values() for task in story.tasks()}
    found, seen = [], set()
    for principal in api.principals():
        for row in api.tasks(principal):
            task = row["task_id"]
            seen.add(task)
            if task in first and _end_of(row) != _end_of(first[task]):
                story = owner.get(task)
                lines = (story.asked,) if story else ()
                about = story.who if story else principal
                found.append(Violation("result_changed", about, f"task {task} changed while it was looked at", lines))
    for task in sorted(set(first) - seen):
        story = owner.get(task)
        if story and Deletion.of(story) is None:
            found.append(Violation("task_missing", story.who, f"task {task} went away", (story.asked,)))
    return found


def _end_of(row: Mapping[str, Any]) -> Any:
    return row["state"], row.get("result"), row.get("error")


def _counts(lines: Sequence[Line], told: Mapping[str, Story], first: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    kinds = Counter(line.kind for line in lines)
    states = Counter(row["state"] for row in first.values())
    files = [story for story in told.values() if story.asked.kind == "asked"]
    keep = [story for story in files if story.asked.data["fate"] == "keep"]
    return {
        "recordings asked for": len(files),
        "recordings acknowledged": sum(bool(story.tasks()) for story in files),
        "recordings to be kept": len(keep),
        "recordings kept, acknowledged": sum(bool(story.tasks()) for story in keep),
        "live sessions asked for": len(told) - len(files),
        "live sessions done": sum(bool(s.of("live_done")) for s in told.values()),
        "chunks acknowledged": kinds["chunk"],
        "finals told": kinds["live_final"],
        "webhooks received": kinds["webhook"],
        "given up by clients": kinds["gave_up"],
        "connections cut, as clients saw it": kinds["cut"],
        "answers of 429 or 5xx": kinds["later"],
        "faults": kinds["fault"],
        **{f"tasks {state}": count for state, count in sorted(states.items())},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.cluster.check", description=__doc__)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--tokens", type=Path, required=True, help="JSON with the clients' bearer tokens")
    parser.add_argument("--wait", type=float, default=WAIT_S, help="seconds that tasks may take to end")
    parser.add_argument("--report", type=Path, help="writes it there as JSON")
    args = parser.parse_args(arguments)
    api = Api(args.url, json.loads(args.tokens.read_text())["tokens"])
    try:
        report = check(read(args.journal), api, args.wait)
    except Silent as error:
        print(f"the installation does not answer: {error}", file=sys.stderr)
        return 2
    finally:
        api.close()
    if args.report:
        args.report.write_text(json.dumps(report.as_json(), indent=1))
    print(report.text())
    return 0 if report.kept else 1


if __name__ == "__main__":
    sys.exit(main())
