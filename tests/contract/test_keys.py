"""The contract of ports/keys.py, over every adapter that claims to keep it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from cosygate import errors
from cosygate.adapters.records_sql import SqlRecords
from cosygate.adapters.records_sql.keys import TICKETS_LIVE_S, SqlRevocations
from cosygate.adapters.tickets_hmac import HmacTickets
from cosygate.api.live_http import SHARE_MAX_S
from cosygate.flows.identifying import Identifying
from cosygate.flows.keyring import Keyring
from cosygate.model.api_key import ApiKey, hash_of, id_of
from cosygate.model.principal import DEFAULT_SCOPES, Principal, Scope, key_credential, token_credential
from cosygate.ports.callers import Callers
from cosygate.ports.keys import Revoked
from cosygate.ports.tickets import SHARE
from tests.support.clock import MovedClock, SeededRandomness
from tests.support.records import Place

NOW = 1_800_000_000.25
LATER = NOW + 1_000
ONE = ApiKey("1", "h" * 64, "phone", "acme", "ann", frozenset({"live", "task:read"}), NOW)
TWO = replace(ONE, id="2", tenant="other", scopes=frozenset(), expires_at=NOW + 5)
THREE = replace(ONE, id="3", name="")

Door = Callable[[], Awaitable[SqlRecords]]


@pytest.fixture
def busy_s() -> float:
    return 0.5


async def void(records: SqlRecords, mark: tuple[int, float] = (0, 0.0)) -> Revoked:
    found = await records.revocations.read(mark, NOW)
    assert found is not None
    return found


async def test_a_key_is_found_as_it_was_added(records: SqlRecords, door: Door) -> None:
    assert await records.keys.find("1") is None
    for key in (ONE, TWO):
        await records.keys.add(key)
    other = await door()
    for key in (ONE, TWO):
        assert await records.keys.find(key.id) == await other.keys.find(key.id) == key
    await other.close()


async def test_keys_by_page_and_by_tenant(records: SqlRecords) -> None:
    for key in (THREE, ONE, TWO):
        await records.keys.add(key)
    assert await records.keys.page(None, "", 10) == [ONE, TWO, THREE]
    assert await records.keys.page(None, "", 2) == [ONE, TWO]
    assert await records.keys.page(None, "2", 10) == [THREE]
    assert await records.keys.page("acme", "", 1) == [ONE]
    assert await records.keys.page("acme", "1", 1) == [THREE]
    assert await records.keys.page("nobody", "", 10) == []


async def test_the_last_use_never_goes_back(records: SqlRecords) -> None:
    for key in (ONE, TWO):
        await records.keys.add(key)
    await records.keys.used({"1": LATER, "gone": LATER})
    await records.keys.used({"1": NOW, "2": NOW})
    assert [key.used_at for key in await records.keys.page(None, "", 10)] == [LATER, NOW]
    await records.keys.used({})


async def test_a_revoked_key_stays_revoked(records: SqlRecords) -> None:
    await records.keys.add(ONE)
    assert await records.revocations.key("nothing", NOW) is False
    assert await records.revocations.read((0, 0.0), NOW) is None
    for now in (NOW, LATER):
        assert await records.revocations.key("1", now) is True
    assert await records.keys.find("1") == replace(ONE, revoked_at=NOW)
    assert (await void(records)).credentials == {key_credential("1")}


async def test_what_is_void_is_told_when_it_has_changed(records: SqlRecords, door: Door) -> None:
    """To every process, and only then."""
    other = await door()
    assert await other.revocations.read((0, 0.0), NOW) is None
    await records.revocations.token("jti:a", LATER, NOW)
    first = await void(other)
    assert (first.credentials, first.owners) == ({"jti:a"}, {})
    assert await other.revocations.read(first.mark, NOW) is None
    await records.revocations.owner("acme/ann", LATER, NOW)
    second = await void(other, first.mark)
    assert (second.credentials, second.owners) == ({"jti:a"}, {"acme/ann": NOW})
    await records.revocations.owner("acme/ann", LATER, NOW + 1)  # again: what they got in between
    third = await void(other, second.mark)
    assert third.owners == {"acme/ann": NOW + 1}
    await records.revocations.owner("acme/ann", LATER, NOW - 50)  # by a clock that went back
    assert await other.revocations.read(third.mark, NOW) is None
    await other.close()


async def test_an_owners_keys_go_with_them(records: SqlRecords) -> None:
    for key in (ONE, TWO, THREE, replace(ONE, id="4", subject="bob")):
        await records.keys.add(key)
    await records.revocations.key("3", NOW)
    assert await records.revocations.owner("acme/ann", LATER, NOW + 1) == 1
    found = await records.keys.page(None, "", 10)
    assert [key.revoked_at for key in found] == [NOW + 1, None, NOW, None]


async def test_what_can_void_nothing_any_more_is_forgotten(records: SqlRecords) -> None:
    await records.revocations.token("jti:a", NOW + 10, NOW)
    await records.revocations.token("jti:b", LATER, NOW)
    await records.revocations.token("jti:old", NOW - 1e6, NOW + 1)  # no sooner than what was got with it
    await records.revocations.token("jti:c", LATER, NOW + TICKETS_LIVE_S + 11)
    assert (await void(records)).credentials == {"jti:b", "jti:c"}
    await records.revocations.token("jti:old", NOW - 1e6, NOW)
    await records.revocations.token("jti:d", LATER, NOW + TICKETS_LIVE_S)
    assert (await void(records)).credentials == {"jti:b", "jti:c", "jti:d", "jti:old"}


async def test_there_are_not_too_many(records: SqlRecords) -> None:
    records.revocations = SqlRevocations(records._database, most=2)
    await records.keys.add(ONE)
    await records.revocations.token("jti:a", LATER, NOW)
    await records.revocations.token("jti:b", LATER, NOW)
    with pytest.raises(errors.StorageFull):
        await records.revocations.token("jti:c", LATER, NOW)
    with pytest.raises(errors.StorageFull):
        await records.revocations.key("1", NOW)
    assert await records.keys.find("1") == ONE, "all or nothing"
    await records.revocations.token("jti:a", LATER, NOW)  # again is not more


async def test_a_locked_database_changes_nothing(records: SqlRecords, place: Place) -> None:
    await records.keys.add(ONE)
    with place.locked("IMMEDIATE"):
        for write in (
            records.keys.add(TWO),
            records.keys.used({"1": NOW}),
            records.revocations.key("1", NOW),
            records.revocations.token("jti:a", LATER, NOW),
            records.revocations.owner("acme/ann", LATER, NOW),
        ):
            with pytest.raises(errors.DatabaseBusy):
                await write
        assert await records.keys.find("1") == ONE  # readers wait for no writer
        assert await records.revocations.read((0, 0.0), NOW) is None
    assert await records.keys.page(None, "", 10) == [ONE]


# --- the operator's hand, over it ------------------------------------------------------------------------------------


@pytest.fixture
def ring(records: SqlRecords) -> Keyring:
    return Keyring(records.keys, records.revocations, MovedClock(NOW), SeededRandomness())


async def test_a_key_that_is_made_is_stored_by_its_hash(ring: Keyring, records: SqlRecords, place: Place) -> None:
    text = await ring.create("ann", tenant="acme", scopes=None, name="phone", ttl_s=60)
    (stored,) = [key async for key in ring.all(None)]
    assert stored == ApiKey(
        id_of(text) or "", hash_of(text), "phone", "acme", "ann", DEFAULT_SCOPES, NOW, expires_at=NOW + 60
    )
    if place.sqlite:
        on_disk = b"".join(path.read_bytes() for path in place.path.parent.glob("records.db*"))
    else:
        on_disk = str(place.rows("SELECT * FROM api_keys")).encode()
    assert stored.hash.encode() in on_disk
    assert text.encode() not in on_disk and text[21:64].encode() not in on_disk


async def test_all_keys_are_listed_however_many(ring: Keyring) -> None:
    made = [await ring.create("ann", tenant="acme", scopes=[Scope.LIVE], name="", ttl_s=None) for _ in range(205)]
    assert {key.id async for key in ring.all("acme")} == {id_of(text) for text in made}
    assert [key async for key in ring.all("other")] == []


@pytest.mark.parametrize("names", [{"subject": "a/b"}, {"tenant": ""}, {"name": "x" * 101}, {"name": "a\nb"}])
async def test_names_of_keys(ring: Keyring, names: dict[str, str]) -> None:
    given = {"subject": "ann", "tenant": "acme", "name": ""} | names
    with pytest.raises(ValueError):
        await ring.create(given.pop("subject"), scopes=None, ttl_s=None, **given)  # type: ignore[arg-type]
    assert [key async for key in ring.all(None)] == []


async def test_revoking(ring: Keyring, records: SqlRecords) -> None:
    key_id = id_of(await ring.create("ann", tenant="acme", scopes=None, name="", ttl_s=None)) or ""
    await ring.revoke_token("j 1", NOW + 60)
    assert await ring.revoke_owner("ann", "acme") == 1
    assert await ring.revoke_key(key_id) is True
    assert await ring.revoke_key("nothing") is False
    found = await void(records)
    assert found.credentials == {token_credential("j 1")}
    assert found.owners == {"acme/ann": NOW}
    with pytest.raises(ValueError):
        await ring.revoke_owner("ann/x", "acme")


async def test_what_was_got_with_a_revoked_token_stays_void_while_it_lives(records: SqlRecords) -> None:
    """A share ticket outlives its token; the revocation outlives both, whatever is revoked and forgotten meanwhile."""
    clock = MovedClock(NOW)
    ring = Keyring(records.keys, records.revocations, clock, SeededRandomness())
    tickets = HmacTickets("s" * 32, clock, SeededRandomness())
    ann = Principal("ann", credential=token_credential("hers"), issued_at=NOW - 5, expires_at=NOW + 60)
    share = tickets.issue(SHARE, "session", ann, SHARE_MAX_S)
    await ring.revoke_token("hers", ann.expires_at)
    for day in range(7):
        await ring.revoke_token(f"another-{day}", clock.now() + 60)
        just_started = Identifying(Nobody(), records.keys, records.revocations, clock)
        await just_started.look()
        with pytest.raises(errors.TokenRevoked):
            just_started.check(tickets.check(share, SHARE, "session").holder)
        await clock.advance(86_400 - 0.5)
    await clock.advance(7 * 0.5 + 2)
    with pytest.raises(errors.TokenExpired):
        tickets.check(share, SHARE, "session")


class Nobody(Callers):
    async def identify(self, credential: str) -> Principal:
        raise errors.TokenInvalid()
