// The operator's page: asks for the state every two seconds while it is seen, and draws what has changed.

import { Api } from "./api.js";
import { complain, confirm, h, say, setText } from "./dom.js";
import { SignIn } from "./signin.js";
import { clock, when } from "./words.js";

const EVERY_MS = 2_000;
const LATE_MS = 8_000; // then what is shown may no longer be so

const signIn = new SignIn({ confirm });
const api = new Api({ token: () => signIn.token, onRefused: (problem) => { stop(); signIn.ask(problem); } });
const [state, drain] = [document.getElementById("state"), document.getElementById("drain")];

let timer = 0;
let reading = null; // aborts the question that is under way
let read = 0; // when the last answer came

function stop() {
  clearTimeout(timer);
  reading?.abort();
  reading = null;
}

async function look() {
  clearTimeout(timer);
  reading?.abort();
  const mine = reading = new AbortController();
  try {
    draw(await api.json("/v1/admin/overview", { signal: mine.signal, waitMs: LATE_MS }));
    read = Date.now();
  } catch (problem) {
    if (mine.signal.aborted) return;
    if (problem.status === 403) {
      stop();
      signIn.ask({ title: "That token is not an operator's", detail: "It lacks the scope admin." });
      return;
    }
    state.dataset.ready = "unknown";
    setText(state, read ? `No answer since ${when(new Date(read).toISOString())}. What is shown may be old.` : "No answer.");
  }
  if (mine === reading && !document.hidden) timer = setTimeout(look, EVERY_MS);
}

const number = (value) => (value >= 100 ? Math.round(value) : Math.round(value * 10) / 10).toLocaleString();
const BREAKER = { closed: "closed", half_open: "trying", open: "open" };
const NOT_READY = { draining: "draining", starting: "starting", database: "the database is busy", storage: "no room to store" };

function draw(seen) {
  const ready = seen.reasons.length === 0;
  state.dataset.ready = String(ready);
  const why = seen.reasons.map((reason) => NOT_READY[reason] ?? reason).join(", ");
  setText(state, ready ? `Ready. Version ${seen.version}.` : `Takes nothing new: ${why}.`);
  drain.hidden = false;
  drain.dataset.on = String(seen.drained_since !== null);
  setText(drain, seen.drained_since === null ? "Drain" : "Take work again");

  const { queue } = seen;
  figures({
    Waiting: number(queue.jobs), "Audio waiting": clock(queue.seconds), "Oldest waits": clock(queue.oldest_s),
    Running: number(queue.running), "Live sessions": number(seen.live_sessions), "Dead letters": number(seen.dead_count),
  });
  table("engines", "No engine has been heard of yet.",
    ["Engine", "Recogniser", "State", "Slots", "Live", "Breaker"],
    seen.engines.map((engine) => [
      engine.engine, `${engine.name} ${engine.version}`.trim() || "unknown", engine.up ? "up" : wrong("down"),
      `${engine.busy} of ${engine.slots}`, `${engine.live_busy} of ${engine.live_slots}`,
      engine.breaker === "closed" ? BREAKER.closed
        : wrong(BREAKER[engine.breaker] + (engine.probe_in_s > 0 ? `, tries in ${Math.ceil(engine.probe_in_s)} s` : "")),
    ]));
  table("queue", "Nothing waits.", ["Tenant", "#Recordings", "#Audio"],
    queue.tenants.map((tenant) => [tenant.tenant, number(tenant.jobs), clock(tenant.seconds)]));
  table("usage", "Nothing was transcribed this month.", ["Tenant", "#Today", "#Quota", "#This month", "#Quota"],
    seen.usage.map((use) => [use.tenant, clock(use.day_s), quota(use.quota_day_s), clock(use.month_s), quota(use.quota_month_s)]));
  table("dead", "None.", ["Delivery", "Tenant", "What", "To", "Last error", "#Tries", "Last try", ""],
    seen.dead.map((letter) => [
      h("code", {}, letter.id), letter.tenant, letter.kind, letter.host, letter.error ?? "", number(letter.attempt),
      letter.tried_at === null ? "" : when(new Date(letter.tried_at * 1000).toISOString()), again(letter),
    ]));
}

const wrong = (text) => ({ text, wrongly: true });
const quota = (seconds) => (seconds ? clock(seconds) : "none");

function figures(values) {
  const list = document.getElementById("figures");
  for (const [name, value] of Object.entries(values)) {
    let shown = list.querySelector(`[data-name="${name}"] dd`);
    if (!shown) {
      shown = h("dd", {});
      list.append(h("div", { dataset: { name } }, h("dt", {}, name), shown));
    }
    setText(shown, value);
  }
}

const drawn = new Map(); // what each table shows, so that an unchanged one keeps its focus and selection

/** Rows of texts, elements or `wrong(text)`; a heading that begins with # is of numbers. */
function table(id, empty, headings, rows) {
  const plain = JSON.stringify(rows, (_, value) => (value instanceof Element ? value.textContent : value));
  if (drawn.get(id) === plain) return;
  drawn.set(id, plain);
  const box = document.getElementById(id);
  if (!rows.length) {
    box.replaceChildren(h("p", { class: "quiet" }, empty));
    return;
  }
  const kind = headings.map((heading) => (heading.startsWith("#") ? "number" : null));
  const cell = (value, n) => (value?.wrongly ? h("td", { class: "wrongly" }, value.text) : h("td", { class: kind[n] }, value));
  box.replaceChildren(h("table", { "aria-labelledby": `${id}-title` },
    h("thead", {}, h("tr", {}, headings.map((heading, n) => h("th", { scope: "col", class: kind[n] },
      heading.replace("#", "") || h("span", { class: "unseen" }, "What to do"))))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map(cell))))));
}

function again(letter) {
  const button = h("button", { class: "button small-button", type: "button", "aria-label": `Send ${letter.id} again`,
    onclick: async () => {
      button.disabled = true;
      try {
        await api.call(`/v1/admin/deliveries/${encodeURIComponent(letter.id)}/replay`, { method: "POST" });
        say("It is sent again.");
      } catch (problem) {
        complain(problem);
      }
      look();
    } }, "Send again");
  return button;
}

drain.addEventListener("click", async () => {
  const on = drain.dataset.on !== "true";
  if (on && !(await confirm({ title: "Drain the service?", yes: "Drain", no: "Leave it", danger: true,
    text: "No gateway takes new recordings or live sessions any more, until you turn it off again. "
      + "What has begun goes on to its end." }))) return;
  drain.disabled = true;
  try {
    await api.json("/v1/admin/drain", { method: "POST", body: JSON.stringify({ on }),
      headers: { "Content-Type": "application/json" } });
    say(on ? "Draining." : "Taking work again.");
  } catch (problem) {
    complain(problem);
  } finally {
    drain.disabled = false;
  }
  look();
});

signIn.addEventListener("entered", look);
signIn.addEventListener("leaving", () => {
  stop();
  signIn.ask();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) stop();
  else if (signIn.token) look();
});
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("operator").focus();
});
await signIn.start();
