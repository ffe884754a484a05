import type { Ears } from "./types.js";
export declare const STREAM = "/api/notifications/stream";
/** Return what takes pieces of text and calls back for each event (WHATWG HTML, 9.2.6); it throws where one is too long
 * or no JSON. @param {Pick<Ears, "frame" | "retry">} ears */
export declare function createParser({ frame, retry }: Pick<Ears, "frame" | "retry">): (/** @type {string} */ text: string) => void;
/** The stream over fetch: it sees why it was refused. Whoever called ends what broke, by the signal.
 * @param {ReturnType<typeof import("./http.js").createHttp>} http
 * @param {string} query @param {string | null} cursor @param {Ears} ears */
export declare function followByFetch(http: ReturnType<typeof import("./http.js").createHttp>, query: string, cursor: string | null, ears: Ears): Promise<void>;
