// The page's stream: over fetch, since an EventSource can send no key and tells no reason.

import { createParser } from "/static/carillon/latest/core/stream.js";

/** Milliseconds before the next attempt; the last one for ever. */
const WAITS = [1000, 2000, 4000, 8000, 15000];
/** The server tells every two seconds; a connection that is silent for this long is dead. */
const SILENCE_MS = 15000;

/** The server refused; `status` says how, the message why. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Ask the server, with the key if there is one; throws `Refused`. */
export async function ask(path, key, options = {}) {
  const headers = { ...options.headers, ...(key && { authorization: `Bearer ${key}` }) };
  const answer = await fetch(path, { cache: "no-store", ...options, headers });
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => null);
  throw new Refused(answer.status, told?.detail ?? `The server answered ${answer.status}.`);
}

async function once(key, told) {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENCE_MS);
  const answer = await ask("/api/ops/stream", key, { signal: silence.signal });
  const parse = createParser({ frame: ({ data }) => told(data), retry: () => {} });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
      parse(value);
    }
  } finally {
    clearTimeout(timer);
  }
}

/** Follow the stream for ever, through the ends of connections; returns, with the refusal, where a key is wanted. */
export async function follow(key, { told, away }) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      await once(key, (data) => {
        attempt = -1;
        told(data);
      });
    } catch (problem) {
      if (problem instanceof Refused && [401, 403].includes(problem.status)) return problem;
    }
    away();
    await new Promise((resolve) => setTimeout(resolve, WAITS[Math.min(attempt + 1, WAITS.length - 1)]));
  }
}
