// What the elements share: the client, the words, the making of nodes. Text becomes text nodes; nothing reads markup.

/** @import { NotificationClient } from "../core/client.js" */
import { createNotificationClient } from "../core/client.js";
import en from "../locales/en.js";
import { sheet } from "./style.js";

/** One announcement in so many milliseconds: a burst is told as its number. */
const SPEAK_MS = 3000;
/** Relative times are told anew this often. */
const TICK_MS = 30_000;

export const BELL = "M12 3a6 6 0 0 0-6 6v3.6l-1.7 3.1a.9.9 0 0 0 .8 1.3h13.8a.9.9 0 0 0 .8-1.3L18 12.6V9a6 6 0 0 0-6-6ZM9.8 19.5a2.3 2.3 0 0 0 4.4 0";

/** @typedef {typeof en} Words */
/** @typedef {(key: Exclude<keyof Words, "dir">, n?: number, title?: string) => string} Tell */

/** Each is fetched where it is spoken. @type {Record<string, () => Promise<any>>} */
const LANGUAGES = {
  ar: () => import("../locales/ar.js"),
  de: () => import("../locales/de.js"),
  es: () => import("../locales/es.js"),
  fr: () => import("../locales/fr.js"),
};
/** @type {Map<string, NotificationClient>} */
const clients = new Map();
/** @type {WeakMap<NotificationClient, CarillonElement>} The element that announces, of all of one client. */
const speakers = new WeakMap();

/** Let every element without a client of its own use this one. @param {NotificationClient} client */
export const provideClient = (client) => void clients.set("", client);

/** A client for attributes: `token-url` answers `{"token"}` to whoever is signed in; without it there is a cookie.
 * @param {HTMLElement} element @returns {NotificationClient} */
function clientFor(element) {
  const baseUrl = element.getAttribute("base-url") ?? "";
  const tokenUrl = element.getAttribute("token-url") ?? "";
  const signIn = tokenUrl && new URL(tokenUrl, document.baseURI).href;
  const key = baseUrl + signIn && `${baseUrl} ${signIn}`;
  const known = clients.get(key) ?? (key ? undefined : clients.values().next().value);
  if (known) return known;
  /** @type {string} */
  let token;
  const auth = async (/** @type {{reason: string}} */ { reason }) => {
    if (!token || reason === "unauthorized") token = (await (await fetch(signIn, { cache: "no-store" })).json()).token;
    return token;
  };
  const made = createNotificationClient({ baseUrl, signIn, auth: signIn ? auth : "cookie" });
  clients.set(key, made);
  return made;
}

/**
 * Make an element: `on…` are listeners, the rest are attributes. A part has a class of its name, if it says no other one.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} name @param {Record<string, any>} [attributes] @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries({ class: attributes.part, ...attributes })) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else set(made, key, value);
  }
  made.append(...children);
  return made;
}

/** Set an attribute; null, undefined or false: there is none. @param {Element} element @param {string} name @param {any} value */
export function set(element, name, value) {
  if (value == null || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value === true ? "" : String(value));
}

/** @type {typeof import("./item.js") | null} */
let rows = null;
/** The articles' part: null until it is there, then `show` is called. It is fetched when a list is first to be seen. @param {() => void} show */
export function rowsOr(show) {
  if (!rows) import("./item.js").then((found) => void ((rows = found), show()));
  return rows;
}

/** Set a text, if it is another one: screen readers tell every change. @param {Element} element @param {string} text */
export const write = (element, text) => void (element.textContent === text || (element.textContent = text));

/** A decorative drawing in a field of 24 by 24. @param {string} path */
export function icon(path) {
  const [svg, drawn] = ["svg", "path"].map((name) => document.createElementNS("http://www.w3.org/2000/svg", name));
  set(svg, "viewBox", "0 0 24 24");
  set(svg, "aria-hidden", "true");
  set(drawn, "d", path);
  svg.append(drawn);
  return svg;
}

/** @param {string} words @param {() => void} onclick */
export const button = (words, onclick) => h("button", { onclick }, words);

/** Have a button say what it does by a drawing alone. @param {HTMLElement} button @param {string} path @param {string} words @param {string} [of] */
export function paint(button, path, words, of = "") {
  if (button.ariaLabel === words + of) return;
  button.ariaLabel = words + of;
  button.title = words;
  button.replaceChildren(icon(path));
}

/** A custom element of one client. Who inherits it builds in `build()` and shows in `show()`, which runs at each change. */
export class CarillonElement extends HTMLElement {
  /** @type {NotificationClient | null} */
  #client = null;
  /** @type {(() => void)[]} */
  #endings = [];
  #heard = 0;
  /** @type {any} */
  #speaking = null;
  #live = h("p", { class: "hidden", "aria-live": "polite" });
  /** What is shown of each notification, by its id. @type {Map<string, ReturnType<typeof import("./item.js").createRow>>} */
  rows = new Map();
  words = en;
  locale = "en";
  /** @type {HTMLElement} */
  root = h("div", { class: "root" });

  get client() {
    return (this.#client ??= clientFor(this));
  }

  set client(client) {
    this.#client = client;
    if (this.isConnected) this.connectedCallback();
  }

  /** Later in the same task: the page's own module may have a client to provide. */
  connectedCallback() {
    // What was set before this class was there hides the accessor of the same name.
    if (Object.hasOwn(this, "client")) {
      this.#client = this.client;
      delete (/** @type {any} */ (this).client);
    }
    queueMicrotask(() => this.isConnected && this.connect());
  }

  async connect() {
    this.disconnectedCallback();
    const { client } = this;
    const shadow = this.shadowRoot ?? this.attachShadow({ mode: "open" });
    this.adopt(sheet);
    const ticking = setInterval(() => this.tick(), TICK_MS);
    this.#endings = [client.subscribe(() => this.root.isConnected && this.show()), client.on("created", (item) => this.created(item)), () => clearInterval(ticking)];
    if (!speakers.get(client)?.isConnected) speakers.set(client, this);
    client.start();
    this.locale = client.locale || this.closest("[lang]")?.getAttribute("lang") || "en";
    const found = await LANGUAGES[this.locale.slice(0, 2).toLowerCase()]?.().catch(() => null);
    this.words = found?.default ?? en;
    if (!this.isConnected) return;
    this.root.dir = this.words.dir;
    this.root.replaceChildren();
    this.rows.clear();
    shadow.replaceChildren(this.root, this.#live);
    this.build();
    this.show();
  }

  disconnectedCallback() {
    for (const end of this.#endings.splice(0)) end();
  }

  /** Words in the page's language; `n` is formatted and chooses the plural. @type {Tell} */
  t = (key, n = 0, title = "") => {
    const form = this.words[key];
    const chosen = typeof form === "string" ? form : form[/** @type {"other"} */ (new Intl.PluralRules(this.locale).select(n))] ?? form.other;
    return chosen.replace("{n}", () => new Intl.NumberFormat(this.locale).format(n)).replace("{title}", () => title);
  };

  /** Wear one more style sheet; again: nothing. @param {CSSStyleSheet} worn */
  adopt(worn) {
    const sheets = this.shadowRoot?.adoptedStyleSheets;
    if (!sheets?.includes(worn)) sheets?.push(worn);
  }

  build() {}
  show() {}
  tick() {
    for (const row of this.rows.values()) row.tick();
  }

  /** Tell that something has come, if nobody else does. @param {import("../core/types.js").Notification} item */
  created(item) {
    if (speakers.get(this.client) !== this) return;
    this.#heard += 1;
    this.#speaking ??= setTimeout(() => {
      this.#live.textContent = this.t("news", this.#heard, item.title);
      this.#heard = 0;
      this.#speaking = null;
    }, SPEAK_MS);
  }
}
