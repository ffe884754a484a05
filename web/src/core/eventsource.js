// The stream by the browser's own EventSource. It is loaded only where the bodies of answers do not stream.

/** @import { Ears } from "./types.js" */
import { Problem } from "./http.js";
import { STREAM } from "./stream.js";

/** What the server may send, for the browser's own EventSource, which tells nothing of events that nobody named. */
const EVENTS = ["connected", "notification", "snapshot", "synced", "reset", "heartbeat", "goodbye"];

/**
 * The stream by EventSource, where the bodies of answers do not stream: with a fresh ticket, as it can send no token.
 * @param {any} http @param {string} baseUrl @param {boolean} cookie
 * @param {string} query @param {string | null} cursor @param {Ears} ears
 */
export async function follow(http, baseUrl, cookie, query, cursor, ears) {
  const parameters = new URLSearchParams(query);
  if (cursor) parameters.set("lastEventId", cursor);
  if (!cookie) parameters.set("ticket", (await http.json("POST", `${STREAM}/tickets`)).ticket);
  const source = new EventSource(`${baseUrl}${STREAM}?${parameters}`, { withCredentials: cookie });
  try {
    await new Promise((resolve, reject) => {
      ears.signal.addEventListener("abort", resolve);
      source.onerror = () => reject(new Problem("The stream broke."));
      for (const event of EVENTS) {
        source.addEventListener(event, ({ data, lastEventId }) => {
          ears.heard();
          try {
            ears.frame({ id: lastEventId, event, data: JSON.parse(data) });
          } catch (error) {
            reject(error);
          }
        });
      }
    });
  } finally {
    source.close();
  }
}
