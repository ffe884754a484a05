// One notification as an article. It is made once and rewritten when its notification changes: the focus stays.

/** @import { Notification } from "../core/types.js" */
/** @import { CarillonElement } from "./base.js" */
import { button, h, icon, paint, set, write } from "./base.js";
import { css } from "./style.js";

const sheet = css(`
.item { position: relative; display: grid; grid-template-columns: 36px minmax(0, 1fr); gap: 12px; padding: 14px 16px; border-block-end: 1px solid var(--l); content-visibility: auto; contain-intrinsic-size: auto 80px; }
.item:last-child { border: 0; }
.item:focus-visible { outline-offset: -2px; }
.item:hover { background: var(--sunk); }
.item::before { content: ""; position: absolute; inset: 0 auto; inset-inline-start: 0; width: 3px; }
.unread.HIGH::before { background: var(--h); }
.unread.URGENT::before { background: var(--u); }
.face { display: grid; place-items: center; width: 36px; height: 36px; border-radius: 50%; background: var(--sunk); color: var(--q); }
.unread .face { background: color-mix(in srgb, var(--c) 13%, transparent); color: var(--c); }
.HIGH { --c: var(--h); } .URGENT { --c: var(--u); }
.head { display: flex; align-items: baseline; gap: 8px; }
.title { flex: 1; min-width: 0; color: inherit; font-size: 1em; font-weight: 450; text-decoration: none; overflow-wrap: anywhere; }
a.title::after { content: ""; position: absolute; inset: 0; }
.unread .title { font-weight: 650; }
time { align-self: flex-start; color: var(--q); font-size: .8125em; line-height: 1.8; white-space: nowrap; }
.dot { align-self: flex-start; flex: none; margin-block-start: .5em; width: 8px; height: 8px; border-radius: 50%; background: var(--c); }
.title, .message { text-align: -webkit-match-parent; text-align: match-parent; }
@container (max-width: 22rem) { .tag { position: absolute; overflow: hidden; width: 1px; clip-path: inset(50%); } }
.message { margin-block-start: 2px; color: var(--q); white-space: pre-line; overflow-wrap: anywhere; }
.panel .message { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; overflow: hidden; }
.tag:not(:empty) { align-self: flex-start; padding-inline: .6em; border-radius: 99px; background: color-mix(in srgb, var(--c) 10%, var(--s)); color: var(--c); font-size: .75em; line-height: 1.9; font-weight: 600; }
.item:hover .tag { background: var(--s); }
.actions button, .toast > button { display: grid; place-items: center; width: 32px; padding: 0; color: var(--q); }
.actions button:hover, .toast > button:hover { color: var(--i); }
button svg { width: 18px; height: 18px; }
.toast > button { position: absolute; z-index: 2; inset-block-start: 6px; inset-inline-end: 6px; }
.actions [aria-expanded] { display: none; }
.actions { position: absolute; z-index: 1; inset-block-end: 6px; inset-inline-end: 6px; display: flex; border-radius: 8px; background: var(--sunk); opacity: 0; }
.item:hover .actions, .item:focus-within .actions { opacity: 1; }
@media (hover: none) {
  .actions { inset-block-end: 2px; inset-inline-end: 2px; opacity: 1; background: none; }
  .actions button { min-height: 44px; width: 44px; }
  .actions [aria-expanded] { display: grid; order: 1; }
  .actions [aria-expanded] svg { margin-inline-start: 8px; stroke-width: 2.6; }
  .actions [aria-expanded=false] ~ button { display: none; }
  .actions:has([aria-expanded=true]) { background: var(--s); box-shadow: var(--shadow); }
  :not(.toast) > .item > div { padding-inline-end: 32px; }
  :not(.toast) > .item .head { margin-inline-end: -32px; }
}
.toast .item { border: 0; background: none; padding-inline-end: 44px; }
.toast .item::before, .toast .actions, .toast .dot { display: none; }
@media (prefers-reduced-motion: no-preference) {
  .actions { transition: opacity .12s; }
  .arrived { animation: arrive .5s cubic-bezier(.2, .8, .3, 1), glow 2.4s ease-out; }
}
@keyframes arrive { from { max-height: 0; padding-block: 0; opacity: 0; overflow: clip; } to { max-height: 12rem; overflow: clip; } }
@keyframes glow { from { background: color-mix(in srgb, var(--c) 14%, var(--s)); } }
`);

const DOTS = "M12 6h.01M12 12h.01M12 18h.01";
const CHECK = "M5 12.5l4.5 4.5L19 7.5";
const CIRCLE = "M12 7a5 5 0 1 0 0 10 5 5 0 0 0 0-10Z";
const BOX = "M4 5h16v4H4ZM5.5 9v10h13V9M10 13h4";
const BOX_OUT = "M4 5h16v4H4ZM5.5 9v10h13V9M12 17v-5M9.8 14L12 11.8 14.2 14";
const BIN = "M5 7h14M9 7V4.5h6V7M7 7l1 13h8l1-13";
/** By the beginning of a notification's type. */
const FACES = {
  "CERTIFICATE|ACHIEVEMENT|ZK_|UNIVERSITY": "M12 3l7 3v5c0 4.5-3 7.8-7 10-4-2.2-7-5.5-7-10V6ZM9 12l2.2 2.2L15.5 10",
  SECURITY: "M6 11h12v9H6ZM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
  "TICKET|COMMENT|MENTION": "M4 5h16v11H10l-4.5 4V16H4Z",
  PAYMENT: "M3 6h18v12H3ZM3 10h18",
  "GRADE|COURSE|ENROLLMENT": "M5 4h11a3 3 0 0 1 3 3v13H8a3 3 0 0 1-3-3ZM5 17a3 3 0 0 1 3-3h11",
  "INTRODUCTION|LEAD": "M12 12a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7ZM5 20c.8-3.5 3.5-5 7-5s6.2 1.5 7 5",
  GITHUB: "M9 7l-5 5 5 5M15 7l5 5-5 5",
  BATCH: "M4 7l8-4 8 4-8 4ZM4 12l8 4 8-4M4 17l8 4 8-4",
};
const UNITS = /** @type {const} */ ([["year", 31_536_000], ["month", 2_592_000], ["week", 604_800], ["day", 86_400], ["hour", 3600], ["minute", 60], ["second", 0]]);

/** Folds the actions that are unfolded: those of one article at a time. */
let fold = () => {};

/** @param {string} type */
const faceOf = (type) => Object.entries(FACES).find(([types]) => new RegExp(`^(${types})`).test(type))?.[1] ?? "M4 10v4h3l8 4.5v-13L7 10ZM18.5 9.5a4 4 0 0 1 0 5";

/** Tell a time as "5 minutes ago"; less than a minute is "now". @param {string} time @param {string} locale */
export function ago(time, locale) {
  const seconds = Math.min(0, (Date.parse(time) - Date.now()) / 1000);
  const [unit, size] = UNITS.find(([, length]) => -seconds >= length) ?? UNITS[6];
  return new Intl.RelativeTimeFormat(locale, { numeric: "auto", style: "narrow" }).format(size ? Math.trunc(seconds / size) : 0, unit);
}

/** The address of an action, checked again: a path of this host or http(s); else there is none. @param {string | null} url */
export function safe(url) {
  if (!url || !URL.canParse(url, document.baseURI)) return null;
  return /^https?:$/.test(new URL(url, document.baseURI).protocol) ? url : null;
}

/**
 * @param {CarillonElement} host whose client does what is asked for, and from which `carillon-open` bubbles
 * @param {Notification} first
 */
export function createRow(host, first) {
  host.adopt(sheet);
  const { client, t } = host;
  let item = first;
  const title = h("span", { part: "title", id: `t${first.id}`, dir: "auto" });
  const time = h("time", { datetime: first.createdAt, title: new Date(first.createdAt).toLocaleString(host.locale) });
  const dot = h("span", { class: "dot" }, h("span", { class: "hidden" }, t("unread")));
  const message = h("p", { part: "message", dir: "auto" });
  const tag = h("span", { class: "tag" });
  const face = h("span", { class: "face", part: "icon" }, icon(faceOf(first.type)));
  const read = button("", () => (item.read ? client.markUnread : client.markRead)(item.id));
  const store = button("", () => (item.archivedAt ? client.unarchive : client.archive)(item.id));
  const bin = button("", () => client.remove(item.id));
  const more = h("button", { "aria-expanded": "false" });
  const actions = h("div", { part: "actions", onclick: unfold }, more, read, store, bin);
  const head = h("div", { class: "head" }, title, tag, time, dot);
  const node = h("article", { tabindex: "0", part: "item", "aria-labelledby": title.id }, face, h("div", {}, head, message, actions));

  /** Whoever opens an item has read it; a host that routes by itself calls `preventDefault()`. @param {Event} event */
  function open(event) {
    if (!item.read) client.markRead(item.id);
    const told = new CustomEvent("carillon-open", { detail: item, bubbles: true, composed: true, cancelable: true });
    if (!host.dispatchEvent(told)) event.preventDefault();
  }

  /** Where nothing hovers, the actions lie behind one button; whichever is done, they fold again. @param {Event} event */
  function unfold(event) {
    const unfolds = event.composedPath().includes(more) && more.ariaExpanded === "false";
    fold();
    fold = () => set(more, "aria-expanded", "false");
    set(more, "aria-expanded", String(unfolds));
    more.focus();
  }

  /** @param {Notification} next */
  function show(next) {
    item = next;
    const { read: isRead, priority, actionUrl, archivedAt } = item;
    node.className = `item ${priority}${isRead ? "" : " unread"}`;
    dot.hidden = isRead;
    const url = safe(actionUrl);
    const link = title.firstElementChild;
    if (!link && url) title.replaceChildren(h("a", { class: "title", href: url, onclick: open }));
    write(title.firstElementChild ?? title, item.title);
    write(message, item.message);
    write(tag, priority === "HIGH" || priority === "URGENT" ? t(priority) : "");
    const of = `: ${item.title}`;
    paint(read, isRead ? CIRCLE : CHECK, t(isRead ? "markUnread" : "markRead"), of);
    paint(store, archivedAt ? BOX_OUT : BOX, t(archivedAt ? "unarchive" : "archive"), of);
    paint(bin, BIN, t("delete"), of);
    paint(more, DOTS, t("actions"), of);
    read.disabled = Boolean(archivedAt);
    tick();
  }

  const tick = () => write(time, ago(item.createdAt, host.locale));
  show(first);
  return {
    node,
    tick,
    /** @param {Notification} next */
    set: (next) => void (next === item || show(next)),
  };
}

/**
 * Keep the articles of `list` those of `items`, in their order. What is new is marked as arrived, but not at first.
 * @param {CarillonElement} host @param {Element} list @param {readonly Notification[]} items @param {boolean} moving whether what is new arrives visibly
 */
export function keep(host, list, items, moving) {
  const { rows } = host;
  const wanted = new Set(items.map((item) => item.id));
  for (const [id, row] of rows) {
    if (wanted.has(id)) continue;
    // The focus goes on to the neighbour, not to the page's beginning.
    const next = row.node.contains(host.shadowRoot?.activeElement ?? null) && (row.node.nextElementSibling ?? row.node.previousElementSibling);
    row.node.remove();
    rows.delete(id);
    if (next instanceof HTMLElement) next.focus();
  }
  let at = list.firstElementChild;
  for (const item of items) {
    let row = rows.get(item.id);
    if (row) row.set(item);
    else {
      rows.set(item.id, (row = createRow(host, item)));
      row.node.classList.toggle("arrived", moving);
    }
    if (row.node === at) at = at.nextElementSibling;
    else list.insertBefore(row.node, at);
  }
}
