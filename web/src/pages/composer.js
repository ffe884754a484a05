// The other half of the page: any event of the catalog, sent through a form made from its schema.

import { eventOf, send } from "./api.js";
import { element } from "./dom.js";
import { schemaForm } from "./form.js";

/** After an accepted event its fan-out is watched for this long. */
const WATCH_MS = 5000;
const POLL_MS = 200;

const at = (id) => document.getElementById(id);

export class Composer {
  #types = new Map();
  #domains = [];
  #people = [];
  #person = null;
  #form = null;

  constructor() {
    at("type").addEventListener("change", () => this.#chosen());
    at("compose").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
  }

  /** Take the people and the catalog: {domains: [{name, tenant, types: […]}], tenants: […]}. */
  load(people, catalog) {
    this.#people = people;
    this.#domains = catalog.domains;
    this.#types = new Map(catalog.domains.flatMap((domain) => domain.types.map((type) => [type.name, { ...type, domain }])));
    at("tenant").append(...catalog.tenants.map((tenant) => element("option", { value: tenant }, tenant)));
    for (const id of ["type", "tenant", "send"]) at(id).disabled = false;
  }

  /** Offer first what concerns this person. */
  choose(person) {
    this.#person = person;
    const concerns = (domain) => domain.tenant === person.tenant;
    const sorted = [...this.#domains.filter(concerns), ...this.#domains.filter((domain) => !concerns(domain))];
    at("type").replaceChildren(...sorted.map((domain) => {
      const options = domain.types.map((type) => element("option", { value: type.name }, type.name));
      return element("optgroup", { label: domain.name }, ...options);
    }));
    this.#chosen();
  }

  #chosen() {
    const type = this.#types.get(at("type").value);
    at("description").textContent = type.description;
    at("tenant").value = type.tenant ?? (type.domain.tenant || this.#person.tenant);
    at("answer").replaceChildren();
    this.#form = schemaForm(at("fields"), type.schema, this.#example(type));
  }

  /** The example, with the chosen person in the place of whom it is about, where that is their tenant. */
  #example(type) {
    const example = { ...type.example };
    if (at("tenant").value !== this.#person.tenant) return example;
    for (const name of type.recipientFields) {
      if (typeof example[name] === "string") exchange(example, name, this.#person.id);
      if (Array.isArray(example[name])) example[name] = [...new Set([this.#person.id, ...example[name]])];
    }
    if (example.actor_id === this.#person.id) this.#anotherActor(example);
    return example;
  }

  /** Nobody is told of what they did themselves. */
  #anotherActor(example) {
    const other = this.#people.find(({ tenant, id }) => tenant === this.#person.tenant && id !== this.#person.id);
    delete example.actor_name;
    example.actor_id = other?.id ?? "somebody";
    if (other) example.actor_name = other.name;
  }

  async #send() {
    this.#form.clear();
    at("send").disabled = true;
    const tenant = at("tenant").value;
    try {
      const { id } = await send({ type: at("type").value, tenant, data: this.#form.value() });
      this.#answer("good", "Accepted");
      this.#watch(id, tenant).catch(() => {}); // The event is accepted; how far it got is only told where it can be.
    } catch (problem) {
      const rest = this.#form.mark(problem.fields ?? []).map((error) => `${error.field} ${error.message}`);
      this.#answer("bad", [problem.message, ...rest].join("; "));
    } finally {
      at("send").disabled = false;
    }
  }

  async #watch(id, tenant) {
    const answer = at("answer").firstChild;
    const end = Date.now() + WATCH_MS;
    while (Date.now() < end && at("answer").contains(answer)) {
      const event = await eventOf(id, tenant);
      if (event.state === "done") return this.#answer("good", reached(event.notifications));
      if (event.state === "failed") return this.#answer("bad", "The fan-out failed");
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    return undefined;
  }

  #answer(kind, words) {
    at("answer").replaceChildren(element("span", { class: kind }, words));
  }
}

/** Put `id` into `field`; whoever stood there takes the place in which `id` stood, with the names beside the ids. */
function exchange(example, field, id) {
  const before = example[field];
  const other = Object.keys(example).find((key) => key !== field && key.endsWith("_id") && example[key] === id);
  example[field] = id;
  if (before === id || other === undefined) return;
  example[other] = before;
  const [mine, theirs] = [field, other].map((name) => name.replace(/_id$/, "_name"));
  [example[mine], example[theirs]] = [example[theirs], example[mine]];
  for (const name of [mine, theirs]) if (example[name] === undefined || !(name.replace(/_name$/, "_id") in example)) delete example[name];
}

function reached(count) {
  if (count === 0) return "Done: it notifies nobody";
  return `Done: ${count} ${count === 1 ? "person" : "people"} notified`;
}
