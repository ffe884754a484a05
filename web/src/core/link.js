// When to connect, when to wait, when to poll: the stream's state machine. It knows no bytes and no inbox.

/** @import { Attempt, LinkParts, Status } from "./types.js" */

/** After this long the waits begin anew. */
const GOOD_MS = 5000;
/** Two heartbeats of the default and 5 s, until the stream has told its own. */
const SILENCE_MS = 65_000;
/** After so many failures, or so long without a live stream, changes are asked for. */
const POLL_AFTER_FAILURES = 3;
const POLL_AFTER_MS = 15_000;
const POLL_MS = 60_000;
/** Waits between attempts, with equal jitter: half, and a random part of the other half. The last one repeats. */
const BACKOFF_MS = [1000, 2000, 4000, 8000, 16_000, 30_000];
/** Answers after which asking again makes no sense. */
const FINAL = [204, 401, 403, 404, 410];

/** `connect` returns it where another page holds the stream: nothing is attempted until `wake`. */
export const FOLLOWING = Symbol();

/** @param {LinkParts} parts */
export function createLink({ clock, random, connect, poll, streams, told }) {
  /** @type {AbortController | null} */
  let current = null;
  let running = false;
  let live = false;
  let attempts = 0;
  let failures = 0;
  let downSince = 0;
  /** Whether changes are asked for, and whether the last answer came. */
  let polling = false;
  let reached = true;
  /** @type {number | null} */
  let nextRetryAt = null;
  /** @type {number | null} */
  let wish = null;
  /** @type {Error | null} */
  let problem = null;
  /** @type {Record<string, any>} */
  const timers = {};

  /** @param {string} name @param {number} [ms] less than 0 is now @param {() => void} [callback] */
  function timer(name, ms = 0, callback) {
    clock.clearTimeout(timers[name]);
    if (callback) timers[name] = clock.setTimeout(callback, ms);
  }

  /** @returns {Status} */
  function status() {
    if (live) return "live";
    if (!navigator.onLine || (polling && !reached)) return "offline";
    if (polling) return "polling";
    return failures ? "reconnecting" : "connecting";
  }

  const tell = () => told(status(), nextRetryAt, problem);

  function startPolling() {
    if (polling || live || !running) return;
    polling = true;
    ask();
  }

  async function ask() {
    timer("poll", POLL_MS * (0.9 + random() / 5), ask);
    try {
      await poll();
      reached = true;
    } catch (error) {
      reached = Boolean(/** @type {any} */ (error).status);
      if (refused(error)) return;
    }
    if (running) tell();
  }

  function lost() {
    if (!live && downSince) return;
    live = false;
    downSince = clock.now();
    timer("down", POLL_AFTER_MS, startPolling);
  }

  /** @param {any} error */
  function refused(error) {
    const code = error?.status;
    if (!FINAL.includes(code)) return false;
    stop();
    told(code === 401 ? "unauthenticated" : "closed", null, error);
    return true;
  }

  /** @returns {Attempt} */
  function attempt() {
    const abort = (current = new AbortController());
    let limit = SILENCE_MS;
    let last = clock.now();
    // Bytes only note the time: a throttled page is judged by the clock, not by its ticks.
    const watch = () => timer("silence", last + limit - clock.now(), () => (last + limit > clock.now() ? watch() : abort.abort()));
    watch();
    return {
      signal: abort.signal,
      heard: () => void (last = clock.now()),
      live(heartbeatSeconds) {
        limit = 2000 * heartbeatSeconds + 5000;
        watch();
        live = reached = true;
        nextRetryAt = problem = null;
        calm();
        timer("good", GOOD_MS, () => void (attempts = 0));
        tell();
      },
      retry: (ms) => void (wish = ms),
    };
  }

  async function run() {
    timer("retry");
    nextRetryAt = null;
    const mine = attempt();
    tell();
    const result = await connect(mine).catch((error) => error);
    if (mine.signal !== current?.signal) return;
    current.abort();
    current = null;
    timer("silence");
    timer("good");
    if (result === FOLLOWING) attempts = calm();
    else if (!refused(result)) pause(result);
  }

  /** Ask for nothing. */
  function calm() {
    timer("poll");
    timer("down");
    polling = false;
    return (failures = downSince = 0);
  }

  /** @param {any} error nothing where the server ended the stream in order */
  function pause(error) {
    lost();
    failures++;
    problem = error ?? null;
    const base = BACKOFF_MS[Math.min(attempts++, BACKOFF_MS.length - 1)];
    const wait = error?.retryAfterMs ?? wish ?? base * (0.5 + random() / 2);
    wish = null;
    nextRetryAt = clock.now() + wait;
    timer("retry", wait, run);
    if (failures >= POLL_AFTER_FAILURES || error?.status === 429) startPolling();
    tell();
  }

  function stop() {
    running = live = false;
    reached = true;
    current?.abort();
    current = null;
    attempts = calm();
    nextRetryAt = wish = problem = null;
    for (const name in timers) timer(name);
  }

  return {
    /** Do now what waits for its time; a stream or an attempt is left alone. @param {boolean} [begin] also after a stop */
    wake(begin) {
      if (polling) ask();
      if (current || !(running || begin)) return;
      if (!running) {
        running = true;
        lost();
      }
      if (streams) run();
      else startPolling();
    },
    /** End everything without a word. Again: nothing. */
    stop,
    /** The connection turned out to be of no use. */
    cut: () => current?.abort(),
    tell,
  };
}
