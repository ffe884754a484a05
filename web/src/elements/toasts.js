// <carillon-toasts>: what is important, for a moment; what is urgent stays until it is dismissed.

/** @import { Notification } from "../core/types.js" */
import { button, CarillonElement, h, paint } from "./base.js";

const CROSS = "M6 6l12 12M18 6L6 18";
const SHOWN_MS = 7000;
/** More would cover the page; the bell has them all. */
const MOST = 4;

export class CarillonToasts extends CarillonElement {
  /** @type {Map<string, () => void>} What ends a toast. */
  #shown = new Map();
  /** @type {Notification[]} Urgent ones that came while nobody looked at this page. */
  #waiting = [];
  #stack = h("div", { part: "toasts" });
  #look = () => {
    for (const item of this.#waiting.splice(0)) this.created(item);
  };

  build() {
    this.root.append(this.#stack);
  }

  async connect() {
    await super.connect();
    addEventListener("focus", this.#look);
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    removeEventListener("focus", this.#look);
    for (const end of [...this.#shown.values()]) end();
  }

  /** @param {Notification} item */
  created(item) {
    const urgent = item.priority === "URGENT";
    if (!urgent && item.priority !== "HIGH") return super.created(item);
    if (document.hidden || !document.hasFocus()) {
      if (urgent) this.#waiting = [...this.#waiting, item].slice(-MOST);
      return undefined;
    }
    // Whoever gets the lock shows it: one page of this browser, as long as the toast is there.
    const claimed = () => new Promise((resolve) => this.#toast(item, urgent, () => resolve(null)));
    const known = this.client.getSnapshot().items.find(({ id }) => id === item.id);
    if (known?.seenAt || this.#shown.has(item.id)) return undefined;
    if (!navigator.locks) return void claimed();
    return void navigator.locks.request(`carillon-toast:${item.id}`, { ifAvailable: true }, (lock) => lock && claimed());
  }

  /** @param {Notification} item @param {boolean} urgent @param {() => void} done */
  async #toast(item, urgent, done) {
    const { createRow } = await import("./item.js");
    /** @type {any} */
    let timer;
    const end = () => {
      clearTimeout(timer);
      this.#shown.delete(item.id);
      node.remove();
      done();
    };
    const dismiss = button("", () => {
      this.client.markOneSeen(item.id);
      end();
    });
    paint(dismiss, CROSS, this.t("dismiss"));
    const row = createRow(this, item).node;
    row.removeAttribute("tabindex");
    const pause = () => clearTimeout(timer);
    const wait = () => {
      pause();
      if (!urgent && !node.matches(":hover, :focus-within")) timer = setTimeout(end, SHOWN_MS);
    };
    const opened = (/** @type {Event} */ event) => void (event.composedPath().some((each) => each instanceof HTMLAnchorElement) && end());
    const node = h("div", {
      class: `toast ${item.priority}`, part: "toast", role: urgent ? "alert" : "status",
      onclick: opened, onpointerenter: pause, onpointerleave: wait, onfocusin: pause, onfocusout: wait,
    }, row, dismiss);
    this.#stack.append(node);
    this.#shown.set(item.id, end);
    if (this.#shown.size > MOST) this.#shown.values().next().value?.();
    wait();
  }
}
