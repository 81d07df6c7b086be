// The audience's page: reads along with a live session. The fragment (#SESSION/share.…) names the session and carries the
// ticket, which only reads; a fragment never leaves the browser, and here it goes nowhere but into the Authorization
// header. It stays in the address, so that a reload works.

import { Api } from "/page/api.js";
import { h, problemWords, setText } from "/page/dom.js";
import { events } from "/page/events.js";
import { LiveLines } from "/page/live-lines.js";
import { keepAwake } from "/page/wake.js";

const TRIES = 240; // in a row: with the back-off about half an hour without a connection
const SIZES = 7; // steps in the style sheet
const NEAR_PX = 160; // this far from the end is still at the end
const LOOKS = "cosygate.captions"; // in localStorage: {size, scheme}
const place = (id) => document.getElementById(id);
const root = document.documentElement;

function kept() {
  try {
    return JSON.parse(localStorage.getItem(LOOKS)) ?? {};
  } catch {
    return {}; // written by something else
  }
}

/** Text size, and dark or light: the reader's choice, else the device's. */
function looks() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const choice = { size: 2, scheme: null, ...kept() };
  const show = () => {
    root.dataset.size = choice.size;
    if (choice.scheme) root.dataset.scheme = choice.scheme;
    place("smaller").disabled = choice.size <= 0;
    place("larger").disabled = choice.size >= SIZES - 1;
    place("scheme").setAttribute("aria-pressed", String((choice.scheme ?? (dark.matches ? "dark" : "light")) === "dark"));
  };
  const change = (what) => {
    Object.assign(choice, what);
    localStorage.setItem(LOOKS, JSON.stringify(choice));
    show();
  };
  choice.size = Math.max(0, Math.min(SIZES - 1, Math.trunc(choice.size) || 0));
  place("smaller").addEventListener("click", () => change({ size: Math.max(0, choice.size - 1) }));
  place("larger").addEventListener("click", () => change({ size: Math.min(SIZES - 1, choice.size + 1) }));
  place("scheme").addEventListener("click", () => {
    change({ scheme: place("scheme").getAttribute("aria-pressed") === "true" ? "light" : "dark" });
  });
  dark.addEventListener("change", show);
  show();
}

function state(name, words) {
  root.dataset.state = name;
  setText(place("state"), words);
}

function over(...words) {
  place("end").replaceChildren(...words);
  place("end").hidden = false;
}

/** The lines, and whether the page follows them: until the reader scrolls back, and again from their end on. */
class Reading {
  #session = { finals: [], gaps: [], partial: null };
  #lines = new LiveLines({ follows: () => this.#near });
  #near = true;
  #top = 0; // where the page was scrolled to

  constructor() {
    place("words").replaceChildren(this.#lines.element);
    addEventListener("scroll", () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => { if (this.#near) this.#lines.follow(); }).observe(place("words")); // other letters, another width
    place("follow").addEventListener("click", () => {
      this.#near = true;
      place("follow").hidden = true;
      this.#lines.follow();
      place("main").focus({ preventScroll: true });
    });
  }

  #scrolled() {
    const atEnd = place("words").getBoundingClientRect().bottom - innerHeight < NEAR_PX;
    if (atEnd) this.#near = true;
    else if (scrollY < this.#top) this.#near = false; // words that come in do not move the page up: a reader does
    this.#top = scrollY;
    place("follow").hidden = this.#near;
  }

  take({ kind, data }) {
    const session = this.#session;
    if (kind === "final" && data.id === session.finals.length) {
      session.finals.push(data);
      if (data.end > 0 && data.end_sample) session.rate = Math.round(data.end_sample / data.end); // gaps count samples
      if (session.partial && data.end >= session.partial.start) session.partial = null;
    } else if (kind === "partial") session.partial = data;
    else if (kind === "gap" && !session.gaps.some(({ from }) => from === data.from)) session.gaps.push(data);
    else if (kind === "done") session.partial = null;
    place("waiting").hidden = Boolean(session.finals.length || session.partial?.text);
    this.#lines.show(session);
  }
}

async function read() {
  const [, session, ticket] = location.hash.match(/^#([0-9a-f]{32})\/([\x21-\x7e]+)$/) ?? [];
  if (!ticket) {
    state("failed", "Not a captions link");
    over(h("strong", {}, "This is not a whole captions link. "), "Ask whoever speaks for it again.");
    return;
  }
  const reading = new Reading();
  place("waiting").hidden = false;
  const api = new Api({ token: () => ticket, onRefused: () => {} });
  const rest = keepAwake();
  try {
    const onLink = (problem) => (problem ? state("lost", "Connection lost, trying again") : state("live", "Live"));
    const options = { signal: new AbortController().signal, ends: new Set(["done"]), tries: TRIES, onLink };
    for await (const event of events(api, `/v1/live/${session}/events`, options)) reading.take(event);
    state("over", "Over");
    place("waiting").hidden = true;
    over("That was all: the session is over. The words stay here until you leave the page.");
  } catch (problem) {
    state("failed", "Stopped");
    const words = {
      401: "This link does not work any more. Ask whoever speaks for a new one.",
      404: "This session is not there any more.",
    }[problem.status];
    place("waiting").hidden = true;
    over(...(words ? [words] : [problemWords(problem)]));
    place("end").classList.add("bad");
  } finally {
    rest();
  }
}

looks();
addEventListener("hashchange", () => location.reload()); // another link, in the same tab
await read();
