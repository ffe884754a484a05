// <carillon-inbox>: the whole list, page by page, with filters.

/** @import { Filter, Snapshot } from "../core/types.js" */
import { BELL, button, CarillonElement, h, icon, set, write } from "./base.js";
import { keep } from "./item.js";
import { createNote } from "./status.js";
import { css } from "./style.js";

const sheet = css(`
:host { scroll-margin-block-start: var(--carillon-top, 8px); }
[part=feed] { container-type: inline-size; }
.bone { --b: linear-gradient(var(--l) 0 0); height: 77px; border-block-end: 1px solid var(--l); background: radial-gradient(circle 18px at 34px 32px, var(--l) 97%, #0000), var(--b) 64px 20px / 34% 9px no-repeat, var(--b) 64px 42px / 58% 9px no-repeat; }
[dir=rtl] .bone { transform: scaleX(-1); }
.fresh { position: sticky; z-index: 2; inset-block-start: var(--carillon-top, 8px); display: block; margin: -20px auto -12px; border-radius: 99px; background: var(--a); color: var(--on-a); box-shadow: var(--shadow); }
.fresh:hover { background: var(--a); filter: brightness(1.08); }
.more { display: block; width: 100%; min-height: 44px; }
.inbox { border: 1px solid var(--l); border-radius: var(--r); background: var(--s); overflow: clip; }
.filters { padding-block: 0 10px; padding-inline-end: 16px; }
.top { border: 0; }
.quiet { color: var(--q); }
.tabs { display: flex; margin-inline-end: auto; padding: 3px; border-radius: 10px; background: var(--sunk); }
.tabs button { min-height: 28px; border-radius: 7px; color: var(--q); }
.tabs [aria-pressed=true] { background: light-dark(var(--s), var(--l)); color: var(--i); box-shadow: 0 1px 3px rgb(0 0 0 / 14%); }
select { padding-inline-end: 2em; border-color: var(--l); color: var(--i); appearance: none; background: linear-gradient(45deg, #0000 50%, currentcolor 0) calc(100% - 17px) 55% / 5px 5px no-repeat, linear-gradient(-45deg, #0000 50%, currentcolor 0) calc(100% - 12px) 55% / 5px 5px no-repeat; }
[dir=rtl] select { background-position: 12px 55%, 17px 55%; }
@media (prefers-reduced-motion: no-preference) { .bone { animation: pulse 1.8s infinite; } }
`);

/** The next page is asked for this far before its place is seen. */
const AHEAD = "400px";
const FILTERS = /** @type {const} */ ({ all: {}, unread: { unread: true }, archived: { archived: true } });

export class CarillonInbox extends CarillonElement {
  #feed = h("div", { part: "feed", onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event) });
  #empty = h("div", { part: "empty" }, icon(BELL), h("b"), h("span"));
  #bones = h("div", { role: "status" });
  #note = createNote(this);
  #more = h("button", { part: "more", onclick: () => this.#view().loadMore() });
  #fresh = h("button", { part: "fresh", onclick: () => this.#flush() });
  #read = button("", () => this.client.markAllRead(this.#shown ?? undefined));
  #remove = h("button", { class: "quiet", onclick: () => this.client.removeRead(this.#shown ?? undefined) });
  #kinds = h("select", { onchange: () => this.filter({ ...this.#filter, category: this.#kinds.value || undefined }) });
  #tabs = h("div", { role: "group", class: "tabs" });
  /** @type {Filter} */
  #filter = {};
  /** @type {ReturnType<import("../core/client.js").NotificationClient["view"]> | null} Null: the client's own list. */
  #own = null;
  /** The cursor up to which everything has been shown; null: nothing is held back. @type {string | null} */
  #shown = null;
  #observer = new IntersectionObserver((entries) => void (entries.at(-1)?.isIntersecting && this.#view().loadMore()), { rootMargin: AHEAD });

  #view = () => this.#own ?? this.client;

  build() {
    this.adopt(sheet);
    const { t } = this;
    this.#bones.replaceChildren(h("span", { class: "hidden" }, t("loading")), ...[1, 2, 3, 4].map(() => h("div", { class: "bone" })));
    this.#more.textContent = t("loadMore");
    this.#read.textContent = t("markAllRead");
    this.#remove.textContent = t("deleteRead");
    set(this.#kinds, "aria-label", t("kind"));
    this.#tabs.replaceChildren(...Object.entries(FILTERS).map(([name, filter]) =>
      Object.assign(button(t(/** @type {"all"} */ (name)), () => this.filter({ category: this.#filter.category, ...filter })), { id: name })));
    this.#feed.replaceChildren();
    const top = h("div", { class: "bar top", part: "bar" }, h("h2", {}, t("title")), this.#read, this.#remove);
    const filters = h("div", { class: "bar filters", part: "bar" }, this.#tabs, this.#kinds);
    this.root.append(h("section", { part: "inbox" }, top, filters, this.#note.node, this.#fresh, this.#feed, this.#bones, this.#empty, this.#more));
    this.#observer.observe(this.#more);
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.#observer.disconnect();
    this.#own?.close();
    this.#own = null;
  }

  /** Show what a filter lets through; an empty one is everything but the archive. @param {Filter} filter */
  filter(filter) {
    this.#filter = Object.fromEntries(Object.entries(filter).filter(([, value]) => value !== undefined));
    this.#own?.close();
    this.#own = Object.keys(this.#filter).length ? this.client.view(this.#filter) : null;
    this.#shown = null;
    this.rows.clear();
    this.#feed.replaceChildren();
    this.show();
  }

  #flush() {
    this.#shown = null;
    this.show();
    this.scrollIntoView({ block: "start" });
    /** @type {HTMLElement | null} */ (this.#feed.firstElementChild)?.focus();
  }

  /** PageUp and PageDown go from one article to the next. @param {KeyboardEvent} event */
  #key(event) {
    const step = { PageDown: "nextElementSibling", PageUp: "previousElementSibling" }[event.key];
    const article = /** @type {Element} */ (event.target).closest("article");
    const next = step && article?.[/** @type {"nextElementSibling"} */ (step)];
    if (!(next instanceof HTMLElement)) return;
    event.preventDefault();
    next.focus();
  }

  /** Nothing moves under somebody's eyes: what is new waits while they have scrolled, or are in the list. */
  #isReading() {
    return this.rows.size > 0 && (this.#feed.getBoundingClientRect().top < 0 || this.#feed.contains(this.shadowRoot?.activeElement ?? null));
  }

  show() {
    const now = this.client.getSnapshot();
    const { items, hasMore, loading, loaded } = /** @type {Snapshot} */ (this.#view().getSnapshot());
    const bound = Number(this.#shown?.split("-")[1] ?? Infinity);
    const isNew = items.length > 0 && this.rows.size > 0 && !this.rows.has(items[0].id);
    if (isNew && bound === Infinity && this.#isReading()) return this.#hold(items);
    const held = items.filter((item) => item.createdSeq > bound).length;
    const shown = held ? items.slice(held) : items;
    this.#note.show();
    this.#fresh.hidden = held === 0;
    if (held) write(this.#fresh, this.t("fresh", held));
    this.#bones.hidden = loaded || shown.length > 0 || ["closed", "unauthenticated"].includes(now.status);
    this.#empty.hidden = !loaded || items.length > 0;
    const filtered = this.#own !== null;
    write(this.#empty.children[1], this.t(filtered ? "nothing" : "quiet"));
    write(this.#empty.children[2], filtered ? "" : this.t("quietMore"));
    this.#more.hidden = !hasMore;
    this.#more.disabled = loading;
    this.#read.disabled = now.unreadCount === 0;
    this.#remove.disabled = !now.items.some((item) => item.read);
    this.#choices(now.items);
    keep(this, this.#feed, shown, this.rows.size > 0 && items.length - this.rows.size < 5);
    // A feed has articles: without any it is none.
    const feed = { role: "feed", "aria-label": this.t("title"), "aria-busy": String(loading) };
    for (const [name, value] of Object.entries(feed)) set(this.#feed, name, shown.length > 0 && value);
    [...this.#feed.children].forEach((node, at) => {
      set(node, "aria-posinset", at + 1);
      set(node, "aria-setsize", hasMore ? -1 : shown.length);
    });
    // A short page leaves the end in sight, and an observer tells a change only.
    if (hasMore && !loading) {
      this.#observer.unobserve(this.#more);
      this.#observer.observe(this.#more);
    }
  }

  /** @param {readonly import("../core/types.js").Notification[]} items */
  #hold(items) {
    const last = items.find((item) => this.rows.has(item.id));
    const epoch = this.client.getSnapshot().cursor?.split("-")[0];
    this.#shown = `${epoch}-${last?.createdSeq}`;
    this.show();
  }

  /** The pressed filter, and the categories that there are. @param {readonly import("../core/types.js").Notification[]} items */
  #choices(items) {
    const { unread, archived, category = "" } = this.#filter;
    for (const tab of this.#tabs.children) set(tab, "aria-pressed", String(tab.id === (archived ? "archived" : unread ? "unread" : "all")));
    const names = ["", ...new Set([...items.map((item) => item.category), category].filter(Boolean))];
    const same = names.every((name, at) => this.#kinds.options[at]?.value === name) && this.#kinds.options.length === names.length;
    if (!same) this.#kinds.replaceChildren(...names.map((value) => h("option", { value }, value ? (value[0].toUpperCase() + value.slice(1)).replaceAll("_", " ") : this.t("everything"))));
    this.#kinds.value = category;
    this.#kinds.hidden = names.length < 3;
  }
}
