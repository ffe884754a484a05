import type { Told } from "./types.js";
/** @import { Clock, LinkState, Operation, Page, Tell, Told, View } from "./types.js" */
import { Problem } from "./http.js";
export { Problem };
/** Return a client, which does nothing before `start()`. @param {Options} [options] */
export declare function createNotificationClient({ baseUrl, auth, signIn, transport, tabs: shared, locale, clock, random, }?: Options): {
    locale: string | undefined;
    baseUrl: string;
    on: <T extends keyof Told>(type: T, handler: (detail: Told[T]) => void) => () => undefined;
    start: () => void;
    stop: () => void;
    getSnapshot: () => import("./types.js").Snapshot;
    /** Call back after changes, some of them together; returns what ends that. @param {() => void} listener */
    subscribe: (listener: () => void) => () => undefined;
    /** When the stream last told anything, in ms since 1970; 0: never. */
    readonly lastEventAt: number;
    /** A list of its own, of what the filter lets through; `close` it when it is no longer shown. @param {Filter} filter */
    view(filter: Filter): {
        getSnapshot: () => import("./types.js").Snapshot;
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
    /** Try now what waits for its time; a client that gave up begins again. */
    retryNow(): void;
};
export type NotificationClient = ReturnType<typeof createNotificationClient>;
export type Notification = import("./types.js").Notification;
export type Snapshot = import("./types.js").Snapshot;
export type Options = import("./types.js").Options;
export type Filter = import("./types.js").Filter;
export type Frame = import("./types.js").Frame;
/**
 * @typedef {ReturnType<typeof createNotificationClient>} NotificationClient
 * @typedef {import("./types.js").Notification} Notification
 * @typedef {import("./types.js").Snapshot} Snapshot
 * @typedef {import("./types.js").Options} Options
 * @typedef {import("./types.js").Filter} Filter
 * @typedef {import("./types.js").Frame} Frame
 */
