// Pages of one host, which asks the host who is signed in: `host.person`. What the server answers names the token's person.

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createNotificationClient } from "../src/core/client.js";
import { json, notification, page, scriptedClock, scriptedServer, settle } from "./scripted.js";

const PAGE = "GET /api/notifications";
const STREAM = "GET /api/notifications/stream";
const CHANGES = "GET /api/notifications/changes";
const NUMBERS = { ada: 1, mira: 2 };

vi.setConfig({ testTimeout: 40_000 });

let host;
let server;
let clients;

const personOf = ({ headers }) => headers.get("authorization").replace("Bearer ", "");
const pageOf = (person) => json(page([notification(NUMBERS[person])], "1-2", { inbox: `uni/${person}` }));
const changesOf = (person) => json({ inbox: `uni/${person}`, changes: [], cursor: "1-2", hasMore: false, reset: false, unreadCount: 1, unseenCount: 1 });

beforeEach(() => {
  host = { person: "ada", name: `host-${Math.random()}` };
  clients = [];
  server = scriptedServer({
    [PAGE]: (request) => pageOf(personOf(request)),
    [CHANGES]: (request) => changesOf(personOf(request)),
    [STREAM]: () => "stream",
  });
});

afterEach(() => {
  for (const client of clients) client.stop();
});

/** A page as `token-url` makes one: its token is kept until it is refused. */
function open(ask = () => host.person, options = {}) {
  let token;
  const auth = async ({ reason }) => {
    if (!token || reason === "unauthorized") token = await ask();
    return token;
  };
  const client = createNotificationClient({ auth, signIn: host.name, tabs: false, clock: scriptedClock(), random: () => 1, baseUrl: "http://host", ...options });
  clients.push(client);
  client.start();
  return client;
}

/** What is done once, when the test says so. */
function held() {
  let release;
  const until = new Promise((resolve) => (release = resolve));
  return { until, release };
}

/** BroadcastChannel delivers in turns of its own: until what is waited for is there. */
async function until(reached) {
  for (const end = Date.now() + 12_000; Date.now() < end && !reached(); ) await new Promise((resolve) => setTimeout(resolve, 5));
  await settle();
}

const shown = (client) => client.getSnapshot().items.map(({ id }) => id);
/** Have this client's stream, the last one, say whose it is. */
async function connected(person) {
  server.stream.connected("1-2", { inbox: `uni/${person}` });
  await settle();
}

test("a slow page of who was signed in before does not end the page of who is now, and shows that person itself", async () => {
  const first = held();
  server.routes[PAGE] = async (request) => {
    const person = personOf(request);
    if (person === "ada") await first.until;
    return pageOf(person);
  };
  const asked = [];
  const slow = open(() => asked.push(host.person) && host.person);
  await settle();
  const listener = new BroadcastChannel(`carillon:http://host/:@${host.name}`);
  const heard = [];
  listener.onmessage = ({ data }) => heard.push(data);
  host.person = "mira";
  const quick = open();
  await until(() => heard.length);
  await connected("mira");
  first.release();
  await until(() => heard.length === 2);
  listener.close();
  expect(heard).toEqual(["uni/mira", "uni/mira"]);
  expect(asked).toEqual(["ada", "mira"]);
  expect([shown(slow), shown(quick)]).toEqual([["n2"], ["n2"]]);
  expect(quick.getSnapshot().status).toBe("live");
});

test("of two pages that learn two names at the same time the one of who is signed in stays", async () => {
  const both = held();
  server.routes[PAGE] = async (request) => {
    await both.until;
    return pageOf(personOf(request));
  };
  const former = open();
  await settle();
  host.person = "mira";
  const present = open();
  await settle();
  both.release();
  await until(() => former.getSnapshot().status === "closed");
  await until(() => server.asked(CHANGES).length === 2);
  expect(former.getSnapshot()).toMatchObject({ status: "closed", items: [], cursor: null });
  expect(former.getSnapshot().error.message).toBe("Signed out.");
  expect(server.asked(CHANGES).map(personOf)).toEqual(["mira", "mira"]);
  await connected("mira");
  expect(present.getSnapshot().status).toBe("live");
  expect(shown(present)).toEqual(["n2"]);
});

test("where nobody answers who is signed in, a page that heard another name ends", async () => {
  const client = open();
  await settle();
  await connected("ada");
  delete server.routes[CHANGES];
  const other = new BroadcastChannel(`carillon:http://host/:@${host.name}`);
  other.postMessage("uni/mira");
  await until(() => client.getSnapshot().status === "closed");
  other.close();
  expect(client.getSnapshot()).toMatchObject({ status: "closed", items: [] });
});

test.each([
  ["back from the back/forward cache", () => dispatchEvent(new Event("pagehide")), () => dispatchEvent(new Event("pageshow"))],
  ["started again", (client) => client.stop(), (client) => client.start()],
])("a page that is %s asks the host anew, and streams nothing of the person before", async (name, leave, come) => {
  const client = open();
  await settle();
  await connected("ada");
  leave(client);
  host.person = "mira";
  come(client);
  await settle();
  expect(server.asked(STREAM).map(personOf)).toEqual(["ada", "mira"]);
  await connected("mira");
  expect(client.getSnapshot()).toMatchObject({ status: "closed", items: [] });
});

test("a token that was asked for before a stop and comes after it is not used", async () => {
  const first = held();
  const answers = [first.until, Promise.resolve("mira"), Promise.resolve("mira")];
  const client = open(() => answers.shift());
  await settle();
  client.stop();
  client.start();
  await settle();
  first.release("ada");
  await settle();
  await connected("mira");
  client.refresh();
  await settle();
  expect(personOf(server.asked(PAGE).at(-1))).toBe("mira");
  expect(client.getSnapshot().status).toBe("live");
  expect(shown(client)).toEqual(["n2"]);
});

test("pages with the cookie meet whatever they call their sign-in, and however they write this server's address", async () => {
  server.routes[PAGE] = () => pageOf(host.person);
  server.routes[CHANGES] = () => changesOf(host.person);
  const former = open(undefined, { auth: "cookie", baseUrl: "" });
  await until(() => shown(former).length);
  host.person = "mira";
  open(undefined, { auth: "cookie", signIn: "another" });
  await until(() => former.getSnapshot().status === "closed");
  expect(former.getSnapshot()).toMatchObject({ status: "closed", items: [] });
});
