// A Server-Sent Events stream over fetch: unlike EventSource it sends a token, and sees why it was refused.

import { problemOf } from "./api.js";

const URL = "/api/notifications/stream";
/** Waits between attempts in seconds, each with equal jitter; the last one repeats. */
const BACKOFF = [1, 2, 4, 8, 16, 30];
/** A connection that lived this long was a good one: the waits begin anew. */
const GOOD_MS = 5000;
/** Two heartbeats of the default and 5 s, until the stream has told its own. */
const SILENCE_MS = 65_000;
/** Answers after which asking again makes no sense. */
const FINAL = new Set([403, 404, 410]);

/** Yield {id, event, data, retry} for each frame of a body; data is parsed JSON. Ends with the body. */
export async function* frames(body, onBytes) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      onBytes();
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) yield frameOf(part);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function frameOf(text) {
  const frame = { id: "", event: "message", data: null, retry: null };
  for (const line of text.split("\n")) {
    const [, name, value] = /^([a-z]+): ?(.*)$/.exec(line) ?? [];
    if (name === "data") frame.data = JSON.parse(value);
    else if (name === "retry") frame.retry = Number(value);
    else if (name === "id" || name === "event") frame[name] = value;
  }
  return frame;
}

/** Follows one person's stream until `stop()`. Handlers are awaited, so frames are handled one after the other. */
export class Stream {
  #session;
  #handlers;
  #abort = null;
  #stopped = false;
  #attempt = 0;
  #retryMs = null;
  #silenceMs = SILENCE_MS;
  #wake = () => {};
  // A stream with the same client id replaces its own predecessor instead of counting twice.
  #client = Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(16).padStart(8, "0")).join("")
    .replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12})$/, "$1-$2-4$3-8$4-$5");

  /** `handlers`: onFrame(frame), onState(state, detail), cursor() → the last change that was applied. */
  constructor(session, handlers) {
    this.#session = session;
    this.#handlers = handlers;
  }

  async start() {
    while (!this.#stopped) {
      const began = Date.now();
      const reason = await this.#connection().catch((problem) => problem);
      if (this.#stopped) return;
      if (FINAL.has(reason?.status)) return this.#handlers.onState("closed", reason.message);
      if (Date.now() - began > GOOD_MS) this.#attempt = 0;
      await this.#pause(reason);
    }
  }

  /** Try again at once instead of at the end of a wait. */
  retryNow() {
    this.#wake();
  }

  stop() {
    this.#stopped = true;
    this.#abort?.abort();
    this.#wake();
  }

  async #pause(reason) {
    const base = BACKOFF[Math.min(this.#attempt++, BACKOFF.length - 1)] * 1000;
    const wait = reason?.retryAfterMs ?? this.#retryMs ?? base * (0.5 + Math.random() / 2);
    this.#retryMs = null;
    this.#handlers.onState("offline", reason?.status ? reason.message : `next attempt in ${Math.ceil(wait / 1000)} s`);
    let timer;
    await new Promise((resolve) => {
      this.#wake = resolve;
      timer = setTimeout(resolve, wait);
    });
    clearTimeout(timer);
  }

  async #request(fresh) {
    const headers = { accept: "text/event-stream", authorization: `Bearer ${await this.#session.token(fresh)}` };
    const cursor = this.#handlers.cursor();
    if (cursor !== null) headers["last-event-id"] = cursor;
    return fetch(`${URL}?client=${this.#client}`, { headers, cache: "no-store", signal: this.#abort.signal });
  }

  async #connection() {
    this.#abort = new AbortController();
    this.#handlers.onState("connecting", "");
    let answer = await this.#request(false);
    if (answer.status === 401) answer = await this.#request(true);
    if (!answer.ok) throw await problemOf(answer);
    const silence = { timer: null };
    const heard = () => {
      clearTimeout(silence.timer);
      silence.timer = setTimeout(() => this.#abort.abort(), this.#silenceMs);
    };
    try {
      for await (const frame of frames(answer.body, heard)) await this.#received(frame);
    } finally {
      clearTimeout(silence.timer);
    }
  }

  async #received(frame) {
    if (frame.retry !== null) this.#retryMs = frame.retry;
    if (frame.event === "goodbye") this.#retryMs = frame.data.retryMs ?? this.#retryMs;
    if (frame.event === "connected") {
      this.#silenceMs = 2000 * frame.data.heartbeatSeconds + 5000;
      this.#handlers.onState("live", "");
    }
    await this.#handlers.onFrame(frame);
  }
}
