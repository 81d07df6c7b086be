// Draws /openapi.json: every call with its parameters, bodies, answers and a command to try; the schemas; the errors.

import { h } from "/page/dom.js";
import { paragraphs, rows, Schemas } from "/page/schema.js";

const METHODS = ["get", "post", "put", "patch", "delete"];

function operations(document) {
  return Object.entries(document.paths).flatMap(([path, item]) => METHODS.filter((method) => item[method]).map((method) => ({
    path, method, ...item[method], parameters: [...(item.parameters ?? []), ...(item[method].parameters ?? [])],
    tag: item[method].tags?.[0] ?? "Other", id: `${method}-${path.replaceAll(/[^a-z0-9]+/gi, "-").replaceAll(/^-|-$/g, "")}`,
  })));
}

/** A shell command that makes the call, with example values in place of parameters. */
function curl(operation, schemas) {
  const value = (parameter) => schemas.example({ examples: parameter.example === undefined ? undefined : [parameter.example], ...schemas.resolve(parameter.schema) });
  let path = operation.path;
  for (const parameter of operation.parameters.filter((one) => one.in === "path")) {
    const given = value(parameter);
    path = path.replace(`{${parameter.name}}`, given === "…" ? `$${parameter.name.toUpperCase()}` : encodeURIComponent(given));
  }
  const query = operation.parameters.filter((one) => one.in === "query" && one.required).map((one) => `${one.name}=${encodeURIComponent(value(one))}`);
  const lines = [`curl${operation.method === "get" ? "" : ` -X ${operation.method.toUpperCase()}`} "${location.origin}${path}${query.length ? `?${query.join("&")}` : ""}"`];
  if (operation.security?.length) lines.push('-H "Authorization: Bearer $TOKEN"');
  const content = schemas.resolve(operation.requestBody).content ?? {};
  if (content["application/json"]) {
    lines.push('-H "Content-Type: application/json"', `-d '${JSON.stringify(schemas.example(content["application/json"].schema))}'`);
  } else if (content["multipart/form-data"]) {
    const { properties = {}, required = [] } = schemas.resolve(content["multipart/form-data"].schema);
    for (const name of required) {
      lines.push(`-F ${name}=${properties[name]?.format === "binary" ? "@chunk.bin" : schemas.example(properties[name])}`);
    }
  } else if (Object.keys(content).length) {
    lines.push("--data-binary @chunk.bin");
  }
  return lines.join(" \\\n  ");
}

function body(content, schemas) {
  return Object.entries(content ?? {}).map(([kind, { schema, example, examples }]) => {
    const given = example ?? Object.values(examples ?? {})[0]?.value;
    const shown = given ?? (kind.includes("json") && schema ? schemas.example(schema) : undefined);
    return h("div", { class: "body" }, h("p", { class: "kind" }, h("code", {}, kind), ...(schema && (schema.$ref || schema.type === "array") ? [" ", ...schemas.type(schema)] : [])),
      schema && !schema.$ref ? schemas.members(schema) : null,
      shown === undefined ? null : h("pre", { tabindex: "0", role: "group", "aria-label": "Example" }, h("code", {}, typeof shown === "string" ? shown : JSON.stringify(shown, null, 2))));
  });
}

function drawOperation(operation, schemas) {
  const request = schemas.resolve(operation.requestBody);
  const answers = Object.entries(operation.responses ?? {});
  return h("article", { id: operation.id, class: "operation", "aria-labelledby": `${operation.id}-title` },
    h("h3", { id: `${operation.id}-title` }, h("span", { class: `method ${operation.method}` }, operation.method.toUpperCase()), " ", h("code", {}, operation.path)),
    ...paragraphs(operation.description ?? operation.summary),
    h("pre", { tabindex: "0", role: "group", "aria-label": "Command to try" }, h("code", {}, curl(operation, schemas))),
    operation.parameters.length ? h("h4", {}, "Parameters") : null,
    rows(operation.parameters.map((parameter) => ({ name: parameter.name, where: parameter.in, required: parameter.required,
      type: schemas.type(parameter.schema), limits: schemas.limits(parameter.schema), words: parameter.description ?? parameter.schema?.description }))),
    request.content ? h("h4", {}, "Body") : null, body(request.content, schemas),
    h("h4", {}, "Answers"),
    answers.map(([status, answer]) => {
      const { description = "", content } = schemas.resolve(answer);
      const head = [h("span", { class: `status s${status[0]}` }, status), " ", description];
      const inside = Object.keys(content ?? {}).some((kind) => kind.includes("problem")) ? [] : body(content, schemas);
      return inside.length ? h("details", { open: status[0] === "2" }, h("summary", {}, ...head), inside) : h("p", { class: "answer" }, ...head);
    }));
}

function drawSchemas(schemas) {
  return h("section", { id: "schemas" }, h("h2", {}, "Schemas"), Object.entries(schemas.all).map(([name, schema]) =>
    h("article", { id: `schema-${name}`, class: "operation" }, h("h3", {}, h("code", {}, name)), ...paragraphs(schema.description),
      schema.properties ? schemas.members(schema) : h("p", {}, ...schemas.type(schema)))));
}

/** Codes of problems: the gateway lists them as `x-problems`. A problem's `type` points here, at #code. */
function drawProblems(document) {
  const problems = document["x-problems"] ?? [];
  if (!problems.length) return null;
  return h("section", { id: "problems" }, h("h2", {}, "Problems"), h("div", { class: "table", tabindex: "0", role: "group", "aria-label": "Problems" }, h("table", {},
    h("thead", {}, h("tr", {}, ["Code", "Status", "Meaning"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, problems.map(({ code, status, title, retryable }) => h("tr", { id: code },
      h("th", { scope: "row" }, h("code", {}, code)), h("td", {}, String(status)),
      h("td", {}, title, retryable ? h("span", { class: "where" }, "the same request may succeed later") : null)))))));
}

function drawContents(groups, hasProblems) {
  const link = (href, ...words) => h("li", {}, h("a", { href }, ...words));
  return [...[...groups].map(([tag, list]) => [h("h2", {}, tag), h("ul", {}, list.map((operation) =>
    link(`#${operation.id}`, h("span", { class: `method ${operation.method}` }, operation.method.toUpperCase()), h("span", {}, operation.path))))]).flat(),
  h("h2", {}, "Reference"), h("ul", {}, link("#schemas", "Schemas"), hasProblems ? link("#problems", "Problems") : null)];
}

async function draw() {
  const main = document.getElementById("top");
  const response = await fetch("/openapi.json");
  if (!response.ok) throw new Error(`/openapi.json answered ${response.status}`);
  const description = await response.json();
  const schemas = new Schemas(description);
  const groups = group(operations(description));
  const problems = drawProblems(description);
  main.replaceChildren(
    h("h1", {}, `${description.info.title} API `, h("span", { class: "version" }, description.info.version)),
    ...paragraphs(description.info.description),
    ...[...groups].map(([tag, list]) => h("section", {}, h("h2", {}, tag), list.map((operation) => drawOperation(operation, schemas)))),
    drawSchemas(schemas), ...(problems ? [problems] : []));
  document.getElementById("contents").replaceChildren(...drawContents(groups, Boolean(problems)));
  document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView(); // what the address names exists only now
}

/** tag → its operations, in the order of the document. */
function group(list) {
  const groups = new Map();
  for (const one of list) groups.set(one.tag, [...(groups.get(one.tag) ?? []), one]);
  return groups;
}

draw().catch((error) => {
  document.getElementById("about").textContent = `The description cannot be read: ${error.message}.`;
});
