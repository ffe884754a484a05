// Calls of what only the demonstration has: its people, the catalog, a producer. And the people's clients.

import { createNotificationClient } from "/static/carillon/latest/core/client.js";

/** A problem document (RFC 9457): `message` is a sentence, `fields` a list of {field, message}. */
export class Problem extends Error {
  constructor(status, body) {
    const title = typeof body?.title === "string" ? body.title : `The server answered ${status}`;
    const detail = typeof body?.detail === "string" && body.detail !== title ? `: ${body.detail}` : "";
    super(title.replace(/\.$/, "") + detail);
    this.fields = Array.isArray(body?.errors) ? body.errors : [];
  }
}

async function call(method, path, body) {
  const sent = body && { body: JSON.stringify(body), headers: { "content-type": "application/json" } };
  const answer = await fetch(path, { method, cache: "no-store", ...sent });
  const told = await answer.json().catch(() => null);
  if (!answer.ok) throw new Problem(answer.status, told);
  return told;
}

export const people = async () => (await call("GET", "/api/demo/people")).people;
export const catalog = () => call("GET", "/api/demo/catalog");
export const send = (event) => call("POST", "/api/demo/events", event);
export const eventOf = (id, tenant) => call("GET", `/api/demo/events/${encodeURIComponent(id)}?tenant=${encodeURIComponent(tenant)}`);

/** A client for one person. It asks for a token when it needs one, and for another when the server refuses it. */
export function clientOf({ tenant, id }, options = {}) {
  let token = null;
  const auth = async ({ reason }) => {
    if (token === null || reason === "unauthorized") {
      token = (await call("POST", "/api/demo/session", { tenant, recipient: id })).token;
    }
    return token;
  };
  return createNotificationClient({ auth, ...options });
}

/** Where a person is in the address: `#tenant/id`. */
export const hashOf = ({ tenant, id }) => `#${encodeURIComponent(tenant)}/${encodeURIComponent(id)}`;

/** The person whom the address names, else the first of `all`. */
export const chosenOf = (all) => all.find((person) => hashOf(person) === location.hash) ?? all[0];
