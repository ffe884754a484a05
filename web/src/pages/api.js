// Calls of the server, and its problems as errors.

/** A problem document (RFC 9457): `message` is a sentence, `fields` a list of {field, message}. */
export class Problem extends Error {
  constructor(status, body, retryAfterMs = null) {
    const title = typeof body?.title === "string" ? body.title : `The server answered ${status}`;
    const detail = typeof body?.detail === "string" && body.detail !== title ? `: ${body.detail}` : "";
    super(title.replace(/\.$/, "") + detail);
    this.status = status;
    this.fields = Array.isArray(body?.errors) ? body.errors : [];
    this.retryAfterMs = retryAfterMs;
  }
}

/** Return the answer's problem; an answer without a readable body still is one. */
export async function problemOf(answer) {
  const seconds = Number.parseInt(answer.headers.get("retry-after") ?? "", 10);
  const body = await answer.json().catch(() => null);
  return new Problem(answer.status, body, Number.isNaN(seconds) ? null : seconds * 1000);
}

async function call(method, path, body, headers = {}) {
  const sent = body === undefined ? {} : { body: JSON.stringify(body) };
  const type = body === undefined ? {} : { "content-type": "application/json" };
  const answer = await fetch(path, { method, cache: "no-store", headers: { ...type, ...headers }, ...sent });
  if (!answer.ok) throw await problemOf(answer);
  return answer.json();
}

/** What only the demonstration has: its people, the catalog, and a producer. */
export const demo = {
  people: () => call("GET", "/api/demo/people"),
  catalog: () => call("GET", "/api/demo/catalog"),
  send: (event) => call("POST", "/api/demo/events", event),
  event: (id, tenant) => call("GET", `/api/demo/events/${encodeURIComponent(id)}?tenant=${encodeURIComponent(tenant)}`),
};

/** One person's session: asks for a token when it needs one, and once more when the server refuses it. */
export class Session {
  #token = null;

  constructor(tenant, recipient) {
    this.tenant = tenant;
    this.recipient = recipient;
  }

  /** Return a token; `fresh` asks for another one than before. */
  async token(fresh = false) {
    if (fresh || this.#token === null) {
      const answer = await call("POST", "/api/demo/session", { tenant: this.tenant, recipient: this.recipient });
      this.#token = answer.token;
    }
    return this.#token;
  }

  async call(method, path, body) {
    const authorised = async (fresh) => ({ authorization: `Bearer ${await this.token(fresh)}` });
    try {
      return await call(method, path, body, await authorised(false));
    } catch (problem) {
      if (problem.status !== 401) throw problem;
      return call(method, path, body, await authorised(true));
    }
  }
}
