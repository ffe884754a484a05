import type { Ears } from "./types.js";
/**
 * The stream by EventSource, where the bodies of answers do not stream: with a fresh ticket, as it can send no token.
 * @param {any} http @param {string} baseUrl @param {boolean} cookie
 * @param {string} query @param {string | null} cursor @param {Ears} ears
 */
export declare function follow(http: any, baseUrl: string, cookie: boolean, query: string, cursor: string | null, ears: Ears): Promise<void>;
