// <carillon-bell>: the badge, and a panel with the latest.

import { BELL, button, CarillonElement, h, icon, rowsOr, set, write } from "./base.js";
import { createNote } from "./status.js";

const LATEST = 5;
/** A badge has room for two digits; readers are told the true number. */
const MOST = 99;
const RING_MS = 800;

export class CarillonBell extends CarillonElement {
  #badge = h("span", { part: "badge", "aria-hidden": "true", hidden: true });
  #bell = h("button", { part: "bell", "aria-haspopup": "dialog", onclick: () => this.toggle(), onpointerenter: () => rowsOr(() => {}) });
  #list = h("div", { class: "list" });
  #empty = h("div", { part: "empty" });
  #panel = h("div", { part: "panel", role: "dialog", tabindex: "-1", popover: "manual", onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event) });
  #all = h("a", { class: "link", part: "view-all" });
  #read = button("", () => this.client.markAllRead());
  #note = createNote(this);
  /** @type {AbortController | null} Ends what an open panel listens to. */
  #open = null;

  build() {
    const { t } = this;
    this.#bell.replaceChildren(icon(BELL), this.#badge);
    this.#read.textContent = t("markAllRead");
    this.#empty.replaceChildren(icon(BELL), h("b", {}, t("quiet")), t("quietMore"));
    this.#all.textContent = t("viewAll");
    set(this.#panel, "aria-label", t("title"));
    this.#list.replaceChildren();
    const foot = h("div", { class: "bar foot" }, this.#all);
    this.#panel.replaceChildren(h("div", { class: "bar" }, h("h2", {}, t("title")), this.#read), this.#note.node, this.#list, this.#empty, foot);
    this.root.append(this.#bell, this.#panel);
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.close();
  }

  /** Under the bell, and within the window: a popover lies above everything, wherever the bell is. */
  #place = () => {
    const { bottom, left, right } = this.#bell.getBoundingClientRect();
    const { clientWidth } = document.documentElement;
    const width = this.#panel.offsetWidth;
    const end = this.root.dir === "rtl" ? clientWidth - left - width : clientWidth - right;
    this.#panel.style.setProperty("--top", `${bottom + 8}px`);
    this.#panel.style.setProperty("--right", `${Math.max(8, Math.min(end, clientWidth - width - 8))}px`);
  };

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    this.close(true);
  }

  /** Open or close the panel. Opened: everything so far has been seen. */
  toggle() {
    if (this.#open) return this.close(true);
    const { signal } = (this.#open = new AbortController());
    this.#panel.showPopover();
    this.#place();
    addEventListener("pointerdown", (event) => event.composedPath().includes(this) || this.close(), { signal });
    for (const moved of ["scroll", "resize"]) addEventListener(moved, this.#place, { signal });
    this.show();
    this.#panel.focus();
    if (this.client.getSnapshot().unseenCount) this.client.markSeen();
  }

  /** @param {boolean} [back] the focus returns to the bell */
  close(back) {
    if (!this.#open) return;
    this.#open.abort();
    this.#open = null;
    set(this.#bell, "aria-expanded", "false");
    if (this.#panel.isConnected) this.#panel.hidePopover();
    if (back) this.#bell.focus();
  }

  /** @param {import("../core/types.js").Notification} item */
  created(item) {
    super.created(item);
    this.#bell.classList.add("ring");
    setTimeout(() => this.#bell.classList.remove("ring"), RING_MS);
  }

  show() {
    const { unreadCount, unseenCount, items, loaded } = this.client.getSnapshot();
    set(this.#bell, "aria-expanded", String(this.#open !== null));
    set(this.#bell, "aria-label", this.t("bell", unreadCount));
    this.#bell.classList.toggle("new", unseenCount > 0);
    this.#badge.hidden = unreadCount === 0;
    write(this.#badge, unreadCount > MOST ? `${MOST}+` : `${unreadCount}`);
    if (!this.#open) return;
    const rows = rowsOr(() => this.show());
    this.#note.show();
    this.#read.disabled = unreadCount === 0;
    this.#empty.hidden = !loaded || items.length > 0;
    const href = this.getAttribute("href");
    /** @type {HTMLElement} */ (this.#all.parentElement).hidden = !href;
    set(this.#all, "href", href);
    rows?.keep(this, this.#list, items.slice(0, LATEST), this.rows.size > 0);
  }
}
