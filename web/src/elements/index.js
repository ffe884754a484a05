// Registers the elements; again, or beside another copy of this file: nothing. The inbox is fetched where there is one.

import { CarillonBell } from "./bell.js";
import { CarillonStatus } from "./status.js";
import { CarillonToasts } from "./toasts.js";

export { provideClient } from "./base.js";
export { createNotificationClient, Problem } from "../core/client.js";
export { CarillonBell, CarillonStatus, CarillonToasts };

/** @param {string} name @param {CustomElementConstructor} element */
const define = (name, element) => void (customElements.get(name) ?? customElements.define(name, element));

define("carillon-bell", CarillonBell);
define("carillon-status", CarillonStatus);
define("carillon-toasts", CarillonToasts);

/** Pages without an inbox need not load it: elements in the page are upgraded when their class comes. */
const INBOX = "carillon-inbox";
function look() {
  if (!document.querySelector(INBOX)) return;
  seen.disconnect();
  import("./inbox.js").then(({ CarillonInbox }) => define(INBOX, CarillonInbox));
}
const seen = new MutationObserver(look);
seen.observe(document, { childList: true, subtree: true });
look();
