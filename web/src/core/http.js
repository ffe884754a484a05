// Calls of the server with a credential, and its problems as errors.

/** @import { Auth, AuthReason, Clock } from "./types.js" */

export const PATH = "/api/notifications";
/** A server that has not begun to answer after this long does not. */
const ANSWER_MS = 30_000;

/** What went wrong, as a sentence. `status` is the answer's, 0 where there was none. */
export class Problem extends Error {
  /** @param {string} title @param {number} [status] @param {number | null} [retryAfterMs] */
  constructor(title, status = 0, retryAfterMs = null) {
    super(title);
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }
}

/** The problem that an answer tells (RFC 9457); one without a readable body still is one. @param {Response} answer */
async function problemOf(answer) {
  const { status, headers } = answer;
  const told = await answer.json().catch(() => null);
  const ms = Number(headers.get("retry-after") ?? NaN) * 1000; // A date is left aside: ours sends seconds.
  return new Problem(told?.title ?? `Status ${status}.`, status, ms >= 0 ? ms : null);
}

/** Calls resolve to an answer with a status of 2xx, or throw a `Problem`. After a 401 `auth` is told once to renew.
 * @param {string} baseUrl @param {Auth} auth @param {Clock} clock @param {() => number} doubts */
export function createHttp(baseUrl, auth, clock, doubts) {
  let settled = 0;

  /** @param {string} path @param {RequestInit} init @param {AuthReason} reason */
  async function send(path, init, reason) {
    if (auth === "cookie") return fetch(baseUrl + path, { ...init, credentials: "include" });
    const at = doubts();
    const token = await auth({ reason: at === settled ? reason : "unauthorized" });
    settled = at;
    if (!token) throw new Problem("Signed out.", 401);
    return fetch(baseUrl + path, { ...init, headers: { ...init.headers, authorization: `Bearer ${token}` } });
  }

  /** @param {string} path @param {RequestInit} init @param {AuthReason} reason @param {boolean} [read] the body as well
   * @returns {Promise<any>} */
  async function open(path, init, reason, read) {
    const abort = new AbortController();
    const end = () => abort.abort();
    init.signal?.addEventListener("abort", end);
    const limit = clock.setTimeout(end, ANSWER_MS);
    try {
      /** @type {RequestInit} */
      const asked = { ...init, cache: "no-store", signal: abort.signal };
      let answer = await send(path, asked, reason);
      if (answer.status === 401 && auth !== "cookie") answer = await send(path, asked, "unauthorized");
      if (!answer.ok) throw await problemOf(answer);
      return read ? await answer.json() : answer;
    } catch (error) {
      throw error instanceof Problem ? error : new Problem("There is no answer.");
    } finally {
      clock.clearTimeout(limit);
    }
  }

  /** @param {string} method @param {string} path @param {object} [body] @returns {Promise<any>} */
  function json(method, path, body) {
    const sent = body && { body: JSON.stringify(body), headers: { "content-type": "application/json" } };
    return open(path, { method, ...sent }, "request", true);
  }

  return { open, json };
}
