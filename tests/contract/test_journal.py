"""The contract of ports/journal.py, over every journal in tests/support/journals.py."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cosygate import errors
from cosygate.ports.journal import Journal, Past, Sound
from tests.support.journals import HELD_LATE_S, JOURNALS, PARAMS, Opener, audio, event, held_by, sound, story, whole

S1, S2 = "1" * 32, "2" * 32
WAITING = 4 * 1024**2


@pytest.fixture(params=PARAMS)
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def opener(variant: str) -> Opener:
    return JOURNALS[variant]


@pytest.fixture
def late_s(variant: str) -> float:
    return HELD_LATE_S[variant]


@pytest.fixture
async def journal(opener: Opener, tmp_path: Path) -> AsyncIterator[Journal]:
    async with opener(tmp_path / "journal", WAITING) as opened:
        yield opened


@pytest.fixture
async def stranger(opener: Opener, tmp_path: Path, journal: Journal) -> AsyncIterator[Journal]:
    """The same journal, seen by somebody who shares no memory with `journal`."""
    async with opener(tmp_path / "journal", WAITING) as opened:
        yield opened


async def news(journal: Journal, session: str, after: str) -> tuple[list[Any], str]:
    """Every event behind `after`."""
    found: list[Any] = []
    while True:
        events, after = await journal.events(session, after)
        if not events:
            return found, after
        found += events


# --- append, read, claim -----------------------------------------------------------------------------------------


async def test_a_new_session_has_no_past(journal: Journal) -> None:
    claimed = await journal.claim(S1, 1)
    assert claimed.past == Past(None, [], 0, 0)
    assert claimed.writer.held()
    assert await claimed.writer.read(0, 100) == b""


async def test_what_is_acknowledged_is_there_for_the_next_holder(journal: Journal, stranger: Journal) -> None:
    writer = (await journal.claim(S1, 1)).writer
    await writer.append(sound(0, 1000), event(0), sound(1000, 10))
    await writer.append(event(1))
    await writer.append(sound(1010, 70_000), event(2, text="ü"))
    assert await story(stranger, S1, 2) == (
        Past(None, [event(0), event(1), event(2, text="ü")], 0, 71_010),
        audio(0, 71_010),
    )
    assert await story(journal, S1, 7) == (
        Past(None, [event(0), event(1), event(2, text="ü")], 0, 71_010),
        audio(0, 71_010),
    )


async def test_the_last_append_stands_for_all_before_it(journal: Journal, stranger: Journal) -> None:
    writer = (await journal.claim(S1, 1)).writer
    appends = [writer.append(sound(at * 100, 100), event(at)) for at in range(300)]
    await appends[-1]
    assert all(one.done() for one in appends)
    past, data = await story(stranger, S1, 2)
    assert past.events == [event(at) for at in range(300)]
    assert data == audio(0, 30_000)


async def test_nobody_needs_to_wait_for_an_append(journal: Journal, stranger: Journal) -> None:
    writer = (await journal.claim(S1, 1)).writer
    writer.append(sound(0, 10))
    writer.append(event(0))
    cancelled = writer.append(event(1))
    cancelled.cancel()
    await writer.close()
    await writer.close()
    assert await story(stranger, S1, 2) == (Past(None, [event(0), event(1)], 0, 10), audio(0, 10))
    with pytest.raises(errors.Unavailable):
        await writer.append(event(2))
    assert not writer.held()


async def test_reading(journal: Journal) -> None:
    writer = (await journal.claim(S1, 1)).writer
    data = b""
    for at, size in [(0, 1), (1, 3200), (4000, 1), (4001, 200_000), (300_000, 5)]:
        writer.append(sound(at, size), event(at))
        data += bytes(at - len(data)) + audio(at, size)
        assert await writer.read(max(0, len(data) - 7), 100) == data[-7:]  # sees what is on its way
    for start in (0, 1, 3200, 3201, 3999, 4000, 100_000, 204_001, 299_999, 300_004, 300_005, 400_000):
        for limit in (0, 1, 4000, 10**6):
            assert await writer.read(start, limit) == data[start : start + limit]
    assert await whole(writer) == data


async def test_audio_in_grains(journal: Journal, stranger: Journal) -> None:
    """However few bytes each append has, what is read is all of it, in pieces that are never empty before the end."""
    writer = (await journal.claim(S1, 1)).writer
    end = 0
    for turn in range(60):
        grains = [writer.append(sound(end + n * 2, 2)) for n in range(40)]
        grains.append(writer.append(sound(end + 80, 2), sound(end + 82, 3), sound(end + 90, 1), event(turn)))
        end += 91
        if turn % 7 == 0:
            await writer.append(sound(end, 9000))  # longer than what is joined
            end += 9000
        await grains[-1]
    expected = b"".join(audio(at, 85) + bytes(5) + audio(at + 90, 1) + audio(at + 91, tail) for at, tail in turns())
    assert await whole(writer) == expected
    for start in (1, 84, 85, 89, 91, 5000, end - 1):
        assert expected[start:].startswith(await writer.read(start, 10**6))
        assert await writer.read(start, 1) == expected[start : start + 1]
    past, data = await story(stranger, S1, 2)
    assert (past.end, data) == (end, expected)


def turns() -> list[tuple[int, int]]:
    """Where each turn of the test above begins, and how much follows it."""
    found, at = [], 0
    for turn in range(60):
        tail = 0 if turn % 7 else 9000
        found.append((at, tail))
        at += 91 + tail
    return found


async def test_sound_that_begins_late(journal: Journal, stranger: Journal) -> None:
    writer = (await journal.claim(S1, 1)).writer
    await writer.append(sound(50, 10))
    assert await story(stranger, S1, 2) == (Past(None, [], 0, 60), bytes(50) + audio(50, 10))


async def test_many_epochs_make_one_story(journal: Journal, stranger: Journal) -> None:
    for epoch in range(1, 12):
        claimed = await (journal if epoch % 2 else stranger).claim(S1, epoch * 3)
        assert claimed.past.events == [event(n) for n in range((epoch - 1) // 2)]
        if epoch % 2 == 0:  # every other one says nothing
            await claimed.writer.append(sound(claimed.past.end + 5, 1000), event(epoch // 2 - 1))
            assert len(await whole(claimed.writer)) == claimed.past.end + 1005
    past, data = await story(journal, S1, 100)
    assert past.end == len(data) == 5 * 1005
    assert data[4 * 1005 + 5 :] == audio(4 * 1005 + 5, 1000)


async def test_sessions_are_apart(journal: Journal) -> None:
    one, two = (await journal.claim(S1, 1)).writer, (await journal.claim(S2, 1)).writer
    await asyncio.gather(*(w.append(sound(n * 10, 10), event(n)) for n in range(50) for w in (one, two)))
    for session in (S1, S2):
        assert await story(journal, session, 2) == (Past(None, [event(n) for n in range(50)], 0, 500), audio(0, 500))


# --- fencing -----------------------------------------------------------------------------------------------------


async def test_a_claim_needs_a_higher_epoch(journal: Journal, stranger: Journal) -> None:
    first = await journal.claim(S1, 5)
    for side in (journal, stranger):
        for epoch in (1, 4, 5):
            with pytest.raises(errors.TakenOver):
                await side.claim(S1, epoch)
    assert first.writer.held()
    await first.writer.append(event(0))


async def test_whoever_was_overtaken_is_told_everywhere(journal: Journal, stranger: Journal, late_s: float) -> None:
    old = (await journal.claim(S1, 1)).writer
    await old.append(sound(0, 100), event(0))
    _, position = await stranger.events(S1, "")
    new = (await stranger.claim(S1, 2)).writer
    assert await held_by({1: old, 2: new}, late_s, [2]) == [2]
    with pytest.raises(errors.TakenOver):
        await old.append(sound(100, 100), event(1))
    with pytest.raises(errors.TakenOver):
        await old.append(event(1), passing=True)
    with pytest.raises(errors.TakenOver):
        await old.read(0, 10)
    with pytest.raises(errors.TakenOver):
        await old.compact({}, 100)
    await old.close()
    await new.append(sound(100, 1), event(2))
    assert (await news(journal, S1, position))[0] == [event(2)]
    assert await whole(new) == audio(0, 101)
    assert await story(journal, S1, 3) == (Past(None, [event(0), event(2)], 0, 101), audio(0, 101))


async def test_an_append_learns_at_once_that_it_was_overtaken(journal: Journal, stranger: Journal) -> None:
    """However late `held` may be told."""
    for turn in range(20):
        session = f"{turn:032x}"
        old = (await journal.claim(session, 1)).writer
        await stranger.claim(session, 2)
        with pytest.raises(errors.TakenOver):
            await old.append(event(0))
        assert not old.held()
        assert (await story(stranger, session, 3))[0].events == []


async def test_a_claim_in_the_same_process_is_known_at_once(journal: Journal) -> None:
    old = (await journal.claim(S1, 1)).writer
    new = (await journal.claim(S1, 2)).writer
    assert not old.held() and new.held()


async def test_claims_that_race_leave_the_highest(journal: Journal, stranger: Journal, late_s: float) -> None:
    for turn in range(20):
        session = f"{turn:032x}"
        epochs = [3, 1, 4, 2]
        claims = [(journal if epoch % 2 else stranger).claim(session, epoch) for epoch in epochs]
        outcomes = await asyncio.gather(*claims, return_exceptions=True)
        claimed = zip(epochs, outcomes, strict=True)
        writers = {e: one.writer for e, one in claimed if not isinstance(one, BaseException)}
        assert await held_by(writers, late_s, [4]) == [4]
        assert all(isinstance(one, errors.TakenOver) for one in outcomes if isinstance(one, BaseException))


async def test_two_epochs_race_and_no_acknowledged_append_is_lost(journal: Journal, stranger: Journal) -> None:
    """Whatever an overtaken writer was told is there, once and in order; and nothing after the claim."""
    for turn in range(10):
        session = f"{turn:032x}"
        old = (await journal.claim(session, 1)).writer
        appends = []
        claiming = asyncio.ensure_future(stranger.claim(session, 2))
        for number in range(10_000):
            appends.append(old.append(event(number)))
            if claiming.done() and number % 50 == 0:
                break
            if number % 5 == 0:
                await asyncio.sleep(0)
        past = (await claiming).past
        outcomes = await asyncio.gather(*appends, return_exceptions=True)
        acknowledged = [n for n, one in enumerate(outcomes) if one is None]
        told = [one["id"] for one in past.events]
        assert told == list(range(len(told)))
        assert acknowledged == list(range(len(acknowledged)))
        assert len(acknowledged) <= len(told) < len(appends)
        assert all(one is None or isinstance(one, errors.TakenOver) for one in outcomes)


# --- compact -----------------------------------------------------------------------------------------------------


async def test_compacting_replaces_what_was_before(journal: Journal, stranger: Journal) -> None:
    writer = (await journal.claim(S1, 1)).writer
    await writer.append(sound(0, 300_000), event(0))
    await writer.append({"type": "partial"}, passing=True)
    await writer.append(sound(300_010, 90), event(1))
    await writer.compact({"finals": 2}, 200_001)
    data = (audio(0, 300_000) + bytes(10) + audio(300_010, 90))[200_001:]
    assert await writer.read(200_001, 10**6) == data
    with pytest.raises(ValueError, match="any more"):
        await writer.read(200_000, 1)
    await writer.append(sound(300_100, 5), event(2))
    data += audio(300_100, 5)
    assert await writer.read(200_001, 10**6) == data
    assert await story(stranger, S1, 2) == (Past({"finals": 2}, [event(2)], 200_001, 300_105), data)


@pytest.mark.parametrize(("keep_from", "first"), [(0, 40), (40, 40), (50, 50), (100, 100), (1000, 100)])
async def test_compacting_again(journal: Journal, stranger: Journal, keep_from: int, first: int) -> None:
    writer = (await journal.claim(S1, 1)).writer
    await writer.append(sound(0, 60), event(0))
    await writer.compact({"n": 1}, 40)
    await writer.append(sound(60, 40), event(1))
    await writer.compact({"n": 2}, keep_from)
    assert await story(stranger, S1, 2) == (Past({"n": 2}, [], first, 100), audio(0, 100)[first:])
    writer = (await journal.claim(S1, 3)).writer  # nothing was said meanwhile
    await writer.compact({"n": 3}, 100)
    assert await story(stranger, S1, 4) == (Past({"n": 3}, [], 100, 100), b"")
    writer = (await journal.claim(S1, 5)).writer
    await writer.append(sound(100, 10))
    assert await story(stranger, S1, 6) == (Past({"n": 3}, [], 100, 110), audio(100, 10))


async def test_appends_during_a_compaction_are_neither_lost_nor_reordered(journal: Journal, stranger: Journal) -> None:
    writer = (await journal.claim(S1, 1)).writer
    written = [audio(0, 500_000)]
    await writer.append(Sound(0, written[0]))
    _, position = await stranger.events(S1, "")
    number = 0
    for _ in range(5):
        writer.append(event(number))
        number += 1
        compacting = asyncio.ensure_future(writer.compact({"before": number}, 100_000))
        await asyncio.sleep(0)
        while not compacting.done():
            at = sum(map(len, written))
            written.append(audio(at, 700))
            await writer.append(Sound(at, written[-1]), event(number))
            number += 1
        await compacting
    past, data = await story(stranger, S1, 2)
    assert past.snapshot is not None
    assert past.events == [event(n) for n in range(past.snapshot["before"], number)]
    assert data == b"".join(written)[100_000:]
    seen = [one["id"] for one in (await news(stranger, S1, position))[0]]
    assert seen == [one["id"] for one in past.events]  # the rest was compacted away


async def test_an_append_behind_a_compaction_is_not_replaced_by_it(journal: Journal, stranger: Journal) -> None:
    """However much of what was before it has to wait."""
    writer = (await journal.claim(S1, 1)).writer
    for number in range(0, 60, 3):
        writer.append(event(number))
        await asyncio.sleep(0)
        writer.append(event(number + 1))
        compacting = asyncio.ensure_future(writer.compact({"before": number + 2}, 0))
        await asyncio.sleep(0)
        await writer.append(event(number + 2))
        await compacting
        past = (await stranger.claim(S1, number + 2)).past
        assert past == Past({"before": number + 2}, [event(number + 2)], 0, 0)
        writer = (await journal.claim(S1, number + 3)).writer


# --- watchers ----------------------------------------------------------------------------------------------------


async def test_watchers_see_what_is_appended_after_their_position(journal: Journal, stranger: Journal) -> None:
    writer = (await journal.claim(S1, 1)).writer
    await writer.append(sound(0, 100), event(0))
    none, position = await stranger.events(S1, "")
    assert none == []
    assert await stranger.events(S1, position) == ([], position)
    await writer.append(sound(100, 100))
    assert (await stranger.events(S1, position))[0] == []
    await writer.append(event(1), sound(200, 100_000), event(2))
    await writer.append({"type": "partial"}, passing=True)
    await writer.append(event(3))
    for side in (journal, stranger):
        events, behind = await side.events(S1, position)
        assert events == [event(1), event(2), {"type": "partial"}, event(3)]
        assert await side.events(S1, behind) == ([], behind)
    past, _ = await story(journal, S1, 2)
    assert past.events == [event(0), event(1), event(2), event(3)]  # nothing passing


async def test_watchers_get_at_most_500_at_once_and_miss_none(journal: Journal, stranger: Journal) -> None:
    writer = (await journal.claim(S1, 1)).writer
    _, position = await stranger.events(S1, "")
    writer.append(*(event(n) for n in range(700)))  # one append's events may be given in two
    for n in range(700, 1700):
        writer.append(event(n))
    await writer.append(event(1700))
    sizes, seen = [], []
    while True:
        events, position = await stranger.events(S1, position)
        if not events:
            break
        sizes.append(len(events))
        seen += events
    assert seen == [event(n) for n in range(1701)]
    assert max(sizes) == 500


async def test_positions_outlive_epochs_and_compactions(journal: Journal, stranger: Journal) -> None:
    number = 0
    writer = (await journal.claim(S1, 1)).writer
    _, position = await stranger.events(S1, "")
    _, sleeper = await stranger.events(S1, "")
    for epoch in range(2, 8):
        for _ in range(3):
            await writer.append(event(number), sound(number * 10, 10))
            number += 1
        events, position = await news(stranger, S1, position)
        assert [one["id"] for one in events] == [number - 3, number - 2, number - 1]
        if epoch % 2:
            await writer.compact({"finals": number}, number * 10)
            assert (await news(stranger, S1, position))[0] == []
        if epoch % 3:
            writer = (await (journal if epoch % 2 else stranger).claim(S1, epoch)).writer
    await writer.append(event(number))
    events, _ = await news(journal, S1, position)
    assert events == [event(number)]
    events, _ = await news(journal, S1, sleeper)  # what was compacted away it has missed
    seen = [one["id"] for one in events]
    assert seen and seen == list(range(seen[0], number + 1))


async def test_a_session_that_is_not_there_yet_is_watched_from_its_start(journal: Journal, stranger: Journal) -> None:
    none, position = await stranger.events(S1, "")
    assert none == []
    assert await stranger.events(S1, position) == ([], position)
    writer = (await journal.claim(S1, 1)).writer
    await writer.append(event(0))
    assert (await stranger.events(S1, position))[0] == [event(0)]


# --- drop, sessions ----------------------------------------------------------------------------------------------


async def test_dropping(journal: Journal, stranger: Journal, late_s: float) -> None:
    writer = (await journal.claim(S1, 5)).writer
    other = (await journal.claim(S2, 5)).writer
    await writer.append(sound(0, 10), event(0))
    _, position = await stranger.events(S1, "")
    await stranger.drop(S1)
    await stranger.drop(S1)
    assert await held_by({1: writer, 2: other}, late_s, [2]) == [2]
    with pytest.raises(errors.TakenOver):
        await writer.append(event(1))
    with pytest.raises(errors.TakenOver):
        await writer.read(0, 10)
    with pytest.raises(errors.TakenOver):
        await writer.compact({}, 0)
    await writer.close()
    for side in (journal, stranger):
        assert await side.events(S1, position) == ([], position)
        assert list(await side.sessions()) == [S2]
    assert (await journal.claim(S1, 1)).past == Past(None, [], 0, 0)


async def test_sessions_tell_their_age(journal: Journal, stranger: Journal) -> None:
    assert await journal.sessions() == {}
    for session in (S1, S2):
        await (await journal.claim(session, 1)).writer.append(event(0))
    ages = await stranger.sessions()
    assert sorted(ages) == [S1, S2]
    assert all(0 <= age < 30 for age in ages.values())


@pytest.mark.parametrize("session", ["", "1", "../" + "1" * 29, "A" * 32, "1" * 31 + "\n", "1" * 33])
async def test_only_ids_are_taken(journal: Journal, session: str) -> None:
    with pytest.raises(ValueError, match="session id"):
        await journal.claim(session, 1)
    with pytest.raises(ValueError, match="session id"):
        await journal.events(session, "")
    with pytest.raises(ValueError, match="session id"):
        await journal.drop(session)


# --- what is refused ---------------------------------------------------------------------------------------------


async def test_more_than_may_wait_is_refused_and_breaks_its_writer_alone(journal: Journal, stranger: Journal) -> None:
    writer, other = (await journal.claim(S1, 1)).writer, (await journal.claim(S2, 1)).writer
    appends = [writer.append(Sound(n * 1024**2, bytes(1024**2)), event(n)) for n in range(6)]
    outcomes = await asyncio.gather(*appends, return_exceptions=True)
    stored = outcomes.index(next(one for one in outcomes if one is not None))
    assert outcomes[:stored] == [None] * stored and stored in (3, 4)
    assert all(isinstance(one, errors.Unavailable) for one in outcomes[stored:])
    with pytest.raises(errors.Unavailable):
        await writer.append(event(9))
    with pytest.raises(errors.Unavailable):
        await writer.compact({}, 0)
    await other.append(event(0))
    assert (await story(stranger, S1, 2))[0] == Past(None, [event(n) for n in range(stored)], 0, stored * 1024**2)


async def test_a_callers_mistakes_are_told_and_store_nothing(journal: Journal, stranger: Journal) -> None:
    for number, wrong in enumerate(
        [(sound(5, 10),), (event(1), {"a": object()}), (sound(20, 5), sound(22, 5)), ({1: 2},)]  # type: ignore[list-item]
    ):
        session = f"{number:032x}"
        writer = (await journal.claim(session, 1)).writer
        await writer.append(sound(0, 10), event(0))
        with pytest.raises((ValueError, TypeError)):
            await writer.append(*wrong)
        with pytest.raises((ValueError, TypeError)):
            await writer.append(event(1))
        assert await story(stranger, session, 2) == (Past(None, [event(0)], 0, 10), audio(0, 10))


async def test_failures_that_nobody_waits_for_are_silent(journal: Journal, stranger: Journal) -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    writer = (await journal.claim(S1, 1)).writer
    await stranger.claim(S1, 2)
    writer.append(event(0))
    writer.append({"a": object()})
    writer.append(event(0))
    await writer.close()
    writer.append(event(0))
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []
