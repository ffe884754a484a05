// When the client connects, waits, polls and gives up: the table of docs/web-client.md ("The stream's states"), row by row.

import { expect, test } from "vitest";
import { json, notification, page, problem, settle } from "./scripted.js";
import { attempts, CHANGES, client, clock, counts, ids, live, make, server, STREAM } from "./scripted_client.js";

const noChanges = () => json({ inbox: "uni/ada", changes: [], cursor: "1-2", hasMore: false, reset: false, unreadCount: 1, unseenCount: 1 });

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
