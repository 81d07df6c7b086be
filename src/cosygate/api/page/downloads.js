// The transcript as a file, in each of the formats. A plain link cannot send the token: fetched, then saved.

import { complain, h } from "/page/dom.js";

// format: [label, what it is, how a file of it ends]
const FORMATS = {
  txt: ["TXT", "Plain text", "txt"],
  srt: ["SRT", "Subtitles (SubRip)", "srt"],
  vtt: ["VTT", "Subtitles (WebVTT)", "vtt"],
  "vtt-karaoke": ["VTT words", "Subtitles that light up word by word (WebVTT)", "karaoke.vtt"],
  ttml: ["TTML", "Subtitles for broadcasters (TTML)", "ttml"],
  tsv: ["TSV", "Table, tab separated", "tsv"],
  json: ["JSON", "Everything, for programs", "json"],
};

async function save(api, path, format, { name, version }) {
  const query = new URLSearchParams({ format, ...(version && { version }) });
  const response = await api.call(`${path}/transcript?${query}`, { headers: { Accept: "*/*" } });
  const url = URL.createObjectURL(await response.blob());
  const link = h("a", { href: url, download: `${(name || "transcript").replace(/\.[^.]{1,5}$/, "")}.${FORMATS[format][2]}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // the browser may read it later than the click
}

/** A group of buttons. `shown()` tells the recording's file name, if it has one, and the version on the page. */
export function downloads(api, path, shown) {
  return h("div", { class: "downloads", role: "group", "aria-label": "Download the transcript" },
    h("span", { class: "small quiet", "aria-hidden": "true" }, "Download"),
    h("span", { class: "joined" }, Object.entries(FORMATS).map(([format, [label, words]]) =>
      h("button", { class: "button small-button", type: "button", title: words, "aria-label": `${label}: ${words}`,
        onclick: () => save(api, path, format, shown()).catch(complain) }, label))));
}
