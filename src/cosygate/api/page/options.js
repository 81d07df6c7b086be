// The options of the next uploads: filled from GET /v1/models, remembered in this browser.

import { h } from "/page/dom.js";
import { language } from "/page/words.js";

const KEY = "cosygate.options";
const NAMES = ["language", "model", "channels", "speakers", "word-times"];
const ABILITIES = { speakers: "speakers", "word-times": "words" }; // offered where a model has this capability
const MOST_SPEAKERS = 10; // to choose from; the API takes more
// Offered when a model says "*": it takes any language. The list is for choosing, not a limit of the API.
const COMMON = ["ar", "bn", "cs", "da", "de", "el", "en", "es", "fa", "fi", "fr", "he", "hi", "hu", "id", "it", "ja",
  "ko", "ms", "nl", "no", "pl", "pt", "ro", "ru", "sv", "th", "tr", "uk", "ur", "vi", "yue", "zh"];

let models = [];

const field = (name) => document.getElementById(name);

/** Reads which models there are and offers them. */
export async function offerOptions(api) {
  const { engines } = await api.json("/v1/models");
  models = engines.flatMap((engine) => engine.models);
  const tags = new Set(models.flatMap((model) => (model.languages.includes("*") ? COMMON : model.languages)));
  const names = [...tags].map((tag) => [tag, language(tag)]).sort((a, b) => a[1].localeCompare(b[1], "en"));
  fill(field("language"), names);
  fill(field("model"), [...new Set(models.map(({ name }) => name))].map((name) => [name, name]));
  const numbers = Array.from({ length: MOST_SPEAKERS - 1 }, (_, n) => [`${n + 2}`, `There are ${n + 2}`]);
  fill(field("speakers"), [["auto", "Tell them apart"], ...numbers]);
  recall();
}

/** Offers what the chosen model can, or one of them when none is chosen: anything else would be refused. */
function offerAbilities() {
  const chosen = offered();
  for (const [name, ability] of Object.entries(ABILITIES)) {
    const can = chosen.some((model) => model[ability]);
    field(name).hidden = !can;
    field(name).labels[0].hidden = !can;
  }
}

function fill(select, choices) {
  select.replaceChildren(select.options[0], ...choices.map(([value, text]) => h("option", { value }, text)));
}

function recall() {
  let kept = {};
  try {
    kept = JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    // Written by something else; the defaults will do.
  }
  for (const name of NAMES) {
    const select = field(name);
    if ([...select.options].some((option) => option.value === kept[name])) select.value = kept[name];
  }
  tell();
}

/** The options that differ from the server's defaults, as query parameters. */
export function chosenOptions() {
  const { speakers, "word-times": words, ...others } = chosen();
  return {
    ...others,
    ...(speakers && { diarize: "true" }), ...(speakers && speakers !== "auto" && { num_speakers: speakers }),
    ...(words && { words: "true" }),
  };
}

/** The same for a live session, as members of its first message. Who speaks is asked for where a model tells it live. */
export function liveOptions() {
  const { language, model, diarize, num_speakers } = chosenOptions();
  const can = offered().some(({ live_speakers }) => live_speakers);
  return { ...(language && { language }), ...(model && { model }),
    options: can && diarize ? { diarize, ...(num_speakers && { num_speakers }) } : {} };
}

/** The models that may be asked: the chosen one, or all. */
function offered() {
  return models.filter(({ name }) => !field("model").value || name === field("model").value);
}

/** What is chosen beside the defaults, by the names of the fields. */
function chosen() {
  return Object.fromEntries(NAMES.map((name) => [name, field(name)])
    .filter(([, select]) => select.selectedIndex > 0 && !select.hidden).map(([name, select]) => [name, select.value]));
}

/** The summary says what is chosen, so that a closed box hides nothing. */
function tell() {
  offerAbilities();
  const words = Object.keys(chosen()).map((name) => {
    const { dataset, selectedOptions } = field(name);
    return dataset.short ?? selectedOptions[0].textContent;
  });
  document.querySelector("#options summary").textContent = ["Options", ...words].join(" · ");
}

export function watchOptions() {
  for (const name of NAMES) {
    field(name).addEventListener("change", () => {
      localStorage.setItem(KEY, JSON.stringify(chosen()));
      tell();
    });
  }
}
