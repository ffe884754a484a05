// One connection to the stream. It resolves when the server ends it and throws when it breaks.

/** @import { Ears } from "./types.js" */
import { PATH, Problem } from "./http.js";

export const STREAM = `${PATH}/stream`;
/** The server's events are smaller by far. */
const MAX_EVENT = 1024 * 1024;
/** Return what takes pieces of text and calls back for each event (WHATWG HTML, 9.2.6); it throws where one is too long
 * or no JSON. @param {Pick<Ears, "frame" | "retry">} ears */
export function createParser({ frame, retry }) {
  let rest = "";
  let id = "", event = "", data = "";

  /** @param {string} line */
  function field(line) {
    if (line === "") {
      if (data) frame({ id, event: event || "message", data: JSON.parse(data) });
      id = event = data = "";
    }
    const [, name, value] = /^(\w+): ?(.*)$/.exec(line) ?? [];
    if (name === "id") id = value;
    else if (name === "event") event = value;
    else if (name === "data") data += value;
    else if (name === "retry") retry(Number(value));
  }

  return (/** @type {string} */ text) => {
    const lines = (rest + text).split(/\r?\n/);
    rest = lines.pop() ?? "";
    for (const line of lines) field(line);
    if (rest.length + data.length > MAX_EVENT) throw new Problem("Too long.");
  };
}

/** The stream over fetch: it sees why it was refused. Whoever called ends what broke, by the signal.
 * @param {ReturnType<typeof import("./http.js").createHttp>} http
 * @param {string} query @param {string | null} cursor @param {Ears} ears */
export async function followByFetch(http, query, cursor, ears) {
  const headers = { accept: "text/event-stream", ...(cursor && { "last-event-id": cursor }) };
  const answer = await http.open(`${STREAM}?${query}`, { headers, signal: ears.signal }, "stream");
  // 204: there is none, and there will be none.
  if (!answer.headers.get("content-type")?.startsWith("text/event-stream") || !answer.body) {
    throw new Problem("There is no stream.", answer.status);
  }
  const parse = createParser(ears);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    ears.heard();
    parse(value);
  }
}
