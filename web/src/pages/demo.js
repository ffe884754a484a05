// The demonstration: the people of a domain side by side. What one does, the others hear.

import { provideClient } from "/static/carillon/latest/elements/index.js";
import { clientOf, hashOf, people, send } from "./api.js";
import { element } from "./dom.js";
import { DOMAINS } from "./domains.js";

/** The log keeps the latest. */
const MOST_TOLD = 4;
const at = (id) => document.getElementById(id);

let known = new Map();
/** What runs of the domain that is shown: clients that end with it. */
let clients = [];
/** The latest postings, whose arrivals are timed: {row, type, began, reached}. */
let timed = [];

const nameOf = (person) => `${person.tenant}/${person.id}`;

function desk(domain, person) {
  const client = clientOf(person, { locale: at("language").value });
  clients.push(client);
  client.on("created", (item) => arrived(person, item));
  const bell = element("carillon-bell", { href: `/notifications${hashOf(person)}` });
  const inbox = element("carillon-inbox", {});
  const status = element("carillon-status", {});
  for (const each of [bell, inbox, status]) each.client = client;
  const actions = domain.actions.filter((action) => action.by === nameOf(person)).map((action) => {
    const made = element("button", { type: "button" }, action.label);
    made.addEventListener("click", () => act(domain, person, action, made));
    return made;
  });
  const head = element("header", {},
    element("span", { class: `face ${person.id}`, "aria-hidden": "true" }, person.name[0]),
    element("div", { class: "name" }, element("h2", {}, person.name), element("p", {}, person.about)), bell);
  const lang = at("language").value;
  const heard = element("div", { class: "heard", lang, dir: lang === "ar" ? "rtl" : "ltr" }, inbox);
  const foot = element("footer", {}, status, element("a", { href: `/notifications${hashOf(person)}` }, "Open the inbox"));
  bell.lang = lang;
  status.lang = lang;
  return element("section", { class: "desk", "aria-label": `${person.name}, ${person.about}`, "data-person": nameOf(person) },
    head, element("div", { class: "actions" }, ...actions), heard, foot);
}

/** Post what an action means, as a producer would; the other people's clients tell when it has arrived. */
async function act(domain, person, action, pressed) {
  const events = action.does().map((each) => ({ ...each, tenant: each.type.startsWith("system.") ? person.tenant : domain.tenant }));
  const row = element("li", {}, element("code", {}, events[0].type), element("span", { class: "took" }, "posting"));
  at("log").querySelector(".nothing")?.remove();
  at("log").prepend(row);
  [...at("log").children].slice(MOST_TOLD).forEach((old) => old.remove());
  at("wire").textContent = `POST /api/events\ncontent-type: application/cloudevents+json\n\n${JSON.stringify({ specversion: "1.0", id: "…", source: "/demo", ...events[0] }, null, 2)}`;
  const mine = { row, type: told(events[0].type), began: performance.now(), reached: [] };
  timed = [mine, ...timed].slice(0, MOST_TOLD);
  pressed.disabled = true;
  try {
    for (const each of events) await send(each);
    mine.accepted = performance.now() - mine.began;
    tell(mine);
  } catch (problem) {
    row.lastChild.textContent = `${problem.message}.`;
    row.classList.add("bad");
  } finally {
    pressed.disabled = false;
  }
}

/** The type of the notification that an event makes; failed logins are counted, and told as one. */
const told = (type) => (type === "auth.login_failed" ? "SECURITY_LOGIN_FAILED" : type.toUpperCase().replaceAll(".", "_"));

function arrived(person, item) {
  const posted = timed.findLast(({ type, reached }) => type === item.type && !reached.some((each) => each.person === person));
  if (!posted) return;
  posted.reached.push({ person, ms: performance.now() - posted.began });
  tell(posted);
}

function tell({ row, accepted, reached }) {
  const parts = [accepted ? `accepted in ${Math.round(accepted)} ms` : "posting"];
  for (const { person, ms } of reached) parts.push(`${person.name} after ${Math.round(ms)} ms`);
  row.lastChild.textContent = parts.join(" · ");
}

function show(domain) {
  for (const client of clients.splice(0)) client.stop();
  timed = [];
  at("name").textContent = domain.name;
  at("line").textContent = domain.line;
  document.title = `${domain.name} · Carillon`;
  for (const link of at("domains").children) {
    if (link.dataset.id === domain.id) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const here = domain.people.map((name) => known.get(name)).filter(Boolean);
  const toasts = element("carillon-toasts", { lang: at("language").value });
  const desks = here.map((person) => desk(domain, person));
  if (clients[0]) provideClient(toasts.client = clients[0]);
  at("desks").dataset.people = here.length;
  at("desks").replaceChildren(...desks);
  at("toasts").replaceWith(toasts);
  toasts.id = "toasts";
}

const chosen = () => DOMAINS.find(({ id }) => `#${id}` === location.hash) ?? DOMAINS[0];

async function start() {
  at("domains").append(...DOMAINS.map(({ id, name }) => element("a", { href: `#${id}`, "data-id": id }, name)));
  known = new Map((await people()).map((person) => [nameOf(person), person]));
  at("language").value = localStorage.getItem("language") ?? "en";
  at("language").addEventListener("change", () => {
    localStorage.setItem("language", at("language").value);
    show(chosen());
  });
  addEventListener("hashchange", () => show(chosen()));
  show(chosen());
}

start().catch((problem) => {
  at("trouble").textContent = `${problem.message}.`;
  at("trouble").hidden = false;
});
