import type { NotificationClient } from "../core/client.js";
import en from "../locales/en.js";
export declare const BELL = "M12 3a6 6 0 0 0-6 6v3.6l-1.7 3.1a.9.9 0 0 0 .8 1.3h13.8a.9.9 0 0 0 .8-1.3L18 12.6V9a6 6 0 0 0-6-6ZM9.8 19.5a2.3 2.3 0 0 0 4.4 0";
export type Words = typeof en;
export type Tell = (key: Exclude<keyof Words, "dir">, n?: number, title?: string) => string;
/** Let every element without a client of its own use this one. @param {NotificationClient} client */
export declare const provideClient: (client: NotificationClient) => undefined;
/**
 * Make an element: `on…` are listeners, the rest are attributes. A part has a class of its name, if it says no other one.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} name @param {Record<string, any>} [attributes] @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export declare function h<T extends keyof HTMLElementTagNameMap>(name: T, attributes?: Record<string, any>, ...children: (Node | string)[]): HTMLElementTagNameMap[T];
/** Set an attribute; null, undefined or false: there is none. @param {Element} element @param {string} name @param {any} value */
export declare function set(element: Element, name: string, value: any): void;
/** The articles' part: null until it is there, then `show` is called. It is fetched when a list is first to be seen. @param {() => void} show */
export declare function rowsOr(show: () => void): typeof import("./item.js") | null;
/** Set a text, if it is another one: screen readers tell every change. @param {Element} element @param {string} text */
export declare const write: (element: Element, text: string) => undefined;
/** A decorative drawing in a field of 24 by 24. @param {string} path */
export declare function icon(path: string): SVGElement;
/** @param {string} words @param {() => void} onclick */
export declare const button: (words: string, onclick: () => void) => HTMLButtonElement;
/** Have a button say what it does by a drawing alone. @param {HTMLElement} button @param {string} path @param {string} words @param {string} [of] */
export declare function paint(button: HTMLElement, path: string, words: string, of?: string): void;
/** A custom element of one client. Who inherits it builds in `build()` and shows in `show()`, which runs at each change. */
export declare class CarillonElement extends HTMLElement {
    #private;
    /** What is shown of each notification, by its id. @type {Map<string, ReturnType<typeof import("./item.js").createRow>>} */
    rows: Map<string, ReturnType<typeof import("./item.js").createRow>>;
    words: {
        dir: string;
        title: string;
        bell: string;
        news: {
            one: string;
            other: string;
        };
        unread: string;
        HIGH: string;
        URGENT: string;
        markRead: string;
        markUnread: string;
        archive: string;
        unarchive: string;
        delete: string;
        dismiss: string;
        actions: string;
        markAllRead: string;
        deleteRead: string;
        viewAll: string;
        all: string;
        archived: string;
        everything: string;
        kind: string;
        loadMore: string;
        loading: string;
        fresh: {
            one: string;
            other: string;
        };
        quiet: string;
        quietMore: string;
        nothing: string;
        failed: string;
        retry: string;
        offlineMore: string;
        idle: string;
        connecting: string;
        live: string;
        reconnecting: string;
        polling: string;
        offline: string;
        unauthenticated: string;
        closed: string;
    };
    locale: string;
    /** @type {HTMLElement} */
    root: HTMLElement;
    get client(): {
        locale: string | undefined;
        baseUrl: string;
        on: <T extends keyof import("../core/types.js").Told>(type: T, handler: (detail: import("../core/types.js").Told[T]) => void) => () => undefined;
        start: () => void;
        stop: () => void;
        getSnapshot: () => import("../core/types.js").Snapshot;
        subscribe: (listener: () => void) => () => undefined;
        readonly lastEventAt: number;
        view(filter: import("../core/client.js").Filter): {
            getSnapshot: () => import("../core/types.js").Snapshot;
            loadMore: () => Promise<void>;
            close: () => undefined;
        };
        loadMore: () => Promise<void>;
        refresh: () => Promise<void | void[]>;
        markRead: (which: string) => void | Promise<void>;
        markUnread: (which: string) => void | Promise<void>;
        archive: (which: string) => void | Promise<void>;
        unarchive: (which: string) => void | Promise<void>;
        remove: (which: string) => void | Promise<void>;
        markOneSeen: (which: string) => void | Promise<void>;
        markSeen: (upTo?: string | null) => undefined;
        markAllRead: (upTo?: string | null) => undefined;
        removeRead: (upTo?: string | null) => undefined;
        retryNow(): void;
    };
    set client(client: {
        locale: string | undefined;
        baseUrl: string;
        on: <T extends keyof import("../core/types.js").Told>(type: T, handler: (detail: import("../core/types.js").Told[T]) => void) => () => undefined;
        start: () => void;
        stop: () => void;
        getSnapshot: () => import("../core/types.js").Snapshot;
        subscribe: (listener: () => void) => () => undefined;
        readonly lastEventAt: number;
        view(filter: import("../core/client.js").Filter): {
            getSnapshot: () => import("../core/types.js").Snapshot;
            loadMore: () => Promise<void>;
            close: () => undefined;
        };
        loadMore: () => Promise<void>;
        refresh: () => Promise<void | void[]>;
        markRead: (which: string) => void | Promise<void>;
        markUnread: (which: string) => void | Promise<void>;
        archive: (which: string) => void | Promise<void>;
        unarchive: (which: string) => void | Promise<void>;
        remove: (which: string) => void | Promise<void>;
        markOneSeen: (which: string) => void | Promise<void>;
        markSeen: (upTo?: string | null) => undefined;
        markAllRead: (upTo?: string | null) => undefined;
        removeRead: (upTo?: string | null) => undefined;
        retryNow(): void;
    });
    /** Later in the same task: the page's own module may have a client to provide. */
    connectedCallback(): void;
    connect(): Promise<void>;
    disconnectedCallback(): void;
    /** Words in the page's language; `n` is formatted and chooses the plural. @type {Tell} */
    t: Tell;
    /** Wear one more style sheet; again: nothing. @param {CSSStyleSheet} worn */
    adopt(worn: CSSStyleSheet): void;
    build(): void;
    show(): void;
    tick(): void;
    /** Tell that something has come, if nobody else does. @param {import("../core/types.js").Notification} item */
    created(item: import("../core/types.js").Notification): void;
}
