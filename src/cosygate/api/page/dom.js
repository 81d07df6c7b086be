// Small pieces that every view uses: making elements, icons, telling the user, asking them.

const SVG = "http://www.w3.org/2000/svg";

/** An element. Properties that start with `on` are listeners, `dataset` is merged, the rest are attributes;
 * null, undefined and false leave an attribute out. Text becomes text, never markup. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Sets an element's text only when it differs, so that screen readers and selections are left in peace. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Says a line to screen readers, without showing it. */
export function say(text) {
  document.getElementById("said").textContent = text;
}

/** The words of a Problem, with the trace id that the server's log lines carry. */
export function problemWords(problem) {
  const detail = problem.detail && problem.detail !== problem.title ? `${sentence(problem.detail)} ` : "";
  return h("span", { class: "problem" },
    h("strong", {}, sentence(problem.title || "Something went wrong")), " ", detail,
    problem.traceId ? h("span", { class: "trace" }, "Trace ", h("code", {}, problem.traceId)) : null);
}

function sentence(text) {
  const clean = text.trim().replace(/^[a-z]/, (letter) => letter.toUpperCase());
  return /[.!?]$/.test(clean) ? clean : `${clean}.`;
}

/** Shows a problem until it is dismissed. Problems of an aborted call are not shown. */
export function complain(problem) {
  if (problem?.name === "AbortError" || problem?.status === 401) return;
  const shown = problem?.title ? problem : { title: "Something went wrong on this page", detail: String(problem) };
  const notice = h("div", { class: "notice", role: "alert" }, problemWords(shown),
    h("button", { class: "button plain square", type: "button", "aria-label": "Dismiss",
      onclick: () => notice.remove() }, icon("close")));
  const notices = document.getElementById("notices");
  while (notices.children.length >= 3) notices.firstChild.remove();
  notices.append(notice);
}

let pending = null; // takes the answer of the question that is shown

/** Asks before something that cannot be undone. Escape and the first button mean no. */
export function confirm({ title, text, yes, no = "Keep it", danger = false }) {
  const dialog = document.getElementById("confirm");
  const [accept, refuse] = [document.getElementById("confirm-yes"), document.getElementById("confirm-no")];
  document.getElementById("confirm-title").textContent = title;
  document.getElementById("confirm-text").textContent = text;
  accept.textContent = yes;
  refuse.textContent = no;
  accept.className = danger ? "button danger" : "button strong";
  const settle = (answer) => {
    pending?.(answer);
    pending = null;
    if (dialog.open) dialog.close();
  };
  settle(false); // a question that nobody has answered
  accept.onclick = () => settle(true);
  refuse.onclick = () => settle(false);
  // The event comes some time after the closing: by then the next question may be on the screen.
  dialog.onclose = () => { if (!dialog.open) settle(false); };
  dialog.showModal();
  refuse.focus();
  return new Promise((resolve) => { pending = resolve; });
}
