// <carillon-status>: how the connection is, and what can be done about it.

import { button, CarillonElement, h, write } from "./base.js";

const FINE = ["live", "idle", "connecting"];

export class CarillonStatus extends CarillonElement {
  #words = h("span", { role: "status", part: "status" });
  #retry = h("span");

  build() {
    this.#retry.replaceChildren(button(this.t("retry"), () => this.client.retryNow()));
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
  const retry = button(host.t("retry"), () => host.client.retryNow());
  const node = h("div", { class: "note", part: "note", hidden: true, role: "status" }, words, retry);
  return {
    node,
    show() {
      const { status, error } = host.client.getSnapshot();
      const refused = error !== null && FINE.concat("polling").includes(status);
      const bad = refused || ["unauthenticated", "closed"].includes(status);
      const away = ["offline", "reconnecting", "polling"].includes(status);
      node.hidden = !bad && !away;
      node.className = bad ? "note bad" : "note";
      write(retry, host.t(refused ? "dismiss" : "retry"));
      if (refused) write(words, `${host.t("failed")} ${error.message}`);
      else if (bad || away) write(words, [host.t(status), status === "offline" ? host.t("offlineMore") : ""].filter(Boolean).join(". "));
    },
  };
}
