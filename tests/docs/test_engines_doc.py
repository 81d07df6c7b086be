"""docs/engines.md: its recogniser runs in a real engine, its script loads, its tables name what there is."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from cosygate import errors
from cosygate.adapters.engine_grpc import GrpcEngine
from cosygate.engine import __main__ as engine_main
from cosygate.engine.recognisers import scripted
from cosygate.engine.recognisers.base import Hints, Recogniser
from cosygate.engine.recognisers.catalogue import RECOGNISERS
from cosygate.engine.service import EngineService
from cosygate.kit.clock import SystemClock
from cosygate.ports.engine import Done, EngineInfo, SegmentFound
from cosygate.proto import speech_engine_pb2_grpc as pb_grpc
from tests.support.engine_process import recognise, silence

PAGE = (Path(__file__).parents[2] / "docs" / "engines.md").read_text()


def blocks(language: str) -> list[str]:
    """The fenced blocks in that language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def example() -> Recogniser:
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(blocks("python")[1], "docs/engines.md", "exec"), names)
    made: Recogniser = names["Loudness"]()
    return made


async def test_the_complete_engine_is_one(tmp_path: Path) -> None:
    code = blocks("python")[0]
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 60
    address = f"unix:{tmp_path}/s"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, address)
    engine = GrpcEngine(address)
    try:
        async with asyncio.timeout(30):
            while (info := await _described(engine)) is None:
                await asyncio.sleep(0.05)
        events = await recognise(engine, silence(7))
        with pytest.raises(errors.EngineRefused):
            await recognise(engine, silence(1), features=("words",))
        both = await asyncio.gather(*(recognise(engine, silence(1), alone=True, slot_wait_s=5) for _ in range(2)))
    finally:
        await engine.close()
        process.kill()
        await process.wait()
    assert (info.name, info.slots, info.busy) == ("loudness", 2, 0)
    segments = [e.segment for e in events if isinstance(e, SegmentFound)]
    assert [(s.start, s.end, s.text) for s in segments] == [(0, 5, "about -120 dB"), (5, 7, "about -120 dB")]
    assert isinstance(events[-1], Done) and events[-1].samples == 7 * 16_000
    assert all(isinstance(one[-1], Done) for one in both)


async def _described(engine: GrpcEngine) -> EngineInfo | None:
    try:
        return await engine.describe()
    except errors.EngineUnavailable:
        return None


async def test_the_example_recogniser_works_in_a_real_engine(tmp_path: Path) -> None:
    server = grpc.aio.server()
    service = EngineService(example(), slots=1, line=1, clock=SystemClock())
    pb_grpc.add_SpeechEngineServicer_to_server(service, server)
    server.add_insecure_port(f"unix:{tmp_path}/s")
    await server.start()
    engine = GrpcEngine(f"unix:{tmp_path}/s")
    info = await engine.describe()
    events = await recognise(engine, silence(7))
    await engine.close()
    await service.drain(1)
    await server.stop(0)
    assert info.name == "loudness"
    assert [e.segment.text for e in events if isinstance(e, SegmentFound)] == ["about -120 dB"] * 2


def test_the_example_tells_levels() -> None:
    half = np.full(16_000, 0.5, np.float32)
    assert example().recognise(half, Hints("rms"), threading.Event()).text == "about -6 dB"


def test_the_script_loads_and_the_table_has_every_member() -> None:
    (told,) = blocks("json")
    script = json.loads(told)
    scripted.Scripted(script)
    assert set(script) == scripted._MEMBERS
    for member in (*scripted._MEMBERS, *scripted._CONDITIONS, *scripted._ACTIONS):
        assert f"`{member}`" in PAGE, member
    for status in scripted.STATUSES:
        assert status in PAGE
    assert f"status {scripted.CRASH_STATUS}" in PAGE


def test_every_recogniser_and_option_is_there() -> None:
    for name in RECOGNISERS:
        assert f"### {name}\n" in PAGE
    parser_options = re.findall(r'add_argument\(\s*"(--[a-z-]+)"', Path(engine_main.__file__).read_text())
    assert len(parser_options) == 27
    for option in parser_options:
        assert f"`{option}" in PAGE, option


def test_the_exit_status_is_the_one_that_is_told() -> None:
    assert f"Exit status {engine_main.CANNOT_START} " in PAGE
