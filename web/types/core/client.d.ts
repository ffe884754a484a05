import type { Filter, Options, Snapshot } from "./types.js";
/** @import { AuthReason, Clock, Filter, Frame, Operation, Options, Page, Snapshot, Status, View } from "./types.js" */
import { Problem } from "./http.js";
export { Problem };
/**
 * Return a client, which does nothing before `start()`.
 * @param {Options} [options]
 */
export declare function createNotificationClient({ baseUrl, auth, transport, tabs: shared, locale, clock, random, }?: Options): {
    locale: string | undefined;
    baseUrl: string;
    on: (type: "created" | "error" | "status" | "frame" | "change", handler: (detail: any) => void) => () => undefined;
    start: () => void;
    stop: () => void;
    getSnapshot: () => Snapshot;
    /** Call back after changes, some of them together; returns what ends that. @param {() => void} listener */
    subscribe: (listener: () => void) => () => undefined;
    /** When the stream last told anything, in ms since 1970; 0: never. */
    readonly lastEventAt: number;
    /** A list of its own, of what the filter lets through; `close` it when it is no longer shown. @param {Filter} filter */
    view(filter: Filter): {
        getSnapshot: () => Snapshot;
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
/** @typedef {ReturnType<typeof createNotificationClient>} NotificationClient */
