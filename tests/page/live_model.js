// A client and a server of a live session with a line between them that is cut anywhere, all in one thread and on a clock
// of their own. Called with a seed; returns what went wrong, and what was met on the way.
async (seed) => {
  const { LiveSession } = await import("/page/live-session.js");
  let state = seed * 2654435761 % 4294967296 || 1;
  const random = () => { // xorshift32: the same run for the same seed
    state ^= state << 13; state ^= state >>> 17; state ^= state << 5;
    return (state >>> 0) / 4294967296;
  };
  const chance = (p) => random() < p;
  const TOTAL = 60 * 16_000 + 777;
  const ROOM = chance(0.2) ? 5 * 16_000 : 600 * 16_000; // a small ring overflows
  const met = { cuts: 0, resumes: 0, rollbacks: 0, gaps: 0, moved: 0, stalls: 0 };
  const wrong = [];
  const valueAt = (index) => ((index * 7919) % 65_521) - 32_760;

  // The server: a journal of samples, of which what lies before `safe` is never lost.
  const server = { journal: new Uint8Array(TOTAL), expected: 0, safe: 0, finals: [], done: null, holes: [], moved: false };
  const UTTERANCE = 8_000;
  const decide = (say) => {
    while (server.expected >= (server.finals.length + 1) * UTTERANCE || (server.done && server.finals.length * UTTERANCE < server.expected)) {
      const id = server.finals.length;
      const [from, to] = [id * UTTERANCE, Math.min((id + 1) * UTTERANCE, server.expected)];
      server.finals.push({ type: "final", id, start: from / 16_000, end: to / 16_000, start_sample: from, end_sample: to, text: `line ${id}` });
      server.safe = to;
      say(server.finals.at(-1));
    }
  };
  const hear = (message, say) => {
    if (typeof message !== "string") {
      const view = new DataView(message.buffer, message.byteOffset);
      const index = Number(view.getBigUint64(0));
      const count = (message.byteLength - 8) / 2;
      if (index > server.expected) return void wrong.push(`a frame at ${index}, expected ${server.expected}`);
      for (let n = 0; n < count; n++) {
        const [at, value] = [index + n, view.getInt16(8 + n * 2, true)];
        if (value !== valueAt(at)) return void wrong.push(`sample ${at} is not itself`);
        if (at >= server.expected) server.journal[at] = 1;
      }
      server.expected = Math.max(server.expected, index + count);
      decide(say);
      return say({ type: "ack", samples: server.expected, safe: server.safe });
    }
    const data = JSON.parse(message);
    if (data.type === "gap") {
      if (data.from !== server.expected) wrong.push(`gap from ${data.from}, expected ${server.expected}`);
      met.gaps += 1;
      server.holes.push(data);
      server.expected = data.to;
      decide(say);
    } else if (data.type === "end") {
      if (data.samples !== server.expected) wrong.push(`end at ${data.samples}, expected ${server.expected}`);
      server.done = { type: "done", task_id: "t", samples: server.expected };
      decide(say);
      say({ ...server.done, finals: server.finals.length });
    } else if (data.type === "ping") say({ type: "pong" });
    else if (data.type === "start") say({ type: "ready", session: "s", resume_token: "r", offset: 0, window_s: 120 });
    else if (data.type === "resume") {
      met.resumes += 1;
      if (chance(0.3) && !server.done) { // its journal was lost: back to what is safe
        if (server.safe < server.expected) met.rollbacks += 1;
        server.expected = server.safe;
        server.holes = server.holes.filter(({ to }) => to <= server.safe);
      }
      say({ type: "ready", session: "s", resume_token: "r", offset: server.expected, window_s: 120 });
      const after = chance(0.2) ? 0 : (data.last_final ?? -1) + 1; // a careless server repeats
      for (const final of server.finals.slice(after)) say(final);
      if (server.done) say({ ...server.done, finals: server.finals.length });
    } else wrong.push(`what is ${data.type}?`);
  };

  let now = 0;
  const session = new LiveSession({ start: {}, random, room: ROOM });
  let line = null; // {up: [], down: [], stalled}
  const cut = (code) => { line = null; session.closed(code, now); };
  let said = 0;
  for (; now < 3_600_000 && !session.over; now += 50) {
    if (said < TOTAL) {
      const samples = Int16Array.from({ length: Math.min(800, TOTAL - said) }, (_, n) => valueAt(said + n));
      session.push(samples);
      said += samples.length;
      if (said === TOTAL) session.end();
    }
    const order = session.step(now);
    if (order === "drop") line = null;
    if (order === "connect") {
      line = { up: [], down: [], stalled: false };
      if (chance(0.2)) cut(1006);
      else session.opened();
    }
    for (let n = 0; line && n < 40; n++) {
      const message = session.next(now);
      if (message === null) break;
      line.up.push(message);
    }
    if (line && !line.stalled) { // some of what is on the way arrives, in order
      const active = line;
      for (let n = Math.floor(random() * 20); n > 0 && active.up.length; n--) hear(active.up.shift(), (answer) => active.down.push(answer));
      for (let n = Math.floor(random() * 20); n > 0 && active.down.length && line === active; n--) session.received(active.down.shift(), now);
    }
    if (!line || session.over) continue;
    if (chance(0.01)) { met.cuts += 1; cut([1006, 1001, 1011, 1012, 4408, 4008, 4503][Math.floor(random() * 7)]); }
    else if (chance(0.003)) { met.stalls += 1; line.stalled = true; } // half-open: nothing is said about it
    else if (chance(0.003)) { met.moved += 1; session.received({ type: "moved", reconnect_in_ms: 700 }, now); cut(1012); }
  }
  if (session.state !== "done") wrong.push(`it ended as ${session.state}: ${JSON.stringify(session.problem)}`);
  if (server.expected !== TOTAL) wrong.push(`${server.expected} of ${TOTAL} samples arrived`);
  const lost = server.holes.reduce((sum, { from, to }) => sum + to - from, 0);
  if (server.journal.reduce((sum, there) => sum + there, 0) < TOTAL - lost) wrong.push("samples are missing that no gap tells of");
  if (ROOM > TOTAL && lost) wrong.push("a gap, though there was room");
  if (session.finals.map(({ id }) => id).join() !== server.finals.map(({ id }) => id).join()) wrong.push("finals differ");
  if (session.finals.map(({ text }) => text).join() !== server.finals.map(({ text }) => text).join()) wrong.push("texts differ");
  return { wrong, met, lost };
}
