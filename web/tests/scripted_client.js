// A client in front of a scripted server and clock, for each test a new one. Importing this is what sets it up.

import { afterEach, beforeEach, expect } from "vitest";
import { createNotificationClient } from "../src/core/client.js";
import { json, notification, page, scriptedClock, scriptedServer, settle } from "./scripted.js";

export const PAGE = "GET /api/notifications";
export const STREAM = "GET /api/notifications/stream";
export const CHANGES = "GET /api/notifications/changes";

export let clock;
export let server;
export let client;

beforeEach(() => {
  clock = scriptedClock();
  server = scriptedServer({
    [PAGE]: () => json(page([notification(2), notification(1, { read: true, readAt: "x", seenAt: "x" })], "1-2")),
    [STREAM]: () => "stream",
  });
});

afterEach(() => client?.stop());

/** Make the test's client, which waits without jitter. */
export function make(options = {}) {
  client = createNotificationClient({ auth: () => "token", tabs: false, clock, random: () => 1, baseUrl: "http://host", ...options });
  return client;
}

/** Have a client show the first page (n2 unread, n1 read) and follow the stream from its cursor, 1-2. */
export async function live(options) {
  make(options).start();
  await settle();
  server.stream.connected("1-2", { unreadCount: 1, unseenCount: 1 });
  await settle();
  expect(client.getSnapshot().status).toBe("live");
}

export const ids = () => client.getSnapshot().items.map((item) => item.id);
export const counts = () => [client.getSnapshot().unreadCount, client.getSnapshot().unseenCount];
export const attempts = () => server.asked(STREAM).length;
/** What a frame says of one more notification. */
export const created = (number, unread, unseen = unread) => ({ type: "created", notification: notification(number), unreadCount: unread, unseenCount: unseen });
