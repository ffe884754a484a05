// A server that says what a test scripts, and a clock that moves when a test says so.

// What a browser has beside fetch, as far as the client listens to it.
const page_ = new EventTarget();
Object.assign(globalThis, {
  document: Object.assign(new EventTarget(), { hidden: false }),
  addEventListener: page_.addEventListener.bind(page_),
  dispatchEvent: page_.dispatchEvent.bind(page_),
});
globalThis.location = { href: "http://host/" };
Object.defineProperty(globalThis, "navigator", { value: { onLine: true }, configurable: true });

/** A clock: `tick(ms)` runs what falls due, in order, and lets everything settle in between. */
export function scriptedClock() {
  let now = 1_000_000;
  let timers = [];
  let numbers = 0;
  return {
    now: () => now,
    setTimeout(callback, ms) {
      timers.push({ handle: ++numbers, at: now + ms, callback });
      return numbers;
    },
    clearTimeout(handle) {
      timers = timers.filter((timer) => timer.handle !== handle);
    },
    async tick(ms) {
      const end = now + ms;
      for (;;) {
        await settle();
        const due = timers.filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at || a.handle - b.handle)[0];
        if (!due) break;
        timers = timers.filter((timer) => timer !== due);
        now = Math.max(now, due.at);
        due.callback();
      }
      now = end;
      await settle();
    },
    get pending() {
      return timers.length;
    },
  };
}

/** Let everything that is not waiting for the clock run to its end. */
export async function settle() {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

export const json = (body, status = 200, headers = {}) =>
  new Response(JSON.stringify(body), { status, headers: { "content-type": "application/json", ...headers } });

export const problem = (status, title, headers = {}) => json({ title, status, detail: title }, status, headers);

export function notification(number, fields = {}) {
  return {
    id: `n${number}`, type: "CERTIFICATE_ISSUED", category: "certificate", title: `Title ${number}`, message: "Message",
    priority: "NORMAL", metadata: {}, actionUrl: null, read: false, readAt: null, seenAt: null, archivedAt: null,
    createdAt: "2026-01-01T00:00:00Z", expiresAt: null, tenant: "uni", createdSeq: number, seq: number, ...fields,
  };
}

export function page(nodes, cursor, fields = {}) {
  return {
    inbox: "uni/ada", nodes, pageInfo: { hasNextPage: false, endCursor: nodes.length ? `o${nodes.at(-1).createdSeq}` : null },
    totalCount: nodes.length, unreadCount: nodes.filter((node) => !node.read).length,
    unseenCount: nodes.filter((node) => !node.seenAt).length, cursor, ...fields,
  };
}

/** One stream's body that a test writes to. */
function openStream(signal) {
  const encoder = new TextEncoder();
  let controller;
  const body = new ReadableStream({ start: (made) => void (controller = made) });
  const stream = {
    aborted: false,
    raw: (text) => controller.enqueue(encoder.encode(text)),
    send(event, data, id = "", retry = "") {
      stream.raw(`${retry && `retry: ${retry}\n`}${id && `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
    },
    connected: (cursor, fields = {}) =>
      stream.send("connected", { status: "connected", inbox: "uni/ada", cursor, head: cursor, unreadCount: 0, unseenCount: 0, heartbeatSeconds: 30, ...fields }, cursor),
    change: (id, data) => stream.send("notification", { prev: Number(id.split("-")[1]) - 1, ...data }, id),
    end: () => controller.close(),
    break: () => controller.error(new TypeError("network")),
  };
  signal?.addEventListener("abort", () => {
    stream.aborted = true;
    try {
      controller.error(new DOMException("aborted", "AbortError"));
    } catch {
      // It had ended before.
    }
  });
  return { stream, answer: new Response(body, { headers: { "content-type": "text/event-stream; charset=utf-8" } }) };
}

/**
 * Replace `fetch`: `routes` maps "GET /path" (without the query) to a function (or an answer) of the request. What is
 * not scripted fails as an unreachable server does. `stream` is the last stream that was opened.
 */
export function scriptedServer(routes = {}) {
  const server = {
    routes,
    requests: [],
    streams: [],
    get stream() {
      return server.streams.at(-1);
    },
    asked: (what) => server.requests.filter((request) => `${request.method} ${request.path}` === what),
  };
  globalThis.fetch = async (input, init = {}) => {
    const url = new URL(input, "http://host");
    const request = {
      method: init.method ?? "GET", path: url.pathname, query: url.searchParams, headers: new Headers(init.headers),
      body: init.body && JSON.parse(init.body),
    };
    server.requests.push(request);
    await new Promise((resolve) => setImmediate(resolve));
    if (init.signal?.aborted) throw new DOMException("aborted", "AbortError");
    const route = server.routes[`${request.method} ${request.path}`];
    const answer = typeof route === "function" ? await route(request) : route?.clone();
    if (answer === "stream") {
      const made = openStream(init.signal);
      server.streams.push(made.stream);
      return made.answer;
    }
    if (!answer) throw new TypeError("Failed to fetch");
    return answer;
  };
  return server;
}
