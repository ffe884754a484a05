import type { Auth, AuthReason, Clock } from "./types.js";
/** @import { Auth, AuthReason, Clock } from "./types.js" */
export declare const PATH = "/api/notifications";
/** What went wrong, as a sentence. `status` is the answer's, 0 where there was none. */
export declare class Problem extends Error {
    status: number;
    retryAfterMs: number | null;
    /** @param {string} title @param {number} [status] @param {number | null} [retryAfterMs] */
    constructor(title: string, status?: number, retryAfterMs?: number | null);
}
/** Calls resolve to an answer with a status of 2xx, or throw a `Problem`. After a 401 `auth` is told once to renew.
 * @param {string} baseUrl @param {Auth} auth @param {Clock} clock @param {() => number} doubts */
export declare function createHttp(baseUrl: string, auth: Auth, clock: Clock, doubts: () => number): {
    open: (path: string, init: RequestInit, reason: AuthReason, read?: boolean) => Promise<any>;
    json: (method: string, path: string, body?: object) => Promise<any>;
};
