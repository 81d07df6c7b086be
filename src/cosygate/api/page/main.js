// Puts the page together: sign-in, uploads, speaking, the list, the open task, and the address (#/task/…, #/live) that
// says what is open.

import { Api } from "/page/api.js";
import { complain, confirm } from "/page/dom.js";
import { Drafts } from "/page/drafts.js";
import { watchDrop } from "/page/drop.js";
import { Live } from "/page/live.js";
import { showLive } from "/page/live-place.js";
import { offerOptions } from "/page/options.js";
import { showTasks, showUploads } from "/page/shelf.js";
import { ownerOf, SignIn } from "/page/signin.js";
import { UploadStore } from "/page/store.js";
import { TaskView } from "/page/task-view.js";
import { Tasks } from "/page/tasks.js";
import { Uploads } from "/page/uploads.js";

const signIn = new SignIn({ confirm, unsaved: () => Boolean(drafts.count || view?.unsaved) });
const api = new Api({ token: () => signIn.token, onRefused: (problem) => { rest(); signIn.ask(problem); } });
const uploads = new Uploads(api, await UploadStore.open());
const tasks = new Tasks(api, complain);
const drafts = new Drafts();
const live = new Live(api, () => ownerOf(signIn.token));

const reading = document.getElementById("reading");
const blank = document.getElementById("blank");
const root = document.getElementById("task");
let view = null;

const taskInAddress = () => decodeURIComponent(location.hash.match(/^#\/task\/([^/]+)$/)?.[1] ?? "");
const drawTasks = showTasks(tasks, taskInAddress);
showUploads(uploads);
const liveView = showLive(live, tasks);

/** Shows what the address names. */
function route() {
  const id = taskInAddress();
  if (!signIn.token || view?.taskId === id) return;
  if (view?.wouldLose) return void stay(location.hash);
  view?.close();
  view = null;
  const speaking = location.hash === "#/live";
  document.body.dataset.view = id ? "task" : speaking ? "live" : "home";
  blank.hidden = Boolean(id) || speaking;
  root.hidden = !id;
  root.replaceChildren();
  document.title = "CosyGate";
  drawTasks();
  scrollTo(0, 0);
  const moved = document.activeElement === document.body || document.activeElement.closest("#tasks, #live");
  liveView.show(speaking);
  if (!id) return;
  view = new TaskView({ api, tasks, drafts, taskId: id, root, leave: () => {
    location.hash = "#/";
    document.getElementById("choose").focus();
  } });
  view.open();
  // The focus goes along, unless somebody is in the middle of something else.
  if (moved) view.title.focus({ preventScroll: true });
}

/** Nothing keeps the changes of the open transcript: goes to `address` only if somebody wants to lose them. */
async function stay(address) {
  location.hash = `#/task/${encodeURIComponent(view.taskId)}`;
  if (!(await confirm({ title: "Leave without saving?", text: "This browser has no room to keep your changes.",
    yes: "Leave", no: "Stay", danger: true }))) return;
  const taskId = view?.taskId;
  view?.close();
  view = null;
  if (taskId) drafts.remove(taskId);
  location.hash = address;
}

/** Stops everything that uses the token. Nothing is forgotten. */
function rest() {
  uploads.halt();
  live.rest();
  tasks.stop();
  view?.close();
  view = null;
}

signIn.addEventListener("entered", () => {
  rest();
  drafts.enter(ownerOf(signIn.token));
  live.enter();
  route();
  tasks.start();
  uploads.restore(ownerOf(signIn.token)).catch(complain);
  offerOptions(api).catch(complain);
});

signIn.addEventListener("leaving", async () => {
  if (live.active && !(await confirm({ title: "Sign out?", yes: "Stop and sign out", no: "Stay", danger: true,
    text: "You are speaking. Signing out ends that; the transcript is kept on the server." }))) return;
  const open = uploads.items.size;
  if (open && !(await confirm({ title: "Sign out?", yes: "Sign out", no: "Stay", danger: true,
    text: `${open === 1 ? "One upload is" : `${open} uploads are`} not finished. Signing out gives them up.` }))) return;
  if ((drafts.count || view?.unsaved) && !(await confirm({ title: "Sign out?", yes: "Sign out", no: "Stay", danger: true,
    text: "Changes of a transcript are not saved. Signing out gives them up." }))) return;
  await live.leave();
  // A shared machine keeps no recordings of somebody who has left.
  await Promise.allSettled([...uploads.items.keys()].map((id) => uploads.remove(id)));
  rest();
  drafts.clear();
  history.replaceState(null, "", location.pathname);
  signIn.ask();
});

uploads.addEventListener("finished", async ({ detail }) => {
  await tasks.refresh();
  if (!taskInAddress()) location.hash = `#/task/${encodeURIComponent(detail.taskId)}`;
});

watchDrop({ ready: () => Boolean(signIn.token), take: (files, options) => uploads.add(files, options).catch(complain) });
document.getElementById("options").addEventListener("toggle", ({ target }) => { // engines come and go
  if (target.open && signIn.token) offerOptions(api).catch(complain);
});
addEventListener("hashchange", route);
addEventListener("beforeunload", (event) => {
  view?.keep();
  if (drafts.count || view?.unsaved) event.preventDefault(); // a draft outlives a reload, but not the tab
});
addEventListener("pagehide", () => view?.keep());
addEventListener("keydown", (event) => view?.onKey(event));
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names the open task and must stay
  reading.focus();
});
await signIn.start();
