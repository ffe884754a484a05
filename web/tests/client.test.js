// What a client shows of what a scripted server tells, and what becomes of what a person does.

import { expect, test } from "vitest";
import { json, notification, page, problem, settle } from "./scripted.js";
import { CHANGES, client, clock, counts, created, ids, live, make, PAGE, server, STREAM } from "./scripted_client.js";

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

test("what the one before had on its way takes nothing with it of what the next one does", async () => {
  await live();
  let answer;
  server.routes["PATCH /api/notifications/n2"] = () => new Promise((resolve) => (answer = resolve));
  client.markRead("n2");
  await settle();
  server.stream.break();
  await clock.tick(1000);
  server.stream.connected("1-2", { inbox: "uni/eve" });
  await settle();
  expect(client.getSnapshot().status).toBe("closed");
  server.routes["PATCH /api/notifications/n1"] = () => json({ cursor: "1-3" });
  client.start();
  await settle();
  client.archive("n1");
  answer(json({ cursor: "1-3" }));
  await settle();
  expect(server.asked("PATCH /api/notifications/n1")).toHaveLength(1);
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
