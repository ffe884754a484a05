// The list of notifications. A row is made once and kept while its notification stays the same.

import { element, icon } from "./dom.js";

const ICONS = {
  certificate: ["M12 3l7 3v5c0 4.5-3 7.8-7 10-4-2.2-7-5.5-7-10V6Z", "M9 12l2.2 2.2L15.5 10"],
  security: ["M6 11h12v9H6Z", "M8.5 11V8a3.5 3.5 0 0 1 7 0v3"],
  people: ["M12 12a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7Z", "M5 20c.8-3.5 3.5-5 7-5s6.2 1.5 7 5"],
  talk: ["M4 5h16v11H10l-4.5 4V16H4Z"],
  money: ["M3 6h18v12H3Z", "M12 14.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5Z"],
  book: ["M5 4h11a3 3 0 0 1 3 3v13H8a3 3 0 0 1-3-3Z", "M5 17a3 3 0 0 1 3-3h11"],
  news: ["M4 10v4h3l8 4.5v-13L7 10Z", "M18.5 9.5a4 4 0 0 1 0 5"],
  code: ["M9 7l-5 5 5 5", "M15 7l5 5-5 5"],
};
/** By the beginning of a notification's type. */
const ICON_OF = [
  ["CERTIFICATE", "certificate"], ["ACHIEVEMENT", "certificate"], ["ZK_", "certificate"], ["UNIVERSITY", "certificate"],
  ["SECURITY", "security"], ["TICKET", "talk"], ["COMMENT", "talk"], ["MENTION", "talk"], ["PAYMENT", "money"],
  ["GRADE", "book"], ["COURSE", "book"], ["ENROLLMENT", "book"], ["INTRODUCTION", "people"], ["LEAD", "people"],
  ["GITHUB", "code"],
];
const UNITS = [["year", 31_536_000], ["month", 2_592_000], ["week", 604_800], ["day", 86_400], ["hour", 3600], ["minute", 60]];
/** Times are told anew this often. */
const TICK_MS = 30_000;

const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

/** Tell a time as "5 minutes ago"; less than a minute is "now". */
function ago(time) {
  const seconds = (Date.parse(time) - Date.now()) / 1000;
  const [unit, size] = UNITS.find(([, length]) => Math.abs(seconds) >= length) ?? ["second", Infinity];
  return relative.format(Math.trunc(seconds / size), unit);
}

function iconOf(type) {
  const [, name] = ICON_OF.find(([prefix]) => type.startsWith(prefix)) ?? ["", "news"];
  return icon(ICONS[name]);
}

/** An absolute http(s) address becomes a link; a path of the host application is told, as this page is not that host. */
function place(url) {
  if (url === null) return "";
  if (url.startsWith("/")) return element("span", { class: "path", title: url }, url);
  const { protocol, host, href } = new URL(url);
  if (protocol !== "https:" && protocol !== "http:") return "";
  return element("a", { href, target: "_blank", rel: "noopener noreferrer" }, host);
}

function row(item, handlers) {
  const title = element("h3", {}, item.title);
  const time = element("time", { datetime: item.createdAt, title: new Date(item.createdAt).toLocaleString() }, ago(item.createdAt));
  const priority = item.priority === "HIGH" || item.priority === "URGENT"
    ? element("span", { class: `tag ${item.priority.toLowerCase()}` }, item.priority === "HIGH" ? "High" : "Urgent") : "";
  const toggle = element("button", { type: "button", class: "small" }, item.read ? "Mark unread" : "Mark read");
  toggle.addEventListener("click", () => handlers.onRead(item, !item.read));
  const remove = element("button", { type: "button", class: "small" }, "Delete");
  remove.addEventListener("click", () => handlers.onDelete(item));
  for (const button of [toggle, remove]) button.setAttribute("aria-label", `${button.textContent}: ${item.title}`);
  const state = item.read ? "" : element("span", { class: "hidden" }, "Unread. ");
  title.prepend(state);
  const made = element("li", { class: `item${item.read ? "" : " unread"} ${item.priority.toLowerCase()}` },
    element("span", { class: "icon" }, iconOf(item.type)),
    element("div", { class: "words" },
      element("div", { class: "line" }, title, priority, time),
      element("p", {}, item.message),
      element("div", { class: "line low" }, place(item.actionUrl), element("span", { class: "row-actions" }, toggle, remove))));
  made.dataset.id = item.id;
  return made;
}

/** Shows items in `list`; `handlers`: onRead(item, read), onDelete(item). */
export class ListView {
  #rows = new Map();
  #first = true;

  constructor(list, handlers) {
    this.list = list;
    this.handlers = handlers;
    setInterval(() => this.#tick(), TICK_MS);
  }

  /** Forget everything, as another person's list comes. */
  clear() {
    this.#rows.clear();
    this.#first = true;
    this.list.replaceChildren();
  }

  show(items) {
    const rows = new Map(items.map((item) => [item.id, this.#rowOf(item)]));
    const focused = this.list.contains(document.activeElement) ? document.activeElement : null;
    const place = focused && focusPlace(focused);
    this.list.replaceChildren(...[...rows.values()].map((entry) => entry.node));
    this.#rows = rows;
    this.#first = false;
    if (place) this.#focus(place);
  }

  #rowOf(item) {
    const known = this.#rows.get(item.id);
    if (known?.item === item) {
      known.node.classList.remove("fresh");
      return known;
    }
    const node = row(item, this.handlers);
    if (!known && !this.#first) node.classList.add("fresh");
    return { item, node };
  }

  /** The focus stays where it was: on the same button, or on the list when its row is gone. */
  #focus({ id, index }) {
    const node = this.#rows.get(id)?.node;
    (node?.querySelectorAll("button, a")[index] ?? this.list).focus({ preventScroll: true });
  }

  #tick() {
    for (const time of this.list.querySelectorAll("time")) time.textContent = ago(time.dateTime);
  }
}

function focusPlace(focused) {
  const node = focused.closest("li");
  return node && { id: node.dataset.id, index: [...node.querySelectorAll("button, a")].indexOf(focused) };
}
