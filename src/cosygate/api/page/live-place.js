// Where speaking has its place on the page: the button that begins it, the card that leads back to it, what comes after.

import { complain } from "/page/dom.js";
import { LiveView } from "/page/live-view.js";
import { liveOptions } from "/page/options.js";
import { clock } from "/page/words.js";

/** The view, to be shown when the address leads to it. */
export function showLive(live, tasks) {
  const root = document.getElementById("live");
  const card = document.getElementById("now");
  const open = () => location.hash === "#/live";
  const start = () => live.start(liveOptions());
  const view = new LiveView({ live, root, start,
    resume: (kept) => live.start(liveOptions(), { adopt: kept }), finish: (kept) => live.finish(kept) });

  document.getElementById("speak").addEventListener("click", () => {
    if (!open()) location.hash = "#/live";
    start(); // nothing, while somebody is speaking
  });

  let shown = "";
  live.addEventListener("change", () => {
    const words = live.active ? `${live.speaking ? "Speaking" : "Finishing"} · ${clock((live.session?.ring.end ?? 0) / 16_000)}`
      : live.cutOff ? "A session was cut off · look" : "";
    if (words === shown) return;
    shown = words;
    card.hidden = !words;
    card.textContent = words;
  });

  live.addEventListener("finished", async ({ detail }) => {
    const here = open(); // before anything else moves
    await tasks.refresh();
    if (detail.missing >= 0.1) {
      complain({ title: `The last ${Math.ceil(detail.missing)} s did not arrive`,
        detail: "The server had finished before the connection came back." });
    }
    if (here && open()) location.hash = `#/task/${encodeURIComponent(detail.taskId)}`;
  });

  return view;
}
