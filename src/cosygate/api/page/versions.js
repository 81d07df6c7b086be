// Which version of a transcript is shown: the recogniser's own, and one for every time that somebody saved.

import { h, setText } from "/page/dom.js";
import { when } from "/page/words.js";

function label({ version, created_at }, newest) {
  if (version === 1) return "1 · as recognised";
  return `Version ${version} · ${when(created_at)}${version === newest ? " (newest)" : ""}`;
}

/** Events: `show` (detail: a version's number), `restore` (the same): it is to be the newest again. */
export class Versions extends EventTarget {
  constructor() {
    super();
    this.select = h("select", { id: "version", onchange: () => this.#tell("show", Number(this.select.value)) });
    this.note = h("p", { class: "small quiet" });
    this.restore = h("button", { class: "button small-button", type: "button",
      onclick: () => this.#tell("restore", this.shown) }, "Restore this version");
    this.element = h("div", { class: "versions", hidden: true }, h("label", { for: "version", class: "small quiet" }, "Version"),
      this.select, this.restore, this.note);
  }

  /** `versions` as the server lists them, oldest first; `shown` is the number of the one on the page. */
  show(versions, shown) {
    this.shown = shown;
    this.newest = versions.at(-1).version;
    this.element.hidden = versions.length < 2;
    this.select.replaceChildren(...[...versions].reverse().map((one) => h("option", { value: one.version }, label(one, this.newest))));
    this.select.value = String(shown);
    this.restore.hidden = shown === this.newest;
    const { by, restores } = versions.find(({ version }) => version === shown) ?? {};
    setText(this.note, [shown === this.newest ? "" : "An earlier version, to read only.", by ? `Saved by ${by}.` : "",
      restores ? `The same as version ${restores}.` : ""].filter(Boolean).join(" "));
  }

  #tell(kind, detail) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }
}
