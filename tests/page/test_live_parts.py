"""What speaking is made of, in the browser but without a microphone or a socket: the resampler's numbers, and the
session's machine against a model of the server over a line that is cut anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.page.conftest import Visit
from tests.support.server import Server

pytestmark = pytest.mark.needs("chromium")

MODEL = (Path(__file__).parent / "live_model.js").read_text().split("\n", 2)[2]
RESAMPLE = """
async ([rate, blocks, tones]) => {
  const { Resampler } = await import("/page/resample.js");
  const run = (input, sizes) => {
    const resampler = new Resampler(rate, 16000);
    const output = [];
    for (let at = 0, n = 0; at < input.length; n++) {
      const block = input.subarray(at, at + sizes[n % sizes.length]);
      output.push(...resampler.process(block));
      at += block.length;
    }
    output.push(...resampler.flush());
    return output;
  };
  const sine = (hz) => Float32Array.from({ length: rate }, (_, n) => Math.sin(2 * Math.PI * hz * n / rate));
  const middle = (samples) => samples.slice(1600, -1600); // without the borders of the recording
  const power = (samples) => samples.reduce((sum, x) => sum + x * x, 0) / samples.length;
  const db = (samples) => 10 * Math.log10(2 * power(middle(samples)) + 1e-20);
  return tones.map((hz) => {
    const input = sine(hz);
    const whole = run(input, [rate]);
    const pieces = run(input, blocks);
    const ideal = whole.map((_, n) => Math.sin(2 * Math.PI * hz * n / 16000));
    const off = Math.max(...middle(whole.map((x, n) => Math.abs(x - ideal[n]))));
    const same = whole.length === pieces.length && whole.every((x, n) => x === pieces[n]);
    return { hz, length: whole.length, level: db(whole), off, same };
  });
}
"""


RATES = [8_000, 16_000, 22_050, 32_000, 44_100, 48_000, 88_200, 96_000]
BLOCKS = [128, 1, 333, 128, 4_096]


@pytest.mark.parametrize("rate", RATES)
def test_what_can_be_heard_passes_and_nothing_else_does(visit: Visit, server: Server, rate: int) -> None:
    """A sweep in steps. Below 7.2 kHz (or nine tenths of the device's own band) a tone stays as it is, to a ten
    thousandth; from 8 kHz on, where it would come back as another tone, it is gone. Blocks leave no seam at all."""
    page = visit(server, None, path="/docs")
    edge = min(rate, 16_000) / 2
    kept = [50.0, 440.0, 1_000.0, 3_000.0, 0.6 * edge, 0.8 * edge, 0.89 * edge]
    gone = [hz for hz in (8_010.0, 8_500.0, 9_000.0, 11_000.0, 15_000.0, 16_500.0, 19_000.0, 30_000.0) if hz < rate / 2]
    told: list[dict[str, Any]] = page.evaluate(RESAMPLE, [rate, BLOCKS, kept + gone])
    assert all(tone["length"] == 16_000 for tone in told)  # one second in, one second out
    assert all(tone["same"] for tone in told)
    for tone in told[: len(kept)]:
        assert abs(tone["level"]) < 0.01, tone
        assert tone["off"] < 2e-4, tone  # at its place in time too: no delay
    for tone in told[len(kept) :]:
        assert tone["level"] < -75, tone


def test_lengths_and_silence_are_exact(visit: Visit, server: Server) -> None:
    page = visit(server, None, path="/docs")
    told = page.evaluate("""async () => {
      const { Resampler } = await import("/page/resample.js");
      return [44100, 48000, 22050, 16000].flatMap((rate) => [0, 1, 2, 127, 128, 4409, 4410, 4411].map((count) => {
        const resampler = new Resampler(rate, 16000);
        const before = resampler.process(new Float32Array(count).fill(0.5)).length;
        return [Math.ceil(count * 16000 / rate), before + resampler.flush().length];
      }));
    }""")
    assert all(wanted == got for wanted, got in told), told


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_whatever_happens_to_the_line_everything_arrives_once(visit: Visit, server: Server, first: int) -> None:
    """Sixty runs with cuts at any message, dead lines, lost journals, moves, and rings too small for the cut."""
    page = visit(server, None, path="/docs")
    met: dict[str, int] = {}
    for seed in range(first, first + 20):
        told = page.evaluate(MODEL, seed)
        assert told["wrong"] == [], f"seed {seed}: {told}"
        for name, count in told["met"].items():
            met[name] = met.get(name, 0) + count
    assert all(count > 0 for count in met.values()), met  # it was not all fair weather


STEPS = """
async ([steps, adopt]) => {
  const { LiveSession } = await import("/page/live-session.js");
  const session = new LiveSession({ adopt, random: () => 0 });
  let now = 0;
  const said = [];
  for (const [what, ...values] of steps) {
    if (what === "wait") now += values[0];
    else if (what === "push") session.push(new Int16Array(values[0]));
    else if (what === "step") said.push(session.step(now));
    else if (what === "open") session.opened();
    else if (what === "hear") session.received(values[0], now);
    else if (what === "close") session.closed(values[0], now);
    else if (what === "end") session.end();
    else if (what === "stir") session.stir(now);
    else if (what === "hold") session.hold();
    else if (what === "release") session.release(now);
    else if (what === "next") {
      for (let message; (message = session.next(now)) !== null;) {
        said.push(typeof message === "string" ? JSON.parse(message) : message.length);
      }
    }
  }
  return { said, state: session.state, problem: session.problem, waiting: session.waiting };
}
"""
READY = {"type": "ready", "session": "s", "resume_token": "r", "offset": 0, "window_s": 30}
UP = [["step"], ["open"], ["next"], ["hear", READY]]


def steps(
    page: Page, *more: list[Any], begin: list[list[Any]] = UP, adopt: dict[str, str] | None = None
) -> dict[str, Any]:
    told: dict[str, Any] = page.evaluate(STEPS, [[*begin, *more], adopt])
    return told


def test_a_dead_line_is_noticed_by_what_is_not_answered(visit: Visit, server: Server) -> None:
    page = visit(server, None, path="/docs")
    sent = [["push", 1600], ["next"]]
    alive = [["hear", {"type": "ack", "samples": 1600, "safe": 0}]]
    assert steps(page, *sent, ["wait", 7_900], ["step"])["said"][-1] is None
    assert steps(page, *sent, ["wait", 8_100], ["step"])["said"][-1] == "drop"
    assert steps(page, *sent, *alive, ["wait", 8_100], ["step"])["said"][-1] is None  # nothing is owed
    told = steps(page, *sent, *alive, ["wait", 9_000], ["next"], ["wait", 8_100], ["step"])
    assert told["said"][-2:] == [{"type": "ping"}, "drop"]
    assert told["state"] == "reconnecting"
    told = steps(page, *sent, *alive, ["stir"], ["next"], ["wait", 3_100], ["step"])  # the device changed networks
    assert told["said"][-2:] == [{"type": "ping"}, "drop"]
    assert steps(page, ["wait", 10_100], ["step"], begin=[["step"]])["said"] == ["connect", "drop"]  # never opened


@pytest.mark.parametrize(
    ("code", "state"),
    [(4400, "failed"), (4404, "failed"), (4409, "failed"), (4429, "failed")]
    + [(code, "reconnecting") for code in (1000, 1001, 1006, 1011, 1012, 4008, 4401, 4408, 4503)],
)
def test_each_close_code_means_what_it_means(visit: Visit, server: Server, code: int, state: str) -> None:
    page = visit(server, None, path="/docs")
    told = steps(page, ["close", code])
    assert told["state"] == state
    assert bool(told["problem"]) == (state == "failed")
    again = [["close", code], ["wait", 100], ["step"], ["open"], ["close", code]]
    assert steps(page, *again)["state"] == ("failed" if code == 4401 else state)  # one more ticket, no more


def test_a_takeover_may_be_by_an_attempt_of_its_own_that_got_no_answer(visit: Visit, server: Server) -> None:
    page = visit(server, None, path="/docs")
    ready = {"type": "ready", "session": "s", "resume_token": "t", "offset": 0, "window_s": 60}
    resumed = [["wait", 6_000], ["step"], ["open"], ["next"]]
    late = [["close", 1006], *resumed, ["close", 1006], *resumed, ["hear", ready], ["close", 4409]]
    assert steps(page, *late)["state"] == "reconnecting"
    assert steps(page, *late, *resumed, ["hear", ready], ["close", 4409])["state"] == "failed"  # once


def test_waits_grow_and_end_with_the_window(visit: Visit, server: Server) -> None:
    page = visit(server, None, path="/docs")
    tried = [["wait", 50], ["step"], ["close", 1006], ["wait", 50], ["step"], ["wait", 50], ["step"], ["close", 1006]]
    assert steps(page, ["close", 1006], *tried)["said"][2:] == ["connect", None, "connect"]
    lost = steps(page, ["close", 1006], ["wait", 30_100], ["step"])
    assert lost["state"] == "failed" and lost["problem"]["title"] == "The server was out of reach for too long"
    moved = [["hear", {"type": "moved", "reconnect_in_ms": 900}], ["close", 1012], ["wait", 800], ["step"]]
    assert steps(page, *moved, ["wait", 101], ["step"])["said"][-2:] == [None, "connect"]
    held = [["hold"], ["close", 1006], ["wait", 5_000], ["step"], ["release"], ["step"]]
    assert steps(page, *held)["said"][-2:] == [None, "connect"]


def test_what_was_taken_up_after_a_reload_begins_where_the_server_is(visit: Visit, server: Server) -> None:
    page = visit(server, None, path="/docs")
    adopt = {"session": "s", "resume_token": "r"}
    early = [
        ["push", 1_600],
        ["step"],
        ["open"],
        ["next"],
        ["hear", READY | {"offset": 5_000}],
        ["push", 800],
        ["end"],
        ["next"],
    ]
    told = steps(page, *early, begin=[], adopt=adopt)
    resume = {"type": "resume", "session": "s", "resume_token": "r", "last_final": None}
    assert told["said"] == ["connect", resume, 3_208, 1_608, {"type": "end", "samples": 7_400}]
    lost = [["step"], ["close", 1006], ["wait", 121_000], ["step"]]
    assert steps(page, *lost, begin=[], adopt=adopt)["state"] == "failed"  # it does not try for ever
    new = [x for _ in range(6) for x in (["step"], ["close", 1006], ["wait", 5_000])]
    assert steps(page, *new, begin=[])["problem"]["title"] == "The server cannot be reached"


def test_a_gap_that_should_not_be_is_mended_once(visit: Visit, server: Server) -> None:
    page = visit(server, None, path="/docs")
    gap = [["hear", {"type": "error", "code": "gap", "detail": "", "expected": 0}], ["close", 4400]]
    assert steps(page, *gap)["state"] == "reconnecting"
    again = [["wait", 200], ["step"], ["open"], ["next"], ["hear", READY]]
    assert steps(page, *gap, *again, *gap)["state"] == "failed"
    mended = [["push", 1600], ["next"], ["hear", {"type": "ack", "samples": 1600, "safe": 0}]]
    assert steps(page, *gap, *again, *mended, *gap)["state"] == "reconnecting"


def test_the_end_is_said_again_after_a_cut(visit: Visit, server: Server) -> None:
    page = visit(server, None, path="/docs")
    sent = [["push", 1600], ["push", 800], ["end"], ["next"]]
    told = steps(page, *sent)
    assert told["said"][2:] == [3_208, 1_608, {"type": "end", "samples": 2_400}]
    assert told["state"] == "finishing"
    cut = [["close", 1006], ["wait", 200], ["step"], ["open"], ["next"], ["hear", READY | {"offset": 1_600}], ["next"]]
    told = steps(page, *sent, *cut)
    resume = {"type": "resume", "session": "s", "resume_token": "r", "last_final": None}
    assert told["said"][5:] == ["connect", resume, 1_608, {"type": "end", "samples": 2_400}]
    told = steps(page, *sent, ["hear", {"type": "done", "task_id": "s", "finals": 0, "samples": 2_400}], ["step"])
    assert told["state"] == "done" and told["said"][-1] is None
