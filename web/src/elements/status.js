// <carillon-status>: how the connection is, and what can be done about it.

import { button, CarillonElement, h, write } from "./base.js";

const FINE = ["live", "idle", "connecting"];

export class CarillonStatus extends CarillonElement {
  #words = h("span", { role: "status", part: "status" });
  #retry = button("", () => this.client.retryNow());

  build() {
    this.#retry.textContent = this.t("retry");
    this.root.append(this.#words, this.#retry);
  }

  show() {
    const { status, error } = this.client.getSnapshot();
    this.#words.className = `status ${status}`;
    this.#words.title = error?.message ?? "";
    write(this.#words, this.t(status));
    this.#retry.hidden = FINE.includes(status);
  }
}

/**
 * A line that says what is wrong: what was refused, or what becomes of what one does offline.
 * @param {CarillonElement} host
 */
export function createNote(host) {
  const words = h("span");
  const retry = button("", () => host.client.retryNow());
  const node = h("div", { part: "note", hidden: true, role: "status" }, words, retry);
  return {
    node,
    show() {
      const { status, error } = host.client.getSnapshot();
      const refused = error !== null && FINE.concat("polling").includes(status);
      node.hidden = !refused && FINE.includes(status);
      node.classList.toggle("bad", refused || ["unauthenticated", "closed"].includes(status));
      write(retry, host.t(refused ? "dismiss" : "retry"));
      const more = status === "offline" ? `. ${host.t("offlineMore")}` : "";
      if (!node.hidden) write(words, refused ? `${host.t("failed")} ${error.message}` : host.t(status) + more);
    },
  };
}
