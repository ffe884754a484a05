// <carillon-bell>: the badge, and a panel with the latest.

import { BELL, button, CarillonElement, h, icon, rowsOr, set, write } from "./base.js";
import { createNote } from "./status.js";

const LATEST = 5;
/** A badge has room for two digits; readers are told the true number. */
const MOST = 99;
const RING_MS = 800;

export class CarillonBell extends CarillonElement {
  #badge = h("span", { class: "badge", part: "badge", "aria-hidden": "true", hidden: true });
  #bell = h("button", { type: "button", class: "bell", part: "bell", "aria-haspopup": "dialog", "aria-expanded": "false", onclick: () => this.toggle(), onpointerenter: () => rowsOr(() => {}) });
  #list = h("div", { class: "list" });
  #empty = h("div", { class: "empty", part: "empty" });
  #panel = h("div", { class: "panel", part: "panel", role: "dialog", tabindex: "-1", popover: "manual" });
  #all = h("a", { class: "link", part: "view-all" });
  /** @type {HTMLButtonElement | undefined} */
  #read;
  /** @type {ReturnType<typeof createNote> | undefined} */
  #note;
  /** @type {Map<string, ReturnType<typeof import("./item.js").createRow>>} */
  #rows = new Map();
  #outside = (/** @type {Event} */ event) => void (event.composedPath().includes(this) || this.close());

  build() {
    const { t } = this;
    this.#bell.replaceChildren(icon(BELL), this.#badge);
    this.#read = button(t("markAllRead"), () => this.client.markAllRead());
    this.#note = createNote(this);
    this.#empty.replaceChildren(icon(BELL), h("b", {}, t("quiet")), t("quietMore"));
    this.#all.textContent = t("viewAll");
    set(this.#panel, "aria-label", t("title"));
    this.#rows.clear();
    this.#list.replaceChildren();
    const foot = h("div", { class: "bar foot" }, this.#all);
    this.#panel.replaceChildren(h("div", { class: "bar" }, h("h2", {}, t("title")), this.#read), this.#note.node, this.#list, this.#empty, foot);
    this.#panel.onkeydown = (event) => void (event.key === "Escape" && (event.stopPropagation(), this.close(true)));
    this.root.append(this.#bell, this.#panel);
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.close();
  }

  get #open() {
    return this.#bell.getAttribute("aria-expanded") === "true";
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

  /** Open or close the panel. Opened: everything so far has been seen. */
  toggle() {
    if (this.#open) return this.close(true);
    set(this.#bell, "aria-expanded", "true");
    this.#panel.showPopover();
    this.#place();
    document.addEventListener("pointerdown", this.#outside);
    for (const moved of ["scroll", "resize"]) addEventListener(moved, this.#place);
    this.show();
    this.#panel.focus();
    if (this.client.getSnapshot().unseenCount) this.client.markSeen();
  }

  /** @param {boolean} [back] the focus returns to the bell */
  close(back) {
    if (!this.#open) return;
    set(this.#bell, "aria-expanded", "false");
    if (this.#panel.isConnected) this.#panel.hidePopover();
    document.removeEventListener("pointerdown", this.#outside);
    for (const moved of ["scroll", "resize"]) removeEventListener(moved, this.#place);
    if (back) this.#bell.focus();
  }

  /** @param {import("../core/types.js").Notification} item */
  created(item) {
    super.created(item);
    this.#bell.classList.add("ring");
    setTimeout(() => this.#bell.classList.remove("ring"), RING_MS);
  }

  tick() {
    for (const row of this.#rows.values()) row.tick();
  }

  show() {
    const { unreadCount, unseenCount, items, loaded } = this.client.getSnapshot();
    set(this.#bell, "aria-label", this.t("bell", unreadCount));
    this.#bell.classList.toggle("new", unseenCount > 0);
    this.#badge.hidden = unreadCount === 0;
    write(this.#badge, unreadCount > MOST ? `${MOST}+` : `${unreadCount}`);
    if (!this.#open || !this.#read) return;
    const rows = rowsOr(() => this.show());
    this.#note?.show();
    this.#read.disabled = unreadCount === 0;
    this.#empty.hidden = !loaded || items.length > 0;
    const href = this.getAttribute("href");
    /** @type {HTMLElement} */ (this.#all.parentElement).hidden = !href;
    set(this.#all, "href", href);
    rows?.keep(this, this.#list, this.#rows, items.slice(0, LATEST), this.#rows.size > 0);
  }
}
