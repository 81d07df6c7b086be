"""Fetching a file from a server that cuts off, forgets Range, changes the file or sends too much."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cosygate.catalogue import ModelError
from cosygate.catalogue.entries import Source
from cosygate.catalogue.fetching import Patience, fetch
from tests.support.model_host import Asked, Behaviour, ModelHost, digest, noise

DATA = noise(1_000_000)
PATH = "/models/m.tar.bz2"


@pytest.fixture
def host() -> Iterator[ModelHost]:
    with ModelHost().serving() as running:
        running.files[PATH] = DATA
        yield running


@pytest.fixture
def waits() -> list[float]:
    return []


class Fetch:
    def __init__(self, host: ModelHost, into: Path, waits: list[float]) -> None:
        self.host, self.into, self.waits = host, into, waits
        self.told: list[tuple[int, int]] = []

    def __call__(self, *script: Behaviour, known: bool = False, url: str = "") -> bytes:
        self.host.script = list(script)
        address = url or self.host.url + PATH
        size = len(DATA) if known else 0
        source = Source(url=address, bytes=size, sha256=digest(DATA) if known else "")
        patience = Patience(tries=4, idle_s=2.0, wait=self.waits.append)
        fetch(source, address, self.into, lambda done, total: self.told.append((done, total)), patience)
        return self.into.read_bytes()


@pytest.fixture
def fetched(host: ModelHost, tmp_path: Path, waits: list[float]) -> Fetch:
    return Fetch(host, tmp_path / "m.tar.bz2", waits)


def ranges(asked: list[Asked]) -> list[str | None]:
    return [request.range for request in asked]


def test_a_file_comes_whole_and_progress_is_told(fetched: Fetch, host: ModelHost) -> None:
    assert fetched() == DATA
    assert fetched.told[-1] == (len(DATA), len(DATA))
    assert [done for done, _ in fetched.told] == sorted(done for done, _ in fetched.told)
    assert ranges(host.asked) == [None]


@pytest.mark.parametrize("known", [False, True])
def test_cut_off_in_the_middle_it_goes_on_from_there(fetched: Fetch, host: ModelHost, known: bool) -> None:
    assert fetched(Behaviour(cut=400_000), Behaviour(cut=300_000), known=known) == DATA
    assert ranges(host.asked) == [None, "bytes=400000-", "bytes=700000-"]
    assert {request.if_range for request in host.asked[1:]} == {host.etag(PATH)}


def test_cut_off_in_a_chunked_answer_it_goes_on_from_there(fetched: Fetch, host: ModelHost) -> None:
    assert fetched(Behaviour(length=False, cut=400_000), known=True) == DATA
    assert ranges(host.asked) == [None, "bytes=400000-"]


def test_another_run_goes_on_where_one_gave_up(fetched: Fetch, host: ModelHost) -> None:
    with pytest.raises(ModelError, match=r"400,000 bytes are kept, and the same command goes on"):
        fetched(Behaviour(cut=400_000), *[Behaviour(cut=0)] * 4)
    host.asked.clear()
    assert fetched() == DATA
    assert ranges(host.asked) == ["bytes=400000-"]


def test_a_server_that_does_not_know_range_sends_all_again(fetched: Fetch, host: ModelHost) -> None:
    assert fetched(Behaviour(cut=400_000), Behaviour(ranges=False)) == DATA
    assert ranges(host.asked) == [None, "bytes=400000-"]


def test_a_file_that_is_another_by_now_is_not_mixed(fetched: Fetch, host: ModelHost) -> None:
    with pytest.raises(ModelError):
        fetched(Behaviour(cut=400_000), *[Behaviour(cut=0)] * 4)
    host.files[PATH] = noise(900_000, seed=1)
    assert fetched() == noise(900_000, seed=1)
    assert ranges(host.asked)[-1] == "bytes=400000-"


def test_a_server_that_continues_another_file_all_the_same_is_not_believed(fetched: Fetch, host: ModelHost) -> None:
    """It knows Range and not If-Range: only the ETag of its 206 tells."""
    with pytest.raises(ModelError):
        fetched(Behaviour(cut=400_000), *[Behaviour(cut=0)] * 4)
    first, host.files[PATH] = host.etag(PATH), noise(1_000_000, seed=1)
    host.tags[PATH] = first
    assert fetched(Behaviour(headers={"ETag": '"new"'})) == noise(1_000_000, seed=1)
    assert ranges(host.asked)[-2:] == ["bytes=400000-", None]


def test_a_server_that_continues_elsewhere_is_not_believed(fetched: Fetch, host: ModelHost) -> None:
    assert fetched(Behaviour(cut=400_000), Behaviour(shift=10)) == DATA
    assert ranges(host.asked) == [None, "bytes=400000-", None]


def test_without_an_etag_or_date_it_begins_anew(fetched: Fetch, host: ModelHost) -> None:
    host.tags[PATH] = 'W/"weak"'
    assert fetched(Behaviour(cut=400_000)) == DATA
    assert ranges(host.asked) == [None, None]


def test_what_lies_there_of_another_address_is_not_continued(fetched: Fetch, host: ModelHost) -> None:
    with pytest.raises(ModelError):
        fetched(Behaviour(cut=400_000), *[Behaviour(cut=0)] * 4)
    host.files["/other/m.tar.bz2"] = DATA
    assert fetched(url=host.url + "/other/m.tar.bz2") == DATA
    assert ranges(host.asked)[-1] is None


@pytest.mark.parametrize("known", [False, True])
def test_a_file_that_is_whole_is_not_fetched_again(fetched: Fetch, host: ModelHost, known: bool) -> None:
    fetched(known=known)
    host.asked.clear()
    assert fetched(known=known) == DATA
    assert ranges(host.asked) == ([] if known else ["bytes=1000000-"])


def test_more_than_the_catalogue_says_is_refused_and_not_kept(fetched: Fetch, host: ModelHost) -> None:
    with pytest.raises(ModelError, match="more than 1,000,000 bytes"):
        fetched(Behaviour(length=False, surplus=noise(500_000)), known=True)
    assert not fetched.into.exists()
    assert max(done for done, _ in fetched.told) <= len(DATA)


def test_another_length_than_the_catalogue_says_is_refused_at_once(fetched: Fetch, host: ModelHost) -> None:
    host.files[PATH] = DATA[:-1]
    with pytest.raises(ModelError, match="has 999,999 bytes, and the catalogue says 1,000,000"):
        fetched(known=True)
    assert fetched.told == []


def test_a_length_without_end_is_refused(fetched: Fetch, host: ModelHost) -> None:
    with pytest.raises(ModelError, match="are not fetched"):
        fetched(Behaviour(headers={"Content-Length": str(10**13)}))


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(fetched: Fetch, host: ModelHost, waits: list[float], status: int) -> None:
    assert fetched(Behaviour(status=status), Behaviour(status=status)) == DATA
    assert len(waits) == 2 and all(0 < wait < 20 for wait in waits)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_refusal_is_told_at_once(fetched: Fetch, host: ModelHost, waits: list[float], status: int) -> None:
    with pytest.raises(ModelError, match=f"answered {status}"):
        fetched(Behaviour(status=status))
    assert waits == []


def test_a_server_that_never_gives_more_is_given_up(fetched: Fetch, host: ModelHost, waits: list[float]) -> None:
    with pytest.raises(ModelError, match="could not be fetched"):
        fetched(*[Behaviour(cut=0)] * 9)
    assert len(host.asked) == 4 and len(waits) == 3


def test_a_redirect_is_followed_with_its_range(fetched: Fetch, host: ModelHost) -> None:
    host.files["/at/another/place"] = DATA
    move = Behaviour(location="/at/another/place")
    assert fetched(move, Behaviour(cut=400_000), move) == DATA
    assert [(a.path, a.range) for a in host.asked][-1] == ("/at/another/place", "bytes=400000-")


def test_a_redirect_out_of_tls_is_refused(fetched: Fetch, host: ModelHost) -> None:
    with pytest.raises(ModelError, match=r"leads to http://models\.example, which is not https"):
        fetched(Behaviour(location="http://models.example/m.tar.bz2"))


def test_redirects_in_a_circle_end(fetched: Fetch, host: ModelHost) -> None:
    with pytest.raises(ModelError, match="redirects"):
        fetched(*[Behaviour(location=PATH)] * 20)
