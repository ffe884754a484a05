// The demonstration page: choose who you are, watch the inbox change, send events.

import { Session, demo } from "./api.js";
import { Composer } from "./composer.js";
import { element } from "./dom.js";
import { Inbox } from "./inbox.js";
import { ListView } from "./list.js";
import { Stream } from "./stream.js";

const NOTIFICATIONS = "/api/notifications";
/** A badge has room for two digits. */
const MOST = 99;
const STATES = { live: "Live", connecting: "Connecting", offline: "Offline", closed: "Closed" };

const at = (id) => document.getElementById(id);
const view = new ListView(at("notifications"), { onRead: markRead, onDelete: remove });
const composer = new Composer();

/** The person whose inbox is shown: {person, session, inbox, stream}; null before the first choice. */
let current = null;

function show() {
  const { inbox } = current;
  view.show(inbox.list);
  at("notifications").setAttribute("aria-busy", "false");
  at("badge").textContent = inbox.unreadCount > MOST ? `${MOST}+` : String(inbox.unreadCount);
  at("badge").hidden = inbox.unreadCount === 0;
  at("bell").setAttribute("aria-label", `Notifications, ${inbox.unreadCount} unread`);
  at("bell").classList.toggle("new", inbox.unseenCount > 0);
  at("summary").textContent = inbox.unreadCount === 0 ? "Nothing unread" : `${inbox.unreadCount} unread`;
  at("empty").hidden = inbox.items.size > 0;
  at("more").hidden = !inbox.hasMore;
  at("read-all").disabled = inbox.unreadCount === 0;
  at("delete-read").disabled = !inbox.list.some((item) => item.read);
  document.title = inbox.unreadCount === 0 ? "Carillon" : `(${inbox.unreadCount}) Carillon`;
}

/** Nothing of one person stays when another one comes. */
function blank() {
  view.clear();
  trouble("");
  at("notifications").setAttribute("aria-busy", "true");
  at("bell").setAttribute("aria-label", "Notifications");
  at("bell").classList.remove("new");
  at("summary").textContent = "\u00a0";
  document.title = "Carillon";
  for (const id of ["badge", "empty", "more"]) at(id).hidden = true;
  for (const id of ["read-all", "delete-read"]) at(id).disabled = true;
}

function trouble(message) {
  at("trouble").textContent = message;
  at("trouble").hidden = message === "";
}

/** Run something that a person asked for; what goes wrong is said. Afterwards the list is up to date, stream or not. */
async function attempt(work) {
  const mine = current;
  try {
    trouble("");
    await work(mine);
    if (mine.state !== "live") await catchUp(mine);
  } catch (problem) {
    trouble(`${problem.message}.`);
  }
}

function markRead(item, read) {
  return attempt((mine) => mine.session.call("PATCH", `${NOTIFICATIONS}/${item.id}`, { read }));
}

function remove(item) {
  return attempt((mine) => mine.session.call("DELETE", `${NOTIFICATIONS}/${item.id}`));
}

/** Bulk changes name the last change that is shown: what arrived since, unseen, is left alone. */
function markAll(fields) {
  return attempt((mine) => mine.session.call("PATCH", NOTIFICATIONS, { ...fields, upTo: mine.inbox.cursor }));
}

function deleteRead() {
  return attempt((mine) => mine.session.call(
    "DELETE", `${NOTIFICATIONS}?read=true&upTo=${encodeURIComponent(mine.inbox.cursor)}`));
}

function loadMore() {
  return attempt(async (mine) => {
    const after = encodeURIComponent(mine.inbox.endCursor);
    mine.inbox.append(await mine.session.call("GET", `${NOTIFICATIONS}?after=${after}`));
    if (mine === current) show();
  });
}

async function firstPage(mine) {
  mine.inbox.replace(await mine.session.call("GET", NOTIFICATIONS));
}

/** Read what changed after the last change that was applied. */
async function catchUp(mine) {
  const since = encodeURIComponent(mine.inbox.cursor);
  const told = await mine.session.call("GET", `${NOTIFICATIONS}/changes?since=${since}`);
  const applied = told.changes.map((change) => mine.inbox.apply(change.id, { ...change, ...counters(told) }));
  if (told.reset || applied.includes("gap")) await firstPage(mine);
  else mine.inbox.advance(told.cursor, told);
  if (mine === current) show();
}

function counters({ unreadCount, unseenCount }) {
  return { unreadCount, unseenCount };
}

/** Replayed frames carry no counters: those of the replay's end come with `synced`. */
async function onFrame(mine, { id, event, data }) {
  if (event === "reset") await firstPage(mine);
  else if (event === "synced" && data.prev === Number(mine.inbox.cursor.split("-")[1])) mine.inbox.advance(id, data);
  else if (event === "notification" || event === "synced") {
    const result = mine.inbox.apply(id, { ...counters(mine.inbox), ...data });
    if (result === "gap") return catchUp(mine);
    if (result === "applied" && data.type === "created") speak(data.notification);
  } else return undefined;
  if (mine === current) show();
  return undefined;
}

function speak(notification) {
  at("spoken").textContent = `New: ${notification.title}. ${notification.message}`;
}

function onState(mine, state, detail) {
  mine.state = state;
  if (mine !== current) return;
  at("connection").dataset.state = state;
  at("connection").textContent = STATES[state];
  at("connection").title = detail;
}

async function become(person) {
  current?.stream.stop();
  const session = new Session(person.tenant, person.id);
  const mine = { person, session, inbox: new Inbox(), state: "connecting" };
  mine.stream = new Stream(session, {
    onFrame: (frame) => onFrame(mine, frame),
    onState: (state, detail) => onState(mine, state, detail),
    cursor: () => mine.inbox.cursor,
  });
  current = mine;
  history.replaceState(null, "", hashOf(person));
  at("second").href = hashOf(person);
  blank();
  composer.choose(person);
  await attempt(() => firstPage(mine));
  if (mine !== current || mine.inbox.cursor === null) return;
  show();
  mine.stream.start();
}

const hashOf = (person) => `#${encodeURIComponent(person.tenant)}/${encodeURIComponent(person.id)}`;

function choose(people) {
  const select = at("person");
  for (const tenant of new Set(people.map((person) => person.tenant))) {
    const group = element("optgroup", { label: tenant });
    group.append(...people.filter((person) => person.tenant === tenant)
      .map((person) => element("option", { value: hashOf(person) }, `${person.name}, ${person.about} · ${tenant}`)));
    select.append(group);
  }
  const byHash = new Map(people.map((person) => [hashOf(person), person]));
  const chosen = byHash.get(location.hash) ?? people.find((person) => person.preferred) ?? people[0];
  select.value = hashOf(chosen);
  select.disabled = false;
  select.addEventListener("change", () => become(byHash.get(select.value)));
  return chosen;
}

async function start() {
  const [people, catalog] = await Promise.all([demo.people(), demo.catalog()]);
  composer.load(people.people, catalog);
  at("bell").disabled = false;
  await become(choose(people.people));
}

at("bell").addEventListener("click", () => {
  at("notifications").focus();
  markAll({ seen: true });
});
at("read-all").addEventListener("click", () => markAll({ read: true }));
at("delete-read").addEventListener("click", deleteRead);
at("more").addEventListener("click", loadMore);
addEventListener("online", () => current?.stream.retryNow());
document.addEventListener("visibilitychange", () => document.hidden || current?.stream.retryNow());
addEventListener("pagehide", () => current?.stream.stop());
addEventListener("pageshow", (event) => event.persisted && current && become(current.person));

start().catch((problem) => trouble(`${problem.message}.`));
