// The left side: uploads on their way, and the list of transcripts.

import { complain, confirm, h, icon, problemWords, say, setText } from "/page/dom.js";
import { ACTIVE } from "/page/tasks.js";
import { bytes, clock, when } from "/page/words.js";

const STATES = { queued: "Waiting", running: "Recognising", succeeded: "Done", failed: "Failed", cancelled: "Cancelled" };

/** Keeps `list`'s children equal to `items`, reusing the element of a key: focus and progress bars survive. */
function sync(list, items, keyOf, make, update) {
  const old = new Map([...list.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, at) => {
    const key = keyOf(item);
    const row = old.get(key) ?? make(item);
    row.dataset.key = key;
    old.delete(key);
    update(row, item);
    if (list.children[at] !== row) list.insertBefore(row, list.children[at] ?? null);
  });
  for (const row of old.values()) row.remove();
}

function button(label, name, onclick) {
  return h("button", { class: "button plain square", type: "button", "aria-label": label, title: label, onclick }, icon(name));
}

export function showUploads(uploads) {
  const list = document.getElementById("uploads");
  const box = document.getElementById("uploads-box");

  const act = (work) => work.catch(complain);
  const make = ({ record }) => {
    const { id, name } = record;
    const bar = h("progress", { max: "100", value: "0", "aria-label": `Upload of ${name}` });
    const found = h("input", { class: "hidden-input", type: "file", tabindex: "-1", "aria-label": `The file ${name} again`,
      onchange: () => act(again(id, name, found.files[0])) });
    return h("li", { class: "upload" },
      h("div", { class: "upload-head" }, h("span", { class: "name", title: name }, name),
        h("span", { class: "upload-buttons" },
          Object.assign(button(`Pause ${name}`, "pause", () => { say("Paused"); act(uploads.pause(id)); }), { className: "button plain square pause" }),
          Object.assign(button(`Continue ${name}`, "play", () => act(uploads.resume(id))), { className: "button plain square resume" }),
          button(`Give up ${name}`, "close", () => act(giveUp(id, name))))),
      bar, h("p", { class: "upload-state small quiet" }),
      h("p", { class: "upload-problem small wrong", role: "alert" }),
      h("button", { class: "button small-button find", type: "button", onclick: () => found.click() }, "Choose the file again"), found);
  };
  const again = async (id, name, file) => {
    if (file && !(await uploads.provide(id, file))) {
      complain({ title: `That is not the same ${name}`, detail: "To continue, it must be the file as it was. To send another one, give this up." });
    }
  };
  const giveUp = async (id, name) => {
    if (await confirm({ title: "Give this upload up?", text: `What has arrived of ${name} is erased on the server.`,
      yes: "Give it up", danger: true })) await uploads.remove(id);
  };
  const update = (row, item) => {
    const { record, state, sent, problem } = item;
    const percent = record.size ? Math.floor((100 * sent) / record.size) : 0;
    row.dataset.state = state;
    row.querySelector("progress").value = percent;
    const pauseButton = row.querySelector(".pause");
    const resumeButton = row.querySelector(".resume");
    const [mayPause, mayResume] = [["sending", "waiting"].includes(state), state === "paused" || (state === "failed" && problem.retryable)];
    const hadFocus = [pauseButton, resumeButton].includes(document.activeElement);
    pauseButton.hidden = !mayPause;
    resumeButton.hidden = !mayResume;
    if (hadFocus) (mayPause ? pauseButton : resumeButton).focus();
    row.querySelector(".find").hidden = state !== "lost";
    setText(row.querySelector(".upload-state"), {
      sending: `${percent} % · ${bytes(sent)} of ${bytes(record.size)}${problem ? " · connection lost, trying again" : ""}`,
      waiting: "Waits for its turn",
      paused: sent ? `Paused at ${percent} %` : "Paused",
      failed: "Stopped",
      lost: "To continue, this browser needs the file once more.",
    }[state] + (state === "sending" && item.kept === "nothing" ? " · do not reload: this browser keeps nothing" : ""));
    const wrong = row.querySelector(".upload-problem");
    const shown = problem && ["failed", "lost"].includes(state) ? JSON.stringify([problem.title, problem.detail, problem.traceId]) : "";
    if (wrong.dataset.shown !== shown) {
      wrong.dataset.shown = shown;
      wrong.replaceChildren(...(shown ? [problemWords(problem)] : []));
    }
  };

  const draw = () => {
    const items = [...uploads.items.values()];
    sync(list, items, (item) => item.record.id, make, update);
    box.hidden = !items.length;
  };
  uploads.addEventListener("change", draw);
  uploads.addEventListener("finished", ({ detail }) => say(`${detail.name} has arrived and is being recognised.`));
}

export function showTasks(tasks, current) {
  const list = document.getElementById("tasks");
  const more = document.getElementById("more");

  const make = (task) => h("li", {}, h("a", { class: "row", href: `#/task/${encodeURIComponent(task.task_id)}` },
    h("span", { class: "name" }), h("span", { class: "badge" }), h("span", { class: "preview" }),
    h("span", { class: "meta small quiet" })), h("progress", { max: "100" }));
  const update = (item, task) => {
    const row = item.firstChild;
    const name = task.file || "Untitled recording";
    row.dataset.state = task.state;
    if (current() === task.task_id) row.setAttribute("aria-current", "page");
    else row.removeAttribute("aria-current");
    setText(row.querySelector(".name"), name);
    setText(row.querySelector(".badge"), STATES[task.state] ?? task.state);
    setText(row.querySelector(".preview"), (task.result?.text ?? task.error?.detail ?? "").slice(0, 160));
    setText(row.querySelector(".meta"),
      [when(task.created_at), task.result ? clock(task.result.duration) : "", bytes(task.size)].filter(Boolean).join(" · "));
    const bar = item.querySelector("progress");
    bar.hidden = !ACTIVE.has(task.state);
    bar.value = task.percent;
    bar.setAttribute("aria-label", `Recognition of ${name}`);
  };

  const draw = () => {
    sync(list, tasks.all, (task) => task.task_id, make, update);
    document.getElementById("tasks-empty").hidden = !tasks.loaded || tasks.all.length > 0;
    more.hidden = !tasks.more;
  };
  more.addEventListener("click", () => tasks.showMore());
  tasks.addEventListener("change", draw);
  return draw;
}
