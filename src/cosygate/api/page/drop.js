// Where recordings come in: the button, a drop anywhere on the page, a paste.

import { chosenOptions, watchOptions } from "/page/options.js";

/** `take(files, options)` gets what was chosen; `ready()` says whether somebody is signed in. */
export function watchDrop({ take, ready }) {
  const input = document.getElementById("files");
  const veil = document.getElementById("veil");
  watchOptions();

  const pass = (files) => {
    const list = [...files];
    if (list.length && ready()) take(list, chosenOptions());
  };
  document.getElementById("choose").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    pass(input.files);
    input.value = ""; // the same file may be chosen again
  });

  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  let inside = 0; // dragenter and dragleave fire for every element on the way
  const lift = () => { inside = 0; veil.hidden = true; };
  addEventListener("dragenter", (event) => {
    if (!hasFiles(event) || !ready()) return;
    inside += 1;
    veil.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (hasFiles(event) && (inside -= 1) <= 0) lift();
  });
  addEventListener("dragover", (event) => {
    if (hasFiles(event)) event.preventDefault(); // or the browser would leave the page and open the file
  });
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    lift();
    pass(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => pass(event.clipboardData?.files ?? []));
}
