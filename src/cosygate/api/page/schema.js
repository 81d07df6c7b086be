// Draws JSON Schemas, as OpenAPI 3.1 carries them: a short name of a type, a table of members, an example value.

import { h } from "/page/dom.js";

const DEEPEST = 6; // of nested examples; schemas may refer to themselves

export class Schemas {
  constructor(document) {
    this.document = document;
    this.all = document.components?.schemas ?? {};
  }

  /** What a {"$ref": "#/…"} stands for; anything else as it is. */
  resolve(thing) {
    if (!thing?.$ref) return thing ?? {};
    return thing.$ref.slice(2).split("/").reduce((at, key) => at?.[key.replaceAll("~1", "/").replaceAll("~0", "~")], this.document) ?? {};
  }

  /** A type in a few words, with links to the schemas it names. */
  type(schema = {}) {
    if (schema.$ref) {
      const name = schema.$ref.split("/").at(-1);
      return [h("a", { href: `#schema-${name}` }, name)];
    }
    const either = schema.anyOf ?? schema.oneOf ?? schema.allOf;
    if (either) return either.flatMap((one, at) => (at ? [" or ", ...this.type(one)] : this.type(one)));
    if (schema.enum) return schema.enum.flatMap((value, at) => [at ? " | " : "", h("code", {}, JSON.stringify(value))]);
    if ("const" in schema) return [h("code", {}, JSON.stringify(schema.const))];
    if (schema.type === "array") return ["list of ", ...this.type(schema.items)];
    const type = Array.isArray(schema.type) ? schema.type.join(" or ") : (schema.type ?? "anything");
    return [schema.format ? `${type} (${schema.format})` : type];
  }

  /** Limits, default and pattern of a schema, as short words. */
  limits(schema = {}) {
    const names = { default: "default", minimum: "at least", maximum: "at most", minLength: "characters at least",
      maxLength: "characters at most", pattern: "matches" };
    return Object.entries(names).filter(([key]) => schema[key] !== undefined && schema[key] !== null).flatMap(([key, words]) =>
      [h("span", { class: "limit" }, `${words} `, h("code", {}, key === "pattern" ? schema[key] : JSON.stringify(schema[key])))]);
  }

  /** A table of an object's members. */
  members(schema) {
    const { properties = {}, required = [] } = this.resolve(schema);
    return rows(Object.entries(properties).map(([name, member]) => ({
      name, required: required.includes(name), type: this.type(member), words: member.description, limits: this.limits(member) })));
  }

  /** A value as it may look: what the schema gives as an example, else one made of its types. */
  example(schema, depth = 0) {
    const real = this.resolve(schema);
    const given = real.example ?? real.examples?.[0] ?? real.default ?? real.const ?? real.enum?.[0];
    if (given !== undefined && given !== null) return given;
    const one = (real.anyOf ?? real.oneOf ?? real.allOf)?.[0];
    if (one) return this.example(one, depth + 1);
    if (depth > DEEPEST) return null;
    if (real.type === "object" || real.properties) {
      return Object.fromEntries(Object.entries(real.properties ?? {}).map(([name, member]) => [name, this.example(member, depth + 1)]));
    }
    if (real.type === "array") return [this.example(real.items, depth + 1)];
    const formats = { "date-time": "2026-11-22T08:37:00Z", binary: "…bytes…" };
    return formats[real.format] ?? { integer: real.minimum ?? 0, number: 0.5, boolean: true, string: "…" }[real.type] ?? null;
  }
}

/** A table of named things: parameters, members. */
export function rows(items) {
  if (!items.length) return null;
  return h("div", { class: "table", tabindex: "0", role: "group", "aria-label": "Table" }, h("table", {},
    h("thead", { class: "unseen" }, h("tr", {}, h("th", {}, "Name"), h("th", {}, "Type and meaning"))),
    h("tbody", {}, items.map(({ name, where, required, type, words, limits = [] }) => h("tr", {},
      h("th", { scope: "row" }, h("code", {}, name), where ? h("span", { class: "where" }, where) : null,
        required ? h("span", { class: "must" }, "required") : null),
      h("td", {}, h("span", { class: "type" }, ...type), ...limits.flatMap((limit) => [" ", limit]),
        words ? h("p", {}, ...inline(words)) : null))))));
}

/** Markdown's `code` and paragraphs are all that the descriptions use. */
export function inline(text) {
  return text.split("`").map((piece, at) => (at % 2 ? h("code", {}, piece) : piece)).filter((piece) => piece !== "");
}

export function paragraphs(text = "") {
  return text.split(/\n{2,}/).filter((block) => block.trim()).map((block) => h("p", {}, ...inline(block.trim())));
}
