// Shows /openapi.json as a page. Text from the description is only ever set as text, never as markup.
"use strict";

const DEEPEST = 8;
let schemas = {};

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function resolved(schema) {
  const name = schema?.$ref?.replace("#/components/schemas/", "");
  return name ? { title: name, ...schemas[name] } : (schema ?? {});
}

function withoutNull(schema) {
  const choices = (schema.anyOf ?? schema.oneOf ?? []).filter((choice) => choice.type !== "null");
  return choices.length === 1 ? { ...resolved(choices[0]), description: schema.description ?? choices[0].description } : schema;
}

function bounds(schema) {
  const pairs = [["≥", schema.minimum], ["≤", schema.maximum], ["length ≥", schema.minLength], ["length ≤", schema.maxLength],
    ["items ≥", schema.minItems], ["items ≤", schema.maxItems], ["matches", schema.pattern]];
  return pairs.filter(([, value]) => value !== undefined).map(([sign, value]) => `${sign} ${value}`).join(", ");
}

function kindOf(schema) {
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.anyOf || schema.oneOf) return "one of";
  const kinds = [schema.type ?? "anything"].flat().filter((kind) => kind !== "null").join(" | ");
  const limits = bounds(schema);
  const items = kinds === "array" && schema.items ? ` of ${kindOf(withoutNull(resolved(schema.items)))}` : "";
  return `${kinds}${items}${limits ? ` (${limits})` : ""}`;
}

function insides(schema, depth) {
  if (depth > DEEPEST) return element("p", { class: "note" }, "…");
  if (schema.properties) {
    const rows = Object.entries(schema.properties).map(([name, field]) =>
      row(name, field, (schema.required ?? []).includes(name), depth));
    return element("ul", { class: "fields" }, ...rows);
  }
  const choices = schema.anyOf ?? schema.oneOf ?? schema.allOf;
  if (choices) {
    return element("ul", { class: "fields" }, ...choices.filter((choice) => choice.type !== "null")
      .map((choice) => row(null, choice, false, depth)));
  }
  if (schema.items) return insides(withoutNull(resolved(schema.items)), depth + 1);
  return null;
}

function row(name, field, required, depth) {
  const schema = withoutNull(resolved(field));
  const line = [name ? element("code", {}, name) : null, element("span", { class: "kind" }, schema.title ?? kindOf(schema)),
    required ? element("span", { class: "must" }, "required") : null];
  const description = field.description ?? schema.description;
  const note = description ? element("p", { class: "note" }, description) : null;
  const inside = insides(schema, depth + 1);
  const attributes = schema.deprecated || field.deprecated ? { class: "deprecated" } : {};
  if (!inside) return element("li", attributes, ...line, note);
  return element("li", attributes, element("details", {}, element("summary", {}, ...line), note, inside));
}

function body(title, content) {
  const parts = [element("h4", {}, title)];
  for (const [type, media] of Object.entries(content ?? {})) {
    const schema = withoutNull(resolved(media.schema ?? media.itemSchema));
    parts.push(element("p", { class: "note" }, element("code", {}, type), " ", schema.title ?? kindOf(schema)));
    const inside = insides(schema, 0);
    if (inside) parts.push(inside);
  }
  return parts;
}

function command(method, path, operation) {
  const lines = [`curl ${location.origin}${path}`];
  if (method !== "get") lines[0] += ` -X ${method.toUpperCase()}`;
  if (operation.requestBody) lines.push("  -H 'Content-Type: application/json'", "  -d '{ … }'");
  return element("pre", {}, element("code", {}, lines.join(" \\\n")));
}

function operationSection(id, method, path, operation) {
  const parts = [element("h3", {}, element("span", { class: "method" }, method.toUpperCase()), element("code", {}, path)),
    element("p", {}, operation.summary ?? ""), operation.description ? element("p", {}, operation.description) : null,
    command(method, path, operation)];
  if (operation.parameters?.length) {
    parts.push(element("h4", {}, "Parameters"), element("ul", { class: "fields" }, ...operation.parameters.map((parameter) =>
      row(parameter.name, { ...parameter.schema, description: parameter.description }, parameter.required, 0))));
  }
  if (operation.requestBody) parts.push(...body("Request", operation.requestBody.content));
  for (const [status, response] of Object.entries(operation.responses ?? {})) {
    parts.push(...body(`${status}: ${response.description}`, response.content));
  }
  return element("section", { id }, ...parts);
}

function show(api) {
  schemas = api.components?.schemas ?? {};
  const groups = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const group = operation.tags?.[0] ?? "other";
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push([method, path, operation]);
    }
  }
  const contents = document.getElementById("contents");
  const reference = document.getElementById("reference");
  reference.replaceChildren(element("h1", {}, `${api.info.title} ${api.info.version}`), element("p", {}, api.info.description ?? ""),
    element("p", {}, "The same for programs: ", element("a", { href: "openapi.json" }, "/openapi.json")));
  for (const [group, operations] of groups) {
    contents.append(element("h2", {}, group));
    reference.append(element("h2", {}, group));
    for (const [method, path, operation] of operations) {
      const id = `${method}-${path}`.replace(/[^a-z0-9]+/gi, "-");
      contents.append(element("a", { href: `#${id}` }, element("span", { class: "method" }, method.toUpperCase()), path));
      reference.append(operationSection(id, method, path, operation));
    }
  }
}

async function load() {
  const response = await fetch("openapi.json");
  if (!response.ok) throw new Error(`/openapi.json: ${response.status}`);
  show(await response.json());
}

load().catch((error) => document.getElementById("reference").replaceChildren(element("p", {}, `The description could not be loaded: ${error.message}`)));
