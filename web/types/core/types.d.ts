export type Priority = "LOW" | "NORMAL" | "HIGH" | "URGENT";
export type Notification = {
    id: string;
    /**
     * e.g. `CERTIFICATE_ISSUED`; `carillon-web/catalog` has all of them, with their metadata
     */
    type: string;
    category: string;
    title: string;
    message: string;
    priority: Priority;
    metadata: Record<string, unknown>;
    actionUrl: string | null;
    read: boolean;
    readAt: string | null;
    seenAt: string | null;
    archivedAt: string | null;
    createdAt: string;
    expiresAt: string | null;
    tenant: string;
    createdSeq: number;
    seq: number;
};
export type Counters = {
    unreadCount: number;
    unseenCount: number;
};
export type Page = {
    /**
     * whose inbox it is
     */
    inbox?: string;
    nodes: Notification[];
    pageInfo: {
        hasNextPage: boolean;
        endCursor: string | null;
    };
    totalCount: number;
    unreadCount: number;
    unseenCount: number;
    cursor: string;
};
export type FrameData = Record<string, any>;
export type Frame = {
    id: string;
    event: string;
    data: FrameData;
};
export type Status = "idle" | "connecting" | "live" | "reconnecting" | "polling" | "offline" | "unauthenticated" | "closed";
export type Filter = {
    unread?: boolean;
    archived?: boolean;
    type?: string;
    category?: string;
    priority?: Priority;
};
export type ViewSnapshot = {
    /**
     * newest first
     */
    items: readonly Notification[];
    totalCount: number;
    hasMore: boolean;
    loading: boolean;
    /**
     * whether a first page was read
     */
    loaded: boolean;
};
export type LinkState = {
    status: Status;
    /**
     * milliseconds since 1970
     */
    nextRetryAt: number | null;
    /**
     * a `Problem` where the server said what is wrong
     */
    error: (Error & {
        status?: number;
    }) | null;
};
export type ClientState = {
    unreadCount: number;
    unseenCount: number;
    cursor: string | null;
    /**
     * whether this page holds the browser's stream
     */
    isLeader: boolean;
};
export type Snapshot = ViewSnapshot & LinkState & ClientState;
export type Clock = {
    /**
     * milliseconds since 1970
     */
    now: () => number;
    setTimeout: (callback: () => void, ms: number) => any;
    clearTimeout: (handle: any) => void;
};
export type AuthReason = "request" | "stream" | "unauthorized";
export type Auth = "cookie" | ((asked: {
    reason: AuthReason;
}) => string | Promise<string>);
export type Told = {
    created: Notification;
    error: Error;
    status: Status;
    frame: Frame;
    change: undefined;
};
export type Options = {
    /**
     * where Carillon answers, without a slash at its end; this origin by default
     */
    baseUrl?: string;
    auth?: Auth;
    /**
     * what tells who is signed in, such as the token's address: clients of one name show the same
     * person in every page of the browser, and end where another one comes; with a cookie they do anyway, and this is left aside
     */
    signIn?: string;
    transport?: "auto" | "fetch" | "eventsource" | "poll";
    /**
     * share one stream among the pages of this browser (default)
     */
    tabs?: boolean;
    /**
     * of the elements' words; the page's language by default
     */
    locale?: string;
    clock?: Clock;
    random?: () => number;
};
export type Operation = {
    /**
     * of one notification; without it all that were created up to `upTo`
     */
    id?: string;
    upTo?: string;
    /**
     * without them: it is deleted; of all, what is read
     */
    marks?: {
        read?: boolean;
        seen?: true;
        archived?: boolean;
    };
    /**
     * of those with the same one the last is sent alone
     */
    key?: string;
    /**
     * the seq at which the server did it: shown until the mark is there
     */
    done?: number;
};
export type View = {
    filter: Filter;
    /**
     * `createdSeq` of the last row of the last page
     */
    floor: number;
    hasMore: boolean;
    end: string | null;
    /**
     * of the last page
     */
    total: number;
    /**
     * how many of these the pages so far did not tell
     */
    beyond?: number;
    loading: boolean;
    loaded: boolean;
    items: readonly Notification[];
    /**
     * how it looked when it was last looked at; null: something has changed since
     */
    snapshot: Snapshot | null;
};
export type Ears = {
    /**
     * ends the connection
     */
    signal: AbortSignal;
    /**
     * bytes came
     */
    heard: () => void;
    frame: (frame: Frame) => void;
    /**
     * the server's wish for the time of the next attempt
     */
    retry: (ms: number) => void;
};
export type Tell = (status: Status, nextRetryAt?: number | null, error?: Error | null) => void;
export type Attempt = {
    signal: AbortSignal;
    heard: () => void;
    live: (heartbeatSeconds: number) => void;
    retry: (ms: number) => void;
};
export type LinkParts = {
    clock: Clock;
    random: () => number;
    /**
     * one attempt, until it ends
     */
    connect: (attempt: Attempt) => Promise<unknown>;
    /**
     * asks for what changed
     */
    poll: () => Promise<unknown>;
    /**
     * false: there are polls alone
     */
    streams: boolean;
    told: Tell;
};
export type Message = Record<string, any>;
export type TabParts = {
    /**
     * origin, tenant and recipient: pages of different people never meet
     */
    key: string;
    clock: Clock;
    /**
     * this page is to hold the stream
     */
    lead: () => void;
    /**
     * another page took over
     */
    follow: () => void;
    received: (message: Message) => unknown;
    /**
     * what a leader says of itself
     */
    state: () => Message;
};
/**
 * @typedef {"LOW" | "NORMAL" | "HIGH" | "URGENT"} Priority
 *
 * @typedef {object} Notification One event for one recipient. Never changed in place.
 * @property {string} id
 * @property {string} type e.g. `CERTIFICATE_ISSUED`; `carillon-web/catalog` has all of them, with their metadata
 * @property {string} category
 * @property {string} title
 * @property {string} message
 * @property {Priority} priority
 * @property {Record<string, unknown>} metadata
 * @property {string | null} actionUrl
 * @property {boolean} read
 * @property {string | null} readAt
 * @property {string | null} seenAt
 * @property {string | null} archivedAt
 * @property {string} createdAt
 * @property {string | null} expiresAt
 * @property {string} tenant
 * @property {number} createdSeq
 * @property {number} seq
 *
 * @typedef {object} Counters
 * @property {number} unreadCount
 * @property {number} unseenCount
 *
 * @typedef {object} Page
 * @property {string} [inbox] whose inbox it is
 * @property {Notification[]} nodes
 * @property {{hasNextPage: boolean, endCursor: string | null}} pageInfo
 * @property {number} totalCount
 * @property {number} unreadCount
 * @property {number} unseenCount
 * @property {string} cursor
 *
 * @typedef {Record<string, any>} FrameData
 *
 * @typedef {object} Frame One event of the stream; `id` is "" where it has none.
 * @property {string} id
 * @property {string} event
 * @property {FrameData} data
 *
 * @typedef {"idle" | "connecting" | "live" | "reconnecting" | "polling" | "offline" | "unauthenticated" | "closed"} Status
 *
 * @typedef {object} Filter Which notifications a view shows; archived ones only where it asks for them.
 * @property {boolean} [unread]
 * @property {boolean} [archived]
 * @property {string} [type]
 * @property {string} [category]
 * @property {Priority} [priority]
 *
 * @typedef {object} ViewSnapshot
 * @property {readonly Notification[]} items newest first
 * @property {number} totalCount
 * @property {boolean} hasMore
 * @property {boolean} loading
 * @property {boolean} loaded whether a first page was read
 *
 * @typedef {object} LinkState
 * @property {Status} status
 * @property {number | null} nextRetryAt milliseconds since 1970
 * @property {(Error & {status?: number}) | null} error a `Problem` where the server said what is wrong
 *
 * @typedef {object} ClientState
 * @property {number} unreadCount
 * @property {number} unseenCount
 * @property {string | null} cursor
 * @property {boolean} isLeader whether this page holds the browser's stream
 *
 * @typedef {ViewSnapshot & LinkState & ClientState} Snapshot Frozen, and the same object until something changed.
 *
 * @typedef {object} Clock
 * @property {() => number} now milliseconds since 1970
 * @property {(callback: () => void, ms: number) => any} setTimeout
 * @property {(handle: any) => void} clearTimeout
 *
 * @typedef {"request" | "stream" | "unauthorized"} AuthReason `unauthorized`: the token before was refused, or may be
 *   somebody else's
 * @typedef {"cookie" | ((asked: {reason: AuthReason}) => string | Promise<string>)} Auth
 *
 * @typedef {object} Told What `on` calls back with.
 * @property {Notification} created
 * @property {Error} error
 * @property {Status} status
 * @property {Frame} frame
 * @property {undefined} change
 *
 * @typedef {object} Options
 * @property {string} [baseUrl] where Carillon answers, without a slash at its end; this origin by default
 * @property {Auth} [auth]
 * @property {string} [signIn] what tells who is signed in, such as the token's address: clients of one name show the same
 *   person in every page of the browser, and end where another one comes; with a cookie they do anyway, and this is left aside
 * @property {"auto" | "fetch" | "eventsource" | "poll"} [transport]
 * @property {boolean} [tabs] share one stream among the pages of this browser (default)
 * @property {string} [locale] of the elements' words; the page's language by default
 * @property {Clock} [clock]
 * @property {() => number} [random]
 */
/**
 * @typedef {object} Operation
 * @property {string} [id] of one notification; without it all that were created up to `upTo`
 * @property {string} [upTo]
 * @property {{read?: boolean, seen?: true, archived?: boolean}} [marks] without them: it is deleted; of all, what is read
 * @property {string} [key] of those with the same one the last is sent alone
 * @property {number} [done] the seq at which the server did it: shown until the mark is there
 *
 * @typedef {object} View A list: what of the known notifications matches, as far down as pages were read.
 * @property {Filter} filter
 * @property {number} floor `createdSeq` of the last row of the last page
 * @property {boolean} hasMore
 * @property {string | null} end
 * @property {number} total of the last page
 * @property {number} [beyond] how many of these the pages so far did not tell
 * @property {boolean} loading
 * @property {boolean} loaded
 * @property {readonly Notification[]} items
 * @property {Snapshot | null} snapshot how it looked when it was last looked at; null: something has changed since
 */
/**
 * @typedef {object} Ears
 * @property {AbortSignal} signal ends the connection
 * @property {() => void} heard bytes came
 * @property {(frame: Frame) => void} frame
 * @property {(ms: number) => void} retry the server's wish for the time of the next attempt
 */
/**
 * @typedef {(status: Status, nextRetryAt?: number | null, error?: Error | null) => void} Tell
 *
 * @typedef {object} Attempt
 * @property {AbortSignal} signal
 * @property {() => void} heard
 * @property {(heartbeatSeconds: number) => void} live
 * @property {(ms: number) => void} retry
 *
 * @typedef {object} LinkParts
 * @property {Clock} clock
 * @property {() => number} random
 * @property {(attempt: Attempt) => Promise<unknown>} connect one attempt, until it ends
 * @property {() => Promise<unknown>} poll asks for what changed
 * @property {boolean} streams false: there are polls alone
 * @property {Tell} told
 */
/**
 * @typedef {Record<string, any>} Message `{hello}`, `{retry}`, a frame, or a leader's state
 *
 * @typedef {object} TabParts
 * @property {string} key origin, tenant and recipient: pages of different people never meet
 * @property {Clock} clock
 * @property {() => void} lead this page is to hold the stream
 * @property {() => void} follow another page took over
 * @property {(message: Message) => unknown} received
 * @property {() => Message} state what a leader says of itself
 */
export {};
