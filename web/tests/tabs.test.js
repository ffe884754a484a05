// Pages of one browser where there are no Web Locks (http other than localhost): two stream, the others listen to them.

import { afterEach, expect, test } from "vitest";
import { createNotificationClient } from "../src/core/client.js";
import { json, notification, page, scriptedClock, scriptedServer, settle } from "./scripted.js";

const STREAM = "GET /api/notifications/stream";
let clients = [];

afterEach(() => {
  for (const client of clients.splice(0)) client.stop();
});

/** BroadcastChannel delivers in turns of its own. */
async function delivered() {
  for (let turn = 0; turn < 10; turn += 1) {
    await settle();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

async function open(clock) {
  const client = createNotificationClient({ auth: () => "token", clock, random: () => 1, baseUrl: "http://host" });
  clients.push(client);
  client.start();
  await delivered();
  await clock.tick(200);
  await delivered();
  return client;
}

test("of three pages two stream, the third is told what they hear, and takes over when both have gone", async () => {
  const clock = scriptedClock();
  const server = scriptedServer({ "GET /api/notifications": () => json(page([notification(1)], "1-1")), [STREAM]: () => "stream" });
  const [first, second, third] = [await open(clock), await open(clock), await open(clock)];
  expect(server.asked(STREAM)).toHaveLength(2);
  expect([first, second, third].map((client) => client.getSnapshot().isLeader)).toEqual([true, true, false]);
  for (const stream of server.streams) stream.connected("1-1");
  await delivered();
  expect(third.getSnapshot().status).toBe("live");
  for (const stream of server.streams) {
    stream.change("1-2", { type: "created", notification: notification(2), unreadCount: 2, unseenCount: 2 });
  }
  await delivered();
  for (const client of clients) expect(client.getSnapshot().items.map((item) => item.id)).toEqual(["n2", "n1"]);
  first.stop();
  second.stop();
  await clock.tick(65_000);
  await delivered();
  expect(third.getSnapshot().isLeader).toBe(true);
  expect(server.asked(STREAM).at(-1).headers.get("last-event-id")).toBe("1-2");
});

test("a page that missed a frame of the other one reads what changed", async () => {
  const clock = scriptedClock();
  const changes = () => json({ inbox: "uni/ada", changes: [{ id: "1-3", prev: 1, type: "changed", notifications: [notification(2), notification(3)], deletedIds: [] }], cursor: "1-3", hasMore: false, reset: false, unreadCount: 3, unseenCount: 3 });
  const server = scriptedServer({ "GET /api/notifications": () => json(page([notification(1)], "1-1")), [STREAM]: () => "stream", "GET /api/notifications/changes": changes });
  const others = [await open(clock), await open(clock)];
  for (const stream of server.streams) stream.connected("1-1");
  const third = await open(clock);
  const channel = new BroadcastChannel("carillon:http://host/:uni/ada");
  channel.postMessage({ id: "1-3", event: "notification", data: { prev: 2, type: "created", notification: notification(3), unreadCount: 3, unseenCount: 3 } });
  await delivered();
  channel.close();
  expect(third.getSnapshot().items.map((item) => item.id)).toEqual(["n3", "n2", "n1"]);
  expect(third.getSnapshot().unreadCount).toBe(3);
  expect(others).toHaveLength(2);
});
