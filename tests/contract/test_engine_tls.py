"""Calls to engines over TLS, and with certificates on both sides: real engine processes, an authority of our own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from cosygate import errors
from cosygate.adapters.engine_grpc import GrpcEngine
from cosygate.adapters.engine_grpc.tls import Certificates, Tls
from cosygate.kit.clock import SystemClock, SystemRandomness
from cosygate.model.options import TranscribeOptions
from cosygate.ports.engine import Done
from cosygate.settings import Settings
from cosygate.wiring.engines import engine_room
from tests.support.certificates import Authority, Pair
from tests.support.engine_process import EngineProcess, engine_process, recognise, silence

NAMES = ("127.0.0.1", "engines.test")


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@contextmanager
def engine(own: Pair, client_ca: Path | None = None) -> Iterator[EngineProcess]:
    more = ["--tls-client-ca", str(client_ca)] if client_ca else []
    argv = ("--tls-cert", str(own.cert), "--tls-key", str(own.key), *more)
    with engine_process(*argv, listen="127.0.0.1:0") as process:
        yield process


@asynccontextmanager
async def calling(process: EngineProcess, tls: Tls | None) -> AsyncIterator[GrpcEngine]:
    made = GrpcEngine(process.address, tls=tls)
    yield made
    await made.close()


async def works(process: EngineProcess, tls: Tls | None) -> None:
    async with calling(process, tls) as made:
        assert isinstance((await recognise(made, silence(1.0)))[-1], Done)


async def why_not(process: EngineProcess, tls: Tls | None) -> str:
    """Neither question nor call comes through; what is said of that."""
    async with calling(process, tls) as made:
        with pytest.raises(errors.EngineUnavailable) as called:
            await recognise(made, silence(1.0))
        assert type(called.value) is errors.EngineUnavailable
        with pytest.raises(errors.EngineUnavailable) as asked:
            await made.describe()
    return asked.value.why


async def test_an_engine_that_our_authority_vouches_for_is_called(ours: Authority) -> None:
    with engine(ours.issue("engine", *NAMES)) as process:
        await works(process, Tls(Certificates(ours.cert)))
        await works(process, Tls(Certificates(ours.cert), "engines.test"))


async def test_both_sides_show_who_they_are(ours: Authority) -> None:
    mine = ours.issue("gateway")
    with engine(ours.issue("engine", *NAMES), client_ca=ours.cert) as process:
        await works(process, Tls(Certificates(ours.cert, mine.cert, mine.key)))
        assert "not know this certificate" in await why_not(process, Tls(Certificates(ours.cert)))
        late = ours.issue("late", days=-1)
        assert "not know this certificate" in await why_not(process, Tls(Certificates(ours.cert, late.cert, late.key)))
        theirs = Authority(ours.folder, "others").issue("stranger")
        stranger = Tls(Certificates(ours.cert, theirs.cert, theirs.key))
        assert "not know this certificate" in await why_not(process, stranger)


@pytest.mark.parametrize(
    ("issue", "says"),
    [
        (lambda ours: ours.issue("late", *NAMES, days=-1), "certificate has expired"),
        (
            lambda ours: Authority(ours.folder, "others").issue("other", *NAMES),
            "unable to get local issuer certificate",
        ),
        (lambda ours: ours.issue("elsewhere", "10.9.9.9"), "Hostname Verification Check failed"),
    ],
)
async def test_an_engine_that_is_not_the_one_gets_no_audio(
    ours: Authority, issue: Callable[[Authority], Pair], says: str
) -> None:
    with engine(issue(ours)) as process:
        assert says in await why_not(process, Tls(Certificates(ours.cert)))


async def test_nobody_falls_back_to_plain_text(ours: Authority) -> None:
    with engine(ours.issue("engine", *NAMES)) as process:
        assert "it may want that" in await why_not(process, None)
    with engine_process(listen="127.0.0.1:0") as process:
        assert "UNAVAILABLE" in await why_not(process, Tls(Certificates(ours.cert)))


async def test_an_engine_s_certificate_is_renewed_without_a_restart(ours: Authority) -> None:
    with engine(ours.issue("engine", *NAMES, days=-1)) as process:
        assert "certificate has expired" in await why_not(process, Tls(Certificates(ours.cert)))
        ours.issue("engine", *NAMES)
        await asyncio.sleep(1.1)  # it looks once a second
        await works(process, Tls(Certificates(ours.cert)))
        (ours.folder / "engine.key").write_text("half of it")
        await asyncio.sleep(1.1)
        await works(process, Tls(Certificates(ours.cert)))
        assert [line["action"] for line in process.log_lines() if line["action"].startswith("tls.")] == [
            "tls.renewed",
            "tls.unusable",
        ]


async def test_a_gateway_s_certificate_is_renewed_without_a_restart(ours: Authority) -> None:
    mine = ours.issue("gateway", days=-1)
    tls = Tls(Certificates(ours.cert, mine.cert, mine.key))
    with engine(ours.issue("engine", *NAMES), client_ca=ours.cert) as process:
        async with calling(process, tls) as made:
            with pytest.raises(errors.EngineUnavailable):
                await made.describe()
            ours.issue("gateway")
            await asyncio.sleep(1.1)
            assert isinstance((await recognise(made, silence(1.0)))[-1], Done)
            assert len(made._channels) == 1, "the old one is closed"


@pytest.mark.parametrize(
    "break_it",
    [
        lambda own: own.key.write_bytes(b"no key"),
        lambda own: own.key.unlink(),
        lambda own: own.cert.write_bytes(b""),
    ],
)
def test_files_that_cannot_be_used_are_told_at_the_start(ours: Authority, break_it: Callable[[Pair], Any]) -> None:
    own, other = ours.issue("own"), ours.issue("other")
    with pytest.raises(ValueError, match=r"own\.pem with .*other\.key cannot be used"):
        Certificates(ours.cert, own.cert, other.key)
    break_it(own)
    with pytest.raises(ValueError, match="certificate or key cannot be"):
        Certificates(ours.cert, own.cert, own.key)


async def test_the_room_says_which_engine_is_away_and_why(ours: Authority) -> None:
    """By the settings: what an operator reads who forgot to renew."""
    with engine(ours.issue("engine", *NAMES)) as process:
        settings = Settings(engine_addresses=process.address, engine_tls_ca=ours.cert)
        async with AsyncExitStack() as stack:
            room = engine_room(settings, [], None, SystemClock(), SystemRandomness(), stack, index=0)
            async with room.borrow(TranscribeOptions()) as lent:
                assert lent.key == process.address
        wrong = settings.model_copy(update={"engine_tls_ca": Authority(ours.folder, "others").cert})
        with capture_logs() as told:
            async with AsyncExitStack() as stack:
                room = engine_room(wrong, [], None, SystemClock(), SystemRandomness(), stack, index=0)
                for _ in range(3):
                    with pytest.raises(errors.EngineUnavailable):
                        async with room.borrow(TranscribeOptions()):
                            pass
                    await asyncio.sleep(2.6)
        [line] = [line for line in told if line["event"] == "engine.away"]
        assert line["engine"] == process.address
        assert "unable to get local issuer certificate" in line["detail"]
