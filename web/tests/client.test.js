// The client against a scripted server: the table of docs/web-client.md ("The stream's states"), row by row.

import { afterEach, beforeEach, expect, test } from "vitest";
import { createNotificationClient } from "../src/core/client.js";
import { json, notification, page, problem, scriptedClock, scriptedServer, settle } from "./scripted.js";

const PAGE = "GET /api/notifications";
const STREAM = "GET /api/notifications/stream";
const CHANGES = "GET /api/notifications/changes";

let clock;
let server;
let client;

beforeEach(() => {
  clock = scriptedClock();
  server = scriptedServer({
    [PAGE]: () => json(page([notification(2), notification(1, { read: true, readAt: "x", seenAt: "x" })], "1-2")),
    [STREAM]: () => "stream",
  });
});

afterEach(() => client?.stop());

function make(options = {}) {
  client = createNotificationClient({ auth: () => "token", tabs: false, clock, random: () => 1, baseUrl: "http://host", ...options });
  return client;
}

async function live(options) {
  make(options).start();
  await settle();
  server.stream.connected("1-2", { unreadCount: 1, unseenCount: 1 });
  await settle();
  expect(client.getSnapshot().status).toBe("live");
}

const ids = () => client.getSnapshot().items.map((item) => item.id);
const counts = () => [client.getSnapshot().unreadCount, client.getSnapshot().unseenCount];
const attempts = () => server.asked(STREAM).length;
const created = (number, unread, unseen = unread) => ({ type: "created", notification: notification(number), unreadCount: unread, unseenCount: unseen });

test("it shows the first page, then follows the stream from that page's cursor", async () => {
  await live();
  expect(ids()).toEqual(["n2", "n1"]);
  const asked = server.asked(STREAM)[0];
  expect(asked.headers.get("last-event-id")).toBe("1-2");
  expect(asked.headers.get("authorization")).toBe("Bearer token");
  server.stream.change("1-3", created(3, 2));
  await settle();
  expect(ids()).toEqual(["n3", "n2", "n1"]);
  expect(counts()).toEqual([2, 2]);
  expect(client.getSnapshot().cursor).toBe("1-3");
});

test("a snapshot is frozen, and the same object until something changed", async () => {
  await live();
  const before = client.getSnapshot();
  expect(Object.isFrozen(before) && Object.isFrozen(before.items)).toBe(true);
  expect(client.getSnapshot()).toBe(before);
  server.stream.change("1-3", { type: "read", notificationId: "n2", readAt: "t", seenAt: "t", archivedAt: null, unreadCount: 0, unseenCount: 0 });
  await settle();
  const after = client.getSnapshot();
  expect(after).not.toBe(before);
  expect(after.items[0]).toMatchObject({ id: "n2", read: true, readAt: "t", seq: 3 });
  expect(after.items[1]).toBe(before.items[1]);
});

test("a frame at or below the mark is dropped, one that leaves a hole has the changes read", async () => {
  await live();
  server.stream.change("1-2", created(99, 9));
  await settle();
  expect(counts()).toEqual([1, 1]);
  server.routes[CHANGES] = ({ query }) => {
    expect(query.get("since")).toBe("1-2");
    const step = { id: "1-4", prev: 2, type: "changed", notifications: [notification(3), notification(4)].map((n) => ({ ...n, seq: 4 })), deletedIds: ["n1"] };
    return json({ inbox: "uni/ada", changes: [step], cursor: "1-4", hasMore: false, reset: false, unreadCount: 3, unseenCount: 3 });
  };
  server.stream.change("1-4", created(4, 3));
  server.stream.change("1-5", created(5, 4));
  await settle();
  expect(ids()).toEqual(["n5", "n4", "n3", "n2"]);
  expect(counts()).toEqual([4, 4]);
  expect(server.asked(CHANGES)).toHaveLength(1);
});

test("a replay shows nothing of itself before it is told whole: list and counters change together", async () => {
  await live();
  const seen = [];
  client.subscribe(() => seen.push([ids().length, ...counts()]));
  server.stream.send("notification", { prev: 2, type: "changed", notifications: [notification(3)], deletedIds: [] }, "1-3");
  await settle();
  expect([ids().length, ...counts()]).toEqual([2, 1, 1]);
  server.stream.send("notification", { prev: 3, type: "changed", notifications: [notification(5)], deletedIds: [] }, "1-5");
  server.stream.send("synced", { prev: 5, cursor: "1-7", unreadCount: 3, unseenCount: 3 }, "1-7");
  await settle();
  expect(seen).toEqual([[4, 3, 3]]);
  expect(client.getSnapshot().cursor).toBe("1-7");
});

test("waits between attempts are 1, 2, 4, 8, 16, 30, 30 s, and the time of the next is told", async () => {
  server.routes[STREAM] = () => problem(503, "Full");
  make().start();
  await settle();
  for (const seconds of [1, 2, 4, 8, 16, 30, 30]) {
    const before = attempts();
    expect(client.getSnapshot().nextRetryAt).toBe(clock.now() + seconds * 1000);
    await clock.tick(seconds * 1000 - 1);
    expect(attempts()).toBe(before);
    await clock.tick(1);
    expect(attempts()).toBe(before + 1);
  }
});

test("equal jitter: half of the wait and a random part of the other half", async () => {
  server.routes[STREAM] = () => problem(503, "Full");
  make({ random: () => 0 }).start();
  await settle();
  expect(client.getSnapshot().nextRetryAt).toBe(clock.now() + 500);
});

test.each([["retry-after", "7"], ["retry-after", "0"]])("what the answer wishes wins over the series: %s %s", async (name, value) => {
  server.routes[STREAM] = () => problem(503, "Full", { [name]: value });
  make().start();
  await settle();
  expect(client.getSnapshot().nextRetryAt - clock.now()).toBe(Number(value) * 1000);
});

test("retry: and goodbye's retryMs win once; the last one said counts", async () => {
  await live();
  server.stream.send("heartbeat", { timestamp: 1 }, "", 2500);
  server.stream.send("goodbye", { reason: "drain", retryMs: 4321 });
  server.stream.end();
  await settle();
  expect(client.getSnapshot().status).toBe("reconnecting");
  expect(client.getSnapshot().nextRetryAt - clock.now()).toBe(4321);
  server.routes[STREAM] = () => problem(503, "Full");
  await clock.tick(4321);
  expect(client.getSnapshot().nextRetryAt - clock.now()).toBe(2000);
});

test("the series begins anew only after a connection of 5 s", async () => {
  for (const [lived, next] of [[4999, 2000], [5000, 1000]]) {
    server.routes[STREAM] = () => problem(503, "Full");
    make().start();
    await settle();
    server.routes[STREAM] = () => "stream";
    await clock.tick(1000);
    server.stream.connected("1-2");
    await clock.tick(lived);
    server.stream.break();
    await settle();
    expect(client.getSnapshot().nextRetryAt - clock.now()).toBe(next);
    client.stop();
  }
});

test("an HTML answer with status 200 is a failure, not a stream", async () => {
  server.routes[STREAM] = () => new Response("<html>Sign in</html>", { headers: { "content-type": "text/html" } });
  make().start();
  await settle();
  expect(client.getSnapshot().status).toBe("reconnecting");
  await clock.tick(1000);
  expect(attempts()).toBe(2);
});

test("an event over 1 MiB ends the connection", async () => {
  await live();
  server.stream.raw(`event: notification\ndata: "${"x".repeat(1024 * 1024)}`);
  await settle();
  expect(client.getSnapshot().status).toBe("reconnecting");
});

test("after 401 the token is asked for anew, once; a second 401 is the end until someone retries", async () => {
  const reasons = [];
  server.routes[STREAM] = () => problem(401, "Expired");
  make({ auth: ({ reason }) => void reasons.push(reason) ?? "token" }).start();
  await settle();
  expect(reasons).toEqual(["request", "stream", "unauthorized"]);
  expect(client.getSnapshot()).toMatchObject({ status: "unauthenticated", nextRetryAt: null });
  await clock.tick(600_000);
  expect(attempts()).toBe(2);
  server.routes[STREAM] = () => "stream";
  client.retryNow();
  await settle();
  server.stream.connected("1-2");
  await settle();
  expect(client.getSnapshot()).toMatchObject({ status: "live", error: null });
});

test("a token that runs out mid-stream costs one refresh and no loop", async () => {
  let token = "old";
  const reasons = [];
  server.routes[STREAM] = ({ headers }) => (headers.get("authorization") === "Bearer new" || attempts() === 1 ? "stream" : problem(401, "Expired"));
  await live({ auth: ({ reason }) => {
    reasons.push(reason);
    if (reason === "unauthorized") token = "new";
    return token;
  } });
  server.stream.send("goodbye", { reason: "expired", retryMs: 0 });
  server.stream.end();
  await clock.tick(0);
  server.stream.connected("1-2");
  await settle();
  expect(client.getSnapshot().status).toBe("live");
  expect(reasons).toEqual(["request", "stream", "unauthorized"]);
});

test("nobody signed in is told as that, without asking the server", async () => {
  make({ auth: () => "" }).start();
  await settle();
  expect(client.getSnapshot().status).toBe("unauthenticated");
  expect(server.requests).toEqual([]);
});

test.each([403, 404, 410, 204])("%i closes for good and shows the problem's title", async (status) => {
  server.routes[STREAM] = () => (status === 204 ? new Response(null, { status }) : problem(status, "Gone for good"));
  make().start();
  await settle();
  const { status: told, error } = client.getSnapshot();
  expect(told).toBe("closed");
  expect(error.message).toMatch(status === 204 ? "There is no stream" : "Gone for good");
  await clock.tick(600_000);
  expect(attempts()).toBe(1);
});

const noChanges = () => json({ inbox: "uni/ada", changes: [], cursor: "1-2", hasMore: false, reset: false, unreadCount: 1, unseenCount: 1 });

test("429 waits for Retry-After and polls meanwhile", async () => {
  server.routes[STREAM] = () => problem(429, "Too many streams", { "retry-after": "10" });
  server.routes[CHANGES] = noChanges;
  make().start();
  await settle();
  expect(client.getSnapshot().status).toBe("polling");
  expect(server.asked(CHANGES)).toHaveLength(1);
  await clock.tick(9999);
  expect(attempts()).toBe(1);
  await clock.tick(1);
  expect(attempts()).toBe(2);
});

test("after three failures changes are asked for every 60 s, and attempts go on", async () => {
  server.routes[STREAM] = () => problem(503, "Full");
  server.routes[CHANGES] = noChanges;
  make({ random: () => 0.5 }).start();
  await settle();
  expect(server.asked(CHANGES)).toHaveLength(0);
  await clock.tick(750 + 1500);
  expect(client.getSnapshot().status).toBe("polling");
  expect(server.asked(CHANGES)).toHaveLength(1);
  server.routes[CHANGES] = () => json({
    inbox: "uni/ada", changes: [{ id: "1-3", prev: 2, type: "changed", notifications: [notification(3)], deletedIds: [] }],
    cursor: "1-3", hasMore: false, reset: false, unreadCount: 2, unseenCount: 2,
  });
  const before = attempts();
  await clock.tick(59_999);
  expect(server.asked(CHANGES)).toHaveLength(1);
  await clock.tick(1);
  expect(server.asked(CHANGES)).toHaveLength(2);
  expect(ids()).toEqual(["n3", "n2", "n1"]);
  expect(attempts()).toBeGreaterThan(before + 1);
});

test("15 s without a live stream are enough to poll, though nothing failed; a live stream ends it", async () => {
  server.routes[CHANGES] = noChanges;
  make().start();
  await clock.tick(14_999);
  expect(client.getSnapshot().status).toBe("connecting");
  await clock.tick(1);
  expect(client.getSnapshot().status).toBe("polling");
  server.stream.connected("1-2");
  await settle();
  expect(client.getSnapshot().status).toBe("live");
  await clock.tick(30_000);
  server.stream.send("heartbeat", { timestamp: 1 });
  await clock.tick(40_000);
  expect(server.asked(CHANGES)).toHaveLength(1);
});

test.each(["online", "pageshow", "visibilitychange"])("%s has an attempt made at once; a page that is hidden makes none", async (event) => {
  server.routes[STREAM] = () => problem(503, "Full.");
  make().start();
  await settle();
  expect(attempts()).toBe(1);
  document.hidden = event === "visibilitychange";
  dispatchEvent(new Event(event));
  await settle();
  expect(attempts()).toBe(document.hidden ? 1 : 2);
  document.hidden = false;
  dispatchEvent(new Event(event));
  await settle();
  expect(attempts()).toBe(event === "visibilitychange" ? 2 : 3);
});

test("a server that answers no poll either is told as offline", async () => {
  await live();
  server.routes = {};
  server.stream.break();
  await clock.tick(15_000);
  expect(client.getSnapshot().status).toBe("offline");
});

test("two heartbeats and 5 s without a byte end a half-open connection; any byte counts", async () => {
  await live();
  await clock.tick(64_000);
  server.stream.raw(":\n");
  await clock.tick(64_999);
  expect(client.getSnapshot().status).toBe("live");
  await clock.tick(1);
  expect(client.getSnapshot().status).toBe("reconnecting");
  expect(server.stream.aborted).toBe(true);
  await clock.tick(1000);
  expect(attempts()).toBe(2);
});

test("reset fetches the first page, keeps what is pending, and shows what was there until then", async () => {
  await live();
  let answer;
  server.routes["PATCH /api/notifications/n2"] = () => new Promise((resolve) => (answer = resolve));
  client.markRead("n2");
  await settle();
  expect(counts()).toEqual([0, 0]);
  let read;
  server.routes[PAGE] = () => new Promise((resolve) => (read = resolve));
  server.stream.send("reset", { head: "2-9", unreadCount: 2, unseenCount: 2 }, "2-9");
  await settle();
  expect(ids()).toEqual(["n2", "n1"]);
  read(json(page([notification(8), notification(2)], "2-9")));
  await settle();
  expect(ids()).toEqual(["n8", "n2"]);
  expect(counts()).toEqual([1, 1]);
  answer(json({ ...notification(2), unreadCount: 1, unseenCount: 1, cursor: "2-10" }));
  await settle();
  expect(counts()).toEqual([1, 1]);
  server.stream.change("2-10", { type: "read", notificationId: "n2", readAt: "t", seenAt: "t", archivedAt: null, unreadCount: 1, unseenCount: 1 });
  await settle();
  expect(counts()).toEqual([1, 1]);
});

test("a failed change is taken back and said; other pending ones stay", async () => {
  await live();
  const errors = [];
  client.on("error", (error) => errors.push(error.message));
  server.routes["PATCH /api/notifications/n2"] = () => problem(500, "Broken");
  let answer;
  server.routes["DELETE /api/notifications/n1"] = () => new Promise((resolve) => (answer = resolve));
  client.markRead("n2");
  client.remove("n1");
  expect([ids(), ...counts()]).toEqual([["n2"], 0, 0]);
  await settle();
  expect([ids(), ...counts()]).toEqual([["n2"], 1, 1]);
  expect(client.getSnapshot().error.message).toBe("Broken");
  expect(errors).toHaveLength(1);
  answer(json({ id: "n1", deleted: true, unreadCount: 1, unseenCount: 1, cursor: "1-3" }));
  await settle();
  expect(ids()).toEqual(["n2"]);
  server.stream.change("1-3", { type: "deleted", reason: "user", notificationId: "n1", notificationIds: ["n1"], unreadCount: 1, unseenCount: 1 });
  await settle();
  expect([ids(), ...counts()]).toEqual([["n2"], 1, 1]);
});

test("the pending delta goes when the server's own counters include it, whichever comes first", async () => {
  await live();
  let answer;
  server.routes["PATCH /api/notifications/n2"] = () => new Promise((resolve) => (answer = resolve));
  client.markRead("n2");
  await settle();
  server.stream.change("1-3", { type: "read", notificationId: "n2", readAt: "t", seenAt: "t", archivedAt: null, unreadCount: 0, unseenCount: 0 });
  await settle();
  expect(counts()).toEqual([0, 0]);
  answer(json({ ...notification(2), unreadCount: 0, unseenCount: 0, cursor: "1-3" }));
  await settle();
  expect(counts()).toEqual([0, 0]);
});

test("bulk changes name the cursor up to which they go, and leave alone what came later", async () => {
  await live();
  let answer;
  server.routes["PATCH /api/notifications"] = () => new Promise((resolve) => (answer = resolve));
  client.markAllRead();
  await settle();
  server.stream.change("1-3", created(3, 2));
  await settle();
  expect(counts()).toEqual([1, 1]);
  expect(client.getSnapshot().items.map((item) => item.read)).toEqual([false, true, true]);
  expect(server.asked("PATCH /api/notifications")[0].body).toEqual({ read: true, upTo: "1-2" });
  answer(json({ changed: 1, unreadCount: 1, unseenCount: 1, cursor: "1-4" }));
  await settle();
  server.stream.change("1-4", { type: "read_all", upTo: "1-2", readAt: "t", unreadCount: 1, unseenCount: 1 });
  await settle();
  expect(counts()).toEqual([1, 1]);
});

test("delete read takes what is read up to its bound, and nothing of the archive", async () => {
  await live();
  server.stream.change("1-3", { type: "deleted_read", upTo: "1-2", deletedAt: "t", unreadCount: 1, unseenCount: 1 });
  await settle();
  expect(ids()).toEqual(["n2"]);
});

test("without a server what is done waits, the last of opposites wins, and 200 are the most", async () => {
  await live();
  const routes = server.routes;
  server.routes = {};
  server.stream.break();
  await settle();
  client.markRead("n2");
  await settle();
  client.markUnread("n2");
  client.archive("n1");
  await settle();
  expect(client.getSnapshot().items.map((item) => [item.id, item.read])).toEqual([["n2", false]]);
  for (let number = 0; number < 300; number += 1) client.remove(`x${number}`);
  expect(client.getSnapshot().error.message).toBe("Too much.");
  server.routes = routes;
  server.routes["PATCH /api/notifications/n2"] = () => json({ cursor: "1-2" });
  server.routes["PATCH /api/notifications/n1"] = () => json({ cursor: "1-2" });
  for (let number = 0; number < 300; number += 1) server.routes[`DELETE /api/notifications/x${number}`] = () => json({ cursor: "1-2" });
  server.requests.length = 0;
  await clock.tick(30_000);
  server.stream.connected("1-2");
  for (let turn = 0; turn < 250; turn += 1) await settle();
  expect(server.asked("PATCH /api/notifications/n2").length + server.asked("PATCH /api/notifications/n1").length).toBe(2);
  expect(server.requests.filter(({ method }) => method === "DELETE")).toHaveLength(198);
});

test("a page that was read before a change is brought to it when it arrives after it", async () => {
  server.routes[PAGE] = () => json(page([notification(9), notification(8)], "1-9", { pageInfo: { hasNextPage: true, endCursor: "o8" }, totalCount: 4, unreadCount: 4 }));
  make().start();
  await settle();
  server.stream.connected("1-9");
  await settle();
  let read;
  server.routes[PAGE] = () => new Promise((resolve) => (read = resolve));
  client.loadMore();
  await settle();
  expect(client.getSnapshot().loading).toBe(true);
  server.stream.change("1-10", { type: "deleted", reason: "user", notificationId: "n7", notificationIds: ["n7"], unreadCount: 3, unseenCount: 0 });
  server.stream.change("1-11", { type: "read", notificationId: "n6", readAt: "t", seenAt: "t", archivedAt: null, unreadCount: 2, unseenCount: 0 });
  await settle();
  read(json(page([notification(7), notification(6)], "1-9", { unreadCount: 4 })));
  await settle();
  expect(client.getSnapshot().items.map((item) => [item.id, item.read])).toEqual([["n9", false], ["n8", false], ["n6", true]]);
  expect([...counts(), client.getSnapshot().hasMore, client.getSnapshot().totalCount]).toEqual([2, 0, false, 3]);
});

test("what lies beyond the pages that were read is not shown when it changes", async () => {
  server.routes[PAGE] = () => json(page([notification(9)], "1-9", { pageInfo: { hasNextPage: true, endCursor: "o9" } }));
  make().start();
  await settle();
  server.stream.send("notification", { prev: 9, type: "changed", notifications: [notification(3, { seq: 10 })], deletedIds: [] }, "1-10");
  server.stream.send("synced", { prev: 10, cursor: "1-10", unreadCount: 2, unseenCount: 2 }, "1-10");
  await settle();
  expect(ids()).toEqual(["n9"]);
});

test("a view shows what its filter lets through, from pages of its own and from the stream", async () => {
  await live();
  server.routes[PAGE] = ({ query }) => {
    expect(query.toString()).toBe("unread=true");
    return json(page([notification(2)], "1-2"));
  };
  const view = client.view({ unread: true });
  await settle();
  const shown = () => view.getSnapshot().items.map((item) => item.id);
  expect(shown()).toEqual(["n2"]);
  server.stream.change("1-3", created(3, 2));
  await settle();
  expect(shown()).toEqual(["n3", "n2"]);
  client.markRead("n2");
  expect(shown()).toEqual(["n3"]);
  expect(ids()).toEqual(["n3", "n2", "n1"]);
  view.close();
});

test("created is told once for each notification that is new, whether live or replayed", async () => {
  await live();
  const told = [];
  client.on("created", (item) => told.push(item.id));
  server.stream.change("1-3", created(3, 2));
  server.stream.send("notification", { prev: 3, type: "changed", notifications: [notification(4, { seq: 4 }), notification(2, { seq: 4 })], deletedIds: [] }, "1-4");
  server.stream.send("synced", { prev: 4, cursor: "1-4", unreadCount: 3, unseenCount: 3 }, "1-4");
  await settle();
  expect(told).toEqual(["n3", "n4"]);
});

test("when another person's inbox answers, everything of the first one is gone", async () => {
  await live();
  server.stream.break();
  server.routes[STREAM] = () => "stream";
  await clock.tick(1000);
  server.stream.connected("1-2", { inbox: "uni/eve" });
  server.stream.change("1-3", created(3, 9));
  await settle();
  expect(client.getSnapshot()).toMatchObject({ status: "closed", items: [], unreadCount: 0, cursor: null });
  expect(server.stream.aborted).toBe(true);
});

test("nothing is left running after stop", async () => {
  await live();
  client.stop();
  await settle();
  expect(server.stream.aborted).toBe(true);
  expect(clock.pending).toBe(0);
  expect(client.getSnapshot().status).toBe("idle");
});

test("the poll transport opens no stream", async () => {
  server.routes[CHANGES] = noChanges;
  make({ transport: "poll" }).start();
  await settle();
  expect(client.getSnapshot()).toMatchObject({ status: "polling", unreadCount: 1 });
  await clock.tick(70_000);
  expect(attempts()).toBe(0);
  expect(server.asked(CHANGES)).toHaveLength(1);
});

test("metadata with __proto__ reaches no prototype", async () => {
  await live();
  server.stream.raw('id: 1-3\nevent: notification\ndata: {"prev":2,"type":"created","unreadCount":2,"unseenCount":2,"notification":{"id":"n3","createdSeq":3,"seq":3,"metadata":{"__proto__":{"polluted":1}},"__proto__":{"polluted":1},"archivedAt":null}}\n\n');
  await settle();
  client.markRead("n3");
  expect(client.getSnapshot().items[0].id).toBe("n3");
  expect(client.getSnapshot().items[0].polluted).toBeUndefined();
  expect({}.polluted).toBeUndefined();
});
