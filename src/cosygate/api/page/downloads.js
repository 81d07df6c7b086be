// The transcript as a file, in each of the five formats. A plain link cannot send the token: fetched, then saved.

import { complain, h } from "/page/dom.js";

const FORMATS = {
  txt: "Plain text",
  srt: "Subtitles (SubRip)",
  vtt: "Subtitles (WebVTT)",
  tsv: "Table, tab separated",
  json: "Everything, for programs",
};

async function save(api, path, format, name) {
  const response = await api.call(`${path}/transcript?format=${format}`, { headers: { Accept: "*/*" } });
  const url = URL.createObjectURL(await response.blob());
  const link = h("a", { href: url, download: `${name.replace(/\.[^.]{1,5}$/, "")}.${format}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // the browser may read it later than the click
}

/** A group of buttons. `nameOf()` gives the recording's file name, if it has one. */
export function downloads(api, path, nameOf) {
  return h("div", { class: "downloads", role: "group", "aria-label": "Download the transcript" },
    h("span", { class: "small quiet", "aria-hidden": "true" }, "Download"),
    h("span", { class: "joined" }, Object.entries(FORMATS).map(([format, words]) =>
      h("button", { class: "button small-button", type: "button", title: words, "aria-label": `${format.toUpperCase()}: ${words}`,
        onclick: () => save(api, path, format, nameOf() || "transcript").catch(complain) }, format.toUpperCase()))));
}
