// One person's notifications: the inbox's state, the stream that moves it, and what a person does with it.

/** @import { Clock, LinkState, Operation, Page, Tell, Told, View } from "./types.js" */
import { createHttp, PATH, Problem } from "./http.js";
import { createLink, FOLLOWING } from "./link.js";
import { createStore, seqOf } from "./store.js";
import { followByFetch } from "./stream.js";
import { createTabs } from "./tabs.js";

export { Problem };

/** What a person does while the server is away waits; more is refused. */
const MAX_OPERATIONS = 200;
/** Frames that may wait for a gap to be read; more are dropped, which is one gap more. */
const MAX_FRAMES = 256;
/** A page that follows another and could not read a gap tries again. */
const AGAIN_MS = 5000;

/** @type {Clock} */
const CLOCK = { now: Date.now, setTimeout: (...all) => setTimeout(...all), clearTimeout: (handle) => clearTimeout(handle) };

/** Return a client, which does nothing before `start()`. @param {Options} [options] */
export function createNotificationClient({
  baseUrl = "", auth = "cookie", signIn, transport = "auto", tabs: shared = true, locale, clock = CLOCK, random = Math.random,
} = {}) {
  /** Whenever there may be another one, the next call has the token renewed. */
  let doubts = 0;
  const http = createHttp(baseUrl, auth, clock, () => doubts);
  // No secret, and `crypto.randomUUID` is missing on plain http.
  const id = "x".repeat(32).replace(/x/g, () => ((Math.random() * 16) | 0).toString(16));
  const handlers = /** @type {Set<readonly [string, (detail: any) => void]>} */ (new Set());
  let queue = /** @type {Operation[]} */ ([]);
  let sending = false;
  let frames = /** @type {Frame[]} */ ([]);
  let taking = false;
  /** Pages on their way. */
  let reading = 0;
  /** @type {string | null} Whose inbox it is. */
  let inbox = null;
  let tabs = /** @type {ReturnType<typeof createTabs> | null} */ (null);
  /** @type {BroadcastChannel} Where pages of the same cookie or `signIn` tell it. */
  let owner;
  /** @type {LinkState} */
  let state = { status: "idle", nextRetryAt: null, error: null };
  /** What a person asked for and did not get. @type {Error | null} */
  let refusal = null;
  let newest = "";
  let lastEventAt = 0;
  /** @type {AbortController | null} Ends the listeners of a client that was started. */
  let started = null;
  let notifying = false;
  /** Whether another page holds the stream. */
  const follows = () => tabs && !tabs.leading;

  const store = createStore(changed);
  const main = store.view({});

  function changed() {
    for (const view of store.views) view.snapshot = null;
    if (notifying) return;
    notifying = true;
    queueMicrotask(() => {
      notifying = false;
      emit("change");
    });
  }

  /** @param {string} type @param {any} [detail] */
  function emit(type, detail) {
    for (const [told, handler] of handlers) if (told === type) handler(detail);
  }

  /** @type {Tell} */
  function told(status, nextRetryAt = null, error = null) {
    const before = state.status;
    state = { status, nextRetryAt, error };
    changed();
    if (tabs?.leading) tabs.post(about());
    if (status === "live" || status === "polling") send();
    if (status !== before) emit("status", status);
  }

  /** @param {View} view @returns {Snapshot} */
  function snapshot(view) {
    return (view.snapshot ??= Object.freeze({
      ...store.look(view), ...store.projected().counts, ...state, error: refusal ?? state.error,
      cursor: store.cursor, isLeader: !follows(),
    }));
  }

  /** Nothing: it is another person's, or was asked before a stop. @param {string} what @returns {Promise<any>} */
  async function read(what) {
    const asked = started;
    const before = doubts;
    const found = await http.json("GET", PATH + what);
    if (asked !== started) return null;
    return doubts === before ? belongs(found.inbox) && found : read(what);
  }

  /** Read a page into a view. @param {View} view @param {boolean} [first] */
  async function readPage(view, first) {
    const after = !first && view.end && { after: view.end };
    const asked = new URLSearchParams(/** @type {any} */ ({ ...view.filter, ...after }));
    store.read(view);
    reading++;
    /** @type {Page | undefined} */
    let page;
    try {
      page = await read(`?${asked}`);
    } finally {
      reading--;
      store.paged(view, page, first);
      work();
    }
  }

  const readViews = () => Promise.all([...store.views].map((view) => readPage(view, true)));

  /** Whether an answer is of the inbox that is shown; of another person's: everything ends. @param {string} [told] */
  function belongs(told) {
    if (!told || told === inbox) return true;
    if (inbox) end();
    else if (started) owner.postMessage((inbox = told));
    return started;
  }

  /** Read what changed after the last change that was applied. @returns {Promise<unknown>} */
  async function catchUp() {
    const since = store.cursor;
    if (!since) return readViews();
    const found = await read(`/changes?since=${since}`);
    if (!found) return undefined;
    if (reading || since !== store.cursor) return catchUp(); // A page, or the stream, was faster.
    if (found.reset) return reset();
    for (const step of found.changes) take({ id: step.id, event: "notification", data: step });
    take({ id: found.cursor, event: "synced", data: { ...found, changes: 0, prev: store.seq } });
    return found.hasMore && catchUp();
  }

  /** The next frame or poll tries again. */
  const quietly = () => void (started && catchUp().catch(() => {}));

  function reset() {
    store.reset();
    return readViews();
  }

  /** Apply a frame with an id; the other pages are told. @param {Frame} frame */
  function take({ id: at, event, data }) {
    const before = store.seq;
    const result = store.apply(at, data);
    if (result !== "applied") return result;
    if (tabs?.leading) tabs.post({ id: at, event, data });
    for (const node of data.notifications ?? [data.notification]) {
      if (node?.createdSeq > before && !node.read) emit("created", node);
    }
    return result;
  }

  /** @param {Frame} frame */
  function receive(frame) {
    lastEventAt = clock.now();
    if (frames.length >= MAX_FRAMES) frames = [];
    frames.push(frame);
    work();
  }

  /** Take the frames in order: what comes while a page or a gap is read waits. */
  async function work() {
    if (taking || reading) return;
    taking = true;
    try {
      for (let frame; !reading && (frame = frames.shift()); ) {
        emit("frame", frame);
        if (frame.event === "reset") await reset();
        else if (frame.id && take(frame) === "gap") await catchUp();
      }
    } catch {
      frames = [];
      if (follows()) clock.setTimeout(quietly, AGAIN_MS);
      else link.cut();
    } finally {
      taking = false;
    }
  }

  const link = createLink({
    clock,
    random,
    streams: transport !== "poll",
    poll: catchUp,
    told(...all) {
      if (all[2] || !follows()) told(...all);
    },
    async connect(attempt) {
      if (!store.cursor) await readViews();
      if (shared && !tabs && started) join();
      if (!started || follows()) return FOLLOWING;
      if (seqOf(newest).seq > store.seq) await catchUp();
      const ears = {
        ...attempt,
        frame(/** @type {Frame} */ frame) {
          const { event, data } = frame;
          if (event === "goodbye") {
            attempt.retry(data.retryMs);
            // The token may still pass for a while, and end again.
            if (data.reason === "expired") doubts++;
          }
          if (event === "connected" && belongs(data.inbox)) attempt.live(data.heartbeatSeconds);
          receive(frame);
        },
      };
      const query = `client=${id}`;
      if (transport !== "eventsource" && "body" in Response.prototype) return followByFetch(http, query, store.cursor, ears);
      return (await import("./eventsource.js")).follow(http, baseUrl, auth === "cookie", query, store.cursor, ears);
    },
  });

  /** @param {string | null} what */
  const nameOf = (what) => `carillon:${new URL(baseUrl || "/", location.href)}:${what}`;
  const about = () => ({ ...state, error: null, cursor: store.cursor });

  function join() {
    tabs = createTabs({
      key: nameOf(inbox),
      clock,
      state: about,
      lead: link.wake,
      follow() {
        link.cut();
        changed();
      },
      received(message) {
        const { retry, event, cursor, status, nextRetryAt } = message;
        if (event) return receive(/** @type {Frame} */ (message));
        if (tabs?.leading) return void (retry && link.wake(true));
        if (status) told(status, nextRetryAt);
        // What it knew has been passed on: this is a hole.
        if (cursor) receive({ id: (newest = cursor), event: "synced", data: { prev: seqOf(cursor).seq } });
      },
    });
  }

  /** @param {Operation} operation */
  function perform(operation) {
    // The first may be on its way; of those behind it, the last word on the same mark is sent alone.
    const same = queue.findIndex(({ key }, at) => (at || !sending) && key && key === operation.key);
    if (same >= 0) store.end(queue.splice(same, 1)[0]);
    if (queue.length >= MAX_OPERATIONS) return refuse(new Problem("Too much."));
    queue.push(operation);
    store.begin(operation);
    return send();
  }

  /** @param {Error | null} problem */
  function refuse(problem) {
    if (refusal === problem) return;
    refusal = problem;
    changed();
    if (problem) emit("error", problem);
  }

  /** Ask for what waits, in order. Without a server it waits on; what is refused is undone. */
  async function send() {
    if (sending) return;
    sending = true;
    for (let first; started && (first = queue[0]); ) {
      try {
        const answer = await ask(first);
        store.end(first, answer?.cursor);
        refuse(null);
        if (state.status !== "live") quietly();
      } catch (/** @type {any} */ problem) {
        if (!problem.status && state.status !== "live") break;
        store.end(first);
        // What is gone already needs no undoing.
        if (problem.status === 404) quietly();
        else refuse(problem);
      }
      queue = queue.filter((each) => each !== first);
    }
    sending = false;
  }

  /** @param {Operation} operation */
  function ask({ id: one, marks, upTo }) {
    const whole = marks ? "" : `?read=true&upTo=${upTo}`;
    return http.json(marks ? "PATCH" : "DELETE", PATH + (one ? `/${one}` : whole), marks && { ...marks, upTo });
  }

  /** @param {Operation["marks"]} [marks] */
  const one = (marks) => (/** @type {string} */ which) => perform({ id: which, marks, key: which + Object.keys(marks ?? {}) });
  /** All that were created up to a cursor, by default now. @param {Operation["marks"]} [marks] */
  const all = (marks) => (upTo = store.cursor) => void (upTo && perform({ marks, upTo }));

  /** Another person has come: nothing of the one before stays. */
  function end() {
    stop();
    store.clear();
    queue = [];
    inbox = null;
    told("closed", null, new Problem("Signed out."));
  }

  /** A page that goes, perhaps to come back, keeps neither the stream nor the lock. */
  function leave() {
    doubts++;
    link.stop();
    tabs?.close();
    tabs = null;
  }
  const events = /** @type {Record<string, () => void>} */ ({
    online: () => link.wake(),
    offline: link.tell,
    visibilitychange: () => document.hidden || link.wake(),
    pagehide: leave,
    pageshow: () => link.wake(true),
  });

  function start() {
    if (started) return;
    started = new AbortController();
    // Of the options only the `signal` is asked for.
    for (const name in events) addEventListener(name, events[name], started);
    // With tokens of its own a client is alone.
    owner = new BroadcastChannel(nameOf(`@${auth === "cookie" || (signIn ?? id)}`));
    owner.onmessage = ({ data }) => {
      if (data === inbox) return;
      doubts++;
      // Of two names that one is right which is answered now; without an answer, neither.
      if (inbox) catchUp().catch(end);
    };
    link.wake(true);
  }

  function stop() {
    if (!started) return;
    started.abort();
    started = null;
    leave();
    owner.close();
    told("idle");
  }

  /** @param {View} view */
  async function loadMore(view) {
    if (!view.loading && view.hasMore) await readPage(view, !view.loaded).then(() => refuse(null), refuse);
  }

  /** Listen to what happens; returns what ends it. @template {keyof Told} T @param {T} type @param {(detail: Told[T]) => void} handler */
  function on(type, handler) {
    const entry = /** @type {const} */ ([type, handler]);
    handlers.add(entry);
    return () => void handlers.delete(entry);
  }

  return {
    locale,
    baseUrl,
    on,
    start,
    stop,
    getSnapshot: () => snapshot(main),
    /** Call back after changes, some of them together; returns what ends that. @param {() => void} listener */
    subscribe: (listener) => on("change", listener),
    /** When the stream last told anything, in ms since 1970; 0: never. */
    get lastEventAt() {
      return lastEventAt;
    },
    /** A list of its own, of what the filter lets through; `close` it when it is no longer shown. @param {Filter} filter */
    view(filter) {
      const view = store.view(filter);
      const more = () => loadMore(view);
      if (started && store.cursor) more();
      return {
        getSnapshot: () => snapshot(view),
        loadMore: more,
        close: () => void store.views.delete(view),
      };
    },
    loadMore: () => loadMore(main),
    refresh: () => reset().catch(refuse),
    markRead: one({ read: true }),
    markUnread: one({ read: false }),
    archive: one({ archived: true }),
    unarchive: one({ archived: false }),
    remove: one(),
    markOneSeen: one({ seen: true }),
    markSeen: all({ seen: true }),
    markAllRead: all({ read: true }),
    removeRead: all(),
    /** Try now what waits for its time; a client that gave up begins again. */
    retryNow() {
      refuse(null);
      doubts++;
      start();
      tabs?.post({ retry: true });
      link.wake(true);
      send();
    },
  };
}

/**
 * @typedef {ReturnType<typeof createNotificationClient>} NotificationClient
 * @typedef {import("./types.js").Notification} Notification
 * @typedef {import("./types.js").Snapshot} Snapshot
 * @typedef {import("./types.js").Options} Options
 * @typedef {import("./types.js").Filter} Filter
 * @typedef {import("./types.js").Frame} Frame
 */
