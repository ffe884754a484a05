// A form made from a JSON Schema: what the catalog's schemas use, and plain JSON for whatever else one may hold.

import { element } from "./dom.js";

/** Longer texts get an area of several lines. */
const LINE = 1000;

let numbers = 0;

/** Words that are written in capitals. */
const CAPITALS = /\b(id|ip|url)(?=s?\b)/g;

/** "badge_title" → "Badge title", "student_id" → "Student ID". */
function words(name) {
  const spaced = name.replaceAll("_", " ").replace(CAPITALS, (word) => word.toUpperCase());
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
}

/** A field: `node` to show, `value()` (undefined: left out), `mark(path, message)` returns whether the path was its own. */
function field(name, schema, given, required) {
  if (schema.type === "object" && schema.properties) return objectField(name, schema, given, required);
  const kind = kindOf(schema);
  const id = `field-${++numbers}`;
  const input = kind.make(schema, given);
  input.id = id;
  input.required = required;
  input.setAttribute("aria-describedby", `${id}-error`);
  const error = element("p", { class: "field-error", id: `${id}-error` });
  const label = element("label", { for: id }, words(name), required ? "" : element("span", { class: "quiet" }, " optional"));
  const inline = input.type === "checkbox";
  return {
    node: element("div", { class: inline ? "field inline" : "field" }, ...(inline ? [input, label] : [label, input]), error),
    value: () => kind.read(input, required, given),
    mark(path, message) {
      input.setAttribute("aria-invalid", "true");
      error.textContent = [error.textContent, message].filter(Boolean).join("; ");
      return input;
    },
    clear() {
      input.removeAttribute("aria-invalid");
      error.textContent = "";
    },
  };
}

function kindOf(schema) {
  const types = [schema.type].flat();
  if ("const" in schema) return CONSTANT;
  if (schema.enum) return CHOICE;
  if (types.length === 1 && types[0] === "boolean") return FLAG;
  if (types.length === 1 && (types[0] === "integer" || types[0] === "number")) return NUMBER;
  if (types.length === 1 && types[0] === "array" && schema.items?.type === "string") return LIST;
  if (types.includes("string")) return TEXT;
  return JSON_TEXT;
}

const CHOICE = {
  make(schema, given) {
    const options = schema.enum.map((value) => element("option", { value: String(value) }, words(String(value))));
    const select = element("select", {}, element("option", { value: "" }, "—"), ...options);
    select.value = given === undefined ? "" : String(given);
    return select;
  },
  read: (input) => input.value || undefined,
};

const CONSTANT = {
  make(schema) {
    const input = element("input", { type: "text", readonly: "" });
    input.value = String(schema.const);
    input.dataset.constant = JSON.stringify(schema.const);
    return input;
  },
  read: (input) => JSON.parse(input.dataset.constant),
};

const FLAG = {
  make(schema, given) {
    const input = element("input", { type: "checkbox" });
    input.checked = given === true;
    return input;
  },
  read: (input, required) => (input.checked || required ? input.checked : undefined),
};

const NUMBER = {
  make(schema, given) {
    const input = element("input", { type: "number", step: schema.type === "integer" ? "1" : "any" });
    if (schema.minimum !== undefined) input.min = schema.minimum;
    input.value = given ?? "";
    return input;
  },
  read: (input) => (input.value === "" ? undefined : Number(input.value)),
};

const LIST = {
  make(schema, given) {
    const input = element("input", { type: "text", placeholder: "one, two" });
    input.value = (given ?? []).join(", ");
    return input;
  },
  read(input, required) {
    const listed = input.value.split(",").map((entry) => entry.trim()).filter(Boolean);
    return listed.length > 0 || required ? listed : undefined;
  },
};

const TEXT = {
  make(schema, given) {
    const long = (schema.maxLength ?? 0) > LINE && schema.format === undefined;
    const input = element(long ? "textarea" : "input", long ? { rows: "3" } : { type: "text", autocomplete: "off" });
    input.value = given ?? "";
    return input;
  },
  // A field that takes numbers as well is sent as what its example is.
  read(input, required, given) {
    if (typeof given === "number" && input.value.trim() !== "" && Number.isFinite(Number(input.value))) {
      return Number(input.value);
    }
    return input.value === "" && !required ? undefined : input.value;
  },
};

const JSON_TEXT = {
  make(schema, given) {
    const input = element("textarea", { rows: "3", spellcheck: "false" });
    input.value = given === undefined ? "" : JSON.stringify(given, null, 2);
    return input;
  },
  read(input) {
    if (input.value.trim() === "") return undefined;
    try {
      return JSON.parse(input.value);
    } catch {
      return input.value; // The server says what is wrong with it.
    }
  },
};

/** A nested object. Where only one of its properties may be given, a choice shows that one alone. */
function objectField(name, schema, given, required) {
  const nested = Object.entries(schema.properties).map(([key, inner]) => {
    const must = (schema.required ?? []).includes(key) || schema.maxProperties === 1;
    return [key, field(key, inner, given?.[key], must)];
  });
  const legend = element("legend", {}, words(name), required ? "" : element("span", { class: "quiet" }, " optional"));
  const error = element("p", { class: "field-error" });
  const node = element("fieldset", {}, legend);
  const shown = schema.maxProperties === 1 ? oneOf(node, nested, given) : () => nested;
  if (schema.maxProperties !== 1) node.append(...nested.map(([, inner]) => inner.node));
  node.append(error);
  return {
    node,
    value() {
      const told = collect(shown());
      return Object.keys(told).length > 0 || required ? told : undefined;
    },
    mark(path, message) {
      const inner = shown().find(([key]) => key === path[0])?.[1];
      if (inner) return inner.mark(path.slice(1), message);
      error.textContent = [error.textContent, message].filter(Boolean).join("; ");
      return node;
    },
    clear() {
      error.textContent = "";
      for (const [, inner] of nested) inner.clear();
    },
  };
}

function oneOf(node, nested, given) {
  const select = element("select", { "aria-label": "Which" });
  select.append(...nested.map(([key]) => element("option", { value: key }, words(key))));
  select.value = Object.keys(given ?? {})[0] ?? nested[0][0];
  node.append(element("div", { class: "field" }, select), ...nested.map(([, inner]) => inner.node));
  const show = () => {
    for (const [key, inner] of nested) inner.node.hidden = key !== select.value || inner.node.querySelector("[readonly]") !== null;
  };
  select.addEventListener("change", show);
  show();
  return () => nested.filter(([key]) => key === select.value);
}

function collect(entries) {
  const told = entries.map(([key, inner]) => [key, inner.value()]).filter(([, value]) => value !== undefined);
  return Object.fromEntries(told);
}

/** Show the form of `schema` in `container`, prefilled with `example`; return its `value()`, `mark(errors)`, `clear()`. */
export function schemaForm(container, schema, example) {
  const required = new Set(schema.required ?? []);
  const entries = Object.entries(schema.properties).map(
    ([key, inner]) => [key, field(key, inner, example[key], required.has(key))]);
  const must = entries.filter(([key]) => required.has(key));
  const isActor = ([key]) => key.startsWith("actor_");
  const free = entries.filter(([key]) => !required.has(key));
  const may = [...free.filter((entry) => !isActor(entry)), ...free.filter(isActor)]; // Every type has an actor: last.
  const more = element("details", {}, element("summary", {}, "Optional fields"), ...may.map(([, inner]) => inner.node));
  more.open = free.some((entry) => example[entry[0]] !== undefined && !isActor(entry));
  container.replaceChildren(...must.map(([, inner]) => inner.node), ...(may.length > 0 ? [more] : []));
  return {
    value: () => collect(entries),
    clear: () => entries.forEach(([, inner]) => inner.clear()),
    /** Mark each field that a problem names; returns the errors that belong to none. */
    mark(errors) {
      const found = errors.map((error) => [error, markOne(error)]);
      found.find(([, node]) => node)?.[1].focus?.();
      if (found.some(([error, node]) => node && may.some(([key]) => pathOf(error)[0] === key))) more.open = true;
      return found.filter(([, node]) => !node).map(([error]) => error);
    },
  };

  function markOne(error) {
    const path = pathOf(error);
    const inner = entries.find(([key]) => key === path[0])?.[1];
    return inner?.mark(path.slice(1), error.message);
  }
}

/** "data.audience.role" → ["audience", "role"]. */
function pathOf(error) {
  const path = error.field.split(".");
  return path[0] === "data" ? path.slice(1) : path;
}
