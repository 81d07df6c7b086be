"""What every door asks: remembered, bounded, ended by expiry and by revocation; by a clock that the test moves."""

from __future__ import annotations

import math
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from cosygate import errors
from cosygate.adapters.callers_keys import KeyCallers
from cosygate.adapters.records_sql import SqlRecords
from cosygate.flows.identifying import Identifying
from cosygate.model.api_key import ApiKey, hash_of, id_of, new_key
from cosygate.model.principal import LEEWAY_S, Principal
from cosygate.ports.keys import Keys, Revoked
from tests.support.clock import MovedClock, SeededRandomness
from tests.support.records import open_records


class Shelf:
    """The real rows, and how often they were asked for; `broken` is how the database fails."""

    def __init__(self, records: SqlRecords, clock: MovedClock) -> None:
        self._keys = records.keys
        self._revocations = records.revocations
        self._clock = clock
        self.broken: Exception | None = None
        self.found: list[str] = []
        self.times: list[dict[str, float]] = []
        self.news: list[bool] = []  # of each look: whether there was any

    def __getattr__(self, name: str) -> Any:
        return getattr(self._keys, name, None) or getattr(self._revocations, name)

    async def find(self, key_id: str) -> ApiKey | None:
        self.found.append(key_id)
        return await self._keys.find(key_id)

    async def used(self, times: Mapping[str, float]) -> None:
        self.times.append(dict(times))
        await self._keys.used(times)

    async def read(self, mark: tuple[int, float], now: float) -> Revoked | None:
        if self.broken:
            raise self.broken
        fresh = await self._revocations.read(mark, now)
        self.news.append(fresh is not None)
        return fresh

    async def revoke(self, *credentials: str) -> None:
        for credential in credentials:
            await self._revocations.token(credential, 9e9, self._clock.now())


class Tokens:
    """An adapter that believes anything: `sub credential issued_at expires_at`."""

    def __init__(self) -> None:
        self.asked = 0

    async def identify(self, credential: str) -> Principal:
        self.asked += 1
        subject, what, issued_at, expires_at = credential.split()
        return Principal(subject, credential=what, issued_at=float(issued_at), expires_at=float(expires_at))


class Desk:
    def __init__(self, records: SqlRecords) -> None:
        self.clock = MovedClock()
        self.shelf = Shelf(records, self.clock)
        self.tokens = Tokens()
        self._made = 0
        self.who = self.opened()

    def opened(self, remembered: int = 4096) -> Identifying:
        """As another gateway process."""
        callers = KeyCallers(cast("Keys", self.shelf), otherwise=self.tokens)
        shelf: Any = self.shelf
        return Identifying(callers, shelf, shelf, self.clock, remembered=remembered)

    def token(self, subject: str = "ann", jti: str = "1", *, age_s: float = 0.0, ttl_s: float = 60.0) -> str:
        return f"{subject} jti:{jti} {self.clock.now() - age_s} {self.clock.now() + ttl_s}"

    async def key(self, *, ttl_s: float | None = None, revoked: bool = False) -> str:
        self._made += 1
        text = new_key(SeededRandomness(self._made))
        now = self.clock.now()
        row = ApiKey(
            id=id_of(text) or "",
            hash=hash_of(text),
            name="",
            tenant="default",
            subject="kim",
            scopes=frozenset({"live"}),
            created_at=now,
            expires_at=None if ttl_s is None else now + ttl_s,
            revoked_at=now if revoked else None,
        )
        await self.shelf.add(row)
        return text


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    records = await open_records(tmp_path / "records.db")
    yield Desk(records)
    await records.close()


async def refused(desk: Desk, credential: str) -> str:
    with pytest.raises(errors.Unauthenticated) as why:
        await desk.who.identify(credential)
    return why.value.code


async def test_what_is_known_is_not_asked_again(desk: Desk) -> None:
    token, key = desk.token(), await desk.key()
    for _ in range(5):
        assert (await desk.who.identify(token)).subject == "ann"
        assert (await desk.who.identify(key)).owner == "default/kim"
    assert (desk.tokens.asked, len(desk.shelf.found)) == (1, 1)


async def test_remembering_is_bounded_and_the_newest_stay(desk: Desk) -> None:
    desk.who = desk.opened(remembered=3)
    tokens = [desk.token(f"s{n}", str(n)) for n in range(10)]
    for token in tokens:
        await desk.who.identify(token)
    assert list(desk.who._known) == tokens[-3:]


async def test_what_is_remembered_expires_too(desk: Desk) -> None:
    token, key = desk.token(ttl_s=60), await desk.key(ttl_s=60)
    for credential in (token, key):
        await desk.who.identify(credential)
    desk.clock.wall += 60 + LEEWAY_S
    for credential in (token, key):
        await desk.who.identify(credential)
    desk.clock.wall += 0.1
    for credential in (token, key):
        for _ in range(2):
            assert await refused(desk, credential) == "token_expired"
    assert desk.who._known == {}


async def test_a_key_without_an_end_has_none(desk: Desk) -> None:
    key = await desk.key()
    assert (await desk.who.identify(key)).expires_at == math.inf
    desk.clock.wall += 1e9
    await desk.who.identify(key)


async def test_wrong_keys(desk: Desk) -> None:
    key = await desk.key()
    never = new_key(SeededRandomness(99))
    assert await refused(desk, never) == "token_invalid"
    assert desk.shelf.found == [id_of(never)]
    # The right id and another secret, with the check digits that belong to it.
    other = new_key(SeededRandomness(98))
    mixed = key[:21] + other[21:64]
    mixed += new_check(mixed)
    assert id_of(mixed) == id_of(key)
    assert await refused(desk, mixed) == "token_invalid"
    assert await refused(desk, await desk.key(revoked=True)) == "token_revoked"
    asked = len(desk.shelf.found)
    bent = [key[:-1], key + "0", key[:-1] + ("0" if key[-1] != "0" else "1"), key.upper().replace("CSG", "csg"), "csg_"]
    bent += [key[:30] + ("A" if key[30] != "A" else "B") + key[31:], key + "\n", f"csg_{'a' * 1_000_000}", "csg_é"]
    for wrong in bent:
        assert await refused(desk, wrong) == "token_invalid"
    assert len(desk.shelf.found) == asked, "what cannot be a key is nothing to ask the database about"
    assert desk.tokens.asked == 0


def new_check(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def test_a_key_tells_nothing_of_itself() -> None:
    text = new_key(SeededRandomness())
    row = ApiKey(id_of(text) or "", hash_of(text), "n", "t", "s", frozenset(), 0.0)
    assert text not in repr(row) and row.hash not in repr(row)
    assert len({new_key(SeededRandomness(n)) for n in range(100)}) == 100


# --- revoked ---------------------------------------------------------------------------------------------------------


async def test_a_revoked_token_ends_with_the_next_look(desk: Desk) -> None:
    one, two, key = desk.token(jti="1"), desk.token(jti="2"), await desk.key()
    for credential in (one, two, key):
        await desk.who.identify(credential)
    await desk.shelf.revoke("jti:1", f"key:{id_of(key)}")
    await desk.who.look()
    assert await refused(desk, one) == await refused(desk, key) == "token_revoked"
    await desk.who.identify(two)
    assert await refused(desk, one) == "token_revoked"  # also when it is asked about anew


async def test_all_of_an_owners_until_then(desk: Desk) -> None:
    old, new = desk.token(jti="old", age_s=1), desk.token(jti="new", age_s=-0.001)
    timeless = f"ann  0.0 {desk.clock.now() + 60}".replace("  ", " jti:x ")
    others = desk.token("bob", age_s=1)
    key = await desk.key()
    desk.clock.wall += 0.0005
    for owner in ("default/ann", "default/kim"):
        await desk.shelf.owner(owner, 9e9, desk.clock.now())
    await desk.who.look()
    for credential in (old, timeless, key):
        assert await refused(desk, credential) == "token_revoked"
    for credential in (new, others):
        await desk.who.identify(credential)
    await desk.who.identify(desk.token(jti="now"))


async def test_a_token_that_says_no_jti_is_not_everybodys(desk: Desk) -> None:
    await desk.shelf.revoke("jti:1")
    await desk.who.look()
    caller = Principal("ann")
    assert desk.who.holds(caller)
    desk.who.check(caller)


async def test_tickets_are_checked_by_their_holder(desk: Desk) -> None:
    holder = await desk.who.identify(desk.token(jti="1"))
    desk.who.check(holder)
    assert desk.who.holds(holder)
    await desk.shelf.revoke("jti:1")
    await desk.who.look()
    with pytest.raises(errors.TokenRevoked):
        desk.who.check(holder)
    assert not desk.who.holds(holder)
    expired = await desk.who.identify(desk.token(jti="2"))
    desk.clock.wall += 60 + LEEWAY_S + 1
    with pytest.raises(errors.TokenExpired):
        desk.who.check(expired)


async def test_the_first_caller_waits_for_the_first_look(desk: Desk) -> None:
    """Else a gateway that has just started would let in what was revoked before."""
    await desk.shelf.revoke("jti:1")
    assert await refused(desk, desk.token(jti="1")) == "token_revoked"
    desk.who = desk.opened()
    desk.shelf.broken = errors.DatabaseBusy()
    await desk.who.look()
    with pytest.raises(errors.DatabaseBusy):
        await desk.who.identify(desk.token())


@pytest.mark.parametrize("broken", [errors.DatabaseBusy(), TimeoutError()])
async def test_while_the_database_cannot_be_read_the_last_look_holds(
    desk: Desk, broken: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    await desk.shelf.revoke("jti:1")
    await desk.who.look()
    desk.shelf.broken = broken
    await desk.shelf.revoke("jti:2")
    for _ in range(3):
        await desk.who.look()
    assert await refused(desk, desk.token(jti="1")) == "token_revoked"
    await desk.who.identify(desk.token(jti="2"))
    assert capsys.readouterr().out.count("revocations.unread") == 1  # once, not every other second
    desk.shelf.broken = None
    await desk.who.look()
    assert await refused(desk, desk.token(jti="2")) == "token_revoked"
    assert capsys.readouterr().out.count("revocations.read") == 1


async def test_looks_ask_for_what_is_new(desk: Desk) -> None:
    await desk.shelf.revoke("jti:1")
    for _ in range(3):
        await desk.who.look()
    assert desk.shelf.news == [True, False, False]


async def test_with_each_change_everybody_is_looked_at_again(desk: Desk) -> None:
    """A revocation's row goes when no token can be so old; what is remembered would outlive it."""
    token = desk.token(jti="2")
    await desk.who.identify(token)
    await desk.who.look()
    await desk.who.identify(token)
    assert desk.tokens.asked == 1
    await desk.shelf.revoke("jti:1")
    await desk.who.look()
    await desk.who.identify(token)
    assert desk.tokens.asked == 2


async def test_what_is_under_way_is_told_once(desk: Desk) -> None:
    told: list[tuple[str, str]] = []
    for jti in ("1", "2", "3"):
        caller = await desk.who.identify(desk.token(jti=jti))
        stop = desk.who.watch(caller, lambda error, jti=jti: told.append((jti, error.code)))  # type: ignore[misc]
        if jti == "3":
            stop()
            stop()
    await desk.who.look()
    assert told == []
    await desk.shelf.revoke("jti:1", "jti:3")
    await desk.who.look()
    await desk.who.look()
    assert told == [("1", "token_revoked")]
    desk.clock.wall += 60 + LEEWAY_S + 1
    desk.shelf.broken = errors.DatabaseBusy()
    await desk.who.look()  # expiry needs no database
    assert told == [("1", "token_revoked"), ("2", "token_expired")]
    assert desk.who._watched == {}


async def test_who_stops_watching_while_others_are_told(desk: Desk) -> None:
    told: list[str] = []
    stops: list[Callable[[], None]] = []

    def end(_: errors.CosyGateError) -> None:
        told.append("")
        for stop in stops:
            stop()

    stops += [desk.who.watch(Principal("ann", credential="jti:1"), end) for _ in range(3)]
    await desk.shelf.revoke("jti:1")
    await desk.who.look()
    assert len(told) == 1


async def test_forgetting_asks_again(desk: Desk) -> None:
    token = desk.token()
    await desk.who.identify(token)
    desk.who.forget()
    await desk.who.identify(token)
    assert desk.tokens.asked == 2


async def test_when_a_key_was_used_last_is_noted_once_in_a_while(desk: Desk) -> None:
    key, other = await desk.key(), await desk.key()
    for _ in range(100):
        await desk.who.identify(key)
        desk.clock.wall += 0.1
    last = desk.clock.now() - 0.1
    await desk.who.identify(desk.token())
    await desk.who.note_uses()
    await desk.who.note_uses()
    assert desk.shelf.times == [{id_of(key): pytest.approx(last)}]
    await desk.who.identify(other)
    await desk.who.note_uses()
    assert list(desk.shelf.times[1]) == [id_of(other)]


async def test_a_refused_key_was_not_used(desk: Desk) -> None:
    key = await desk.key(ttl_s=1)
    desk.clock.wall += 10
    await refused(desk, key)
    await desk.who.note_uses()
    assert desk.shelf.times == []
