// Questions with more than a yes and a no: which of several ways to go, and what somebody is called.

import { h, setText } from "/page/dom.js";
import { clean, LONGEST_NAME } from "/page/edits.js";

let asked = 0; // ids of titles
const open = new Set(); // dialogs that nobody has answered

/** Answers whatever is asked with null: what it was asked for is not shown any more. */
export function dismissQuestions() {
  for (const dialog of [...open]) dialog.close();
}

/** Shows a dialog until it is answered. Escape means null. The focus goes back to where it was. */
function show(title, className, content) {
  const id = `asked-${asked += 1}`;
  const dialog = h("dialog", { class: `confirm ${className}`, "aria-labelledby": id }, h("h2", { id }, title), ...content);
  document.body.append(dialog);
  open.add(dialog);
  dialog.showModal();
  const answer = new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      open.delete(dialog);
      dialog.remove();
      resolve(dialog.returnValue || null);
    }, { once: true });
  });
  return { dialog, answer };
}

/** One of `choices` ([value, label, class of the button]), or null. `details` stand between the text and the buttons. */
export async function choose({ title, text, details = null, choices }) {
  let question;
  const buttons = choices.map(([value, label, look = "button"]) =>
    h("button", { class: look, type: "button", onclick: () => question.dialog.close(value) }, label));
  const content = [h("p", {}, text), details, h("div", { class: "confirm-actions" }, buttons)];
  question = show(title, "choose", content.filter(Boolean));
  buttons[0].focus();
  return question.answer;
}

/** A name, or null. `others` are taken: choosing one of them means to become one with it, and the dialog says so. */
export async function askName({ title, name = "", others = [], yes }) {
  let question;
  const hint = h("p", { class: "small hint", role: "status" });
  const accept = h("button", { class: "button strong", type: "submit" }, yes);
  const tell = () => {
    const given = clean(field.value);
    const merges = name !== "" && others.includes(given);
    accept.disabled = !given;
    setText(accept, merges ? "Merge" : yes);
    setText(hint, merges ? `${given} is a speaker already: ${name} and ${given} will be merged.`
      : others.includes(given) ? `${given} is a speaker already.` : "");
  };
  const field = h("input", { type: "text", "aria-label": "Name", maxlength: LONGEST_NAME, autocomplete: "off",
    required: true, oninput: tell });
  field.value = name;
  const form = h("form", { onsubmit: (event) => {
    event.preventDefault();
    if (clean(field.value)) question.dialog.close(clean(field.value));
  } }, field, hint, h("div", { class: "confirm-actions" },
    h("button", { class: "button", type: "button", onclick: () => question.dialog.close() }, "Cancel"), accept));
  tell();
  question = show(title, "ask-name", [form]);
  field.select();
  return question.answer;
}
