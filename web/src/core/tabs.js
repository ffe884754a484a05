// One stream for each browser: which page holds it, and what it passes on to the others.
//
// The leader holds an exclusive Web Lock. Where there are none (http other than localhost), at most two pages stream.

/** @import { Message, TabParts } from "./types.js" */

/** A leader speaks every 30 s, or 60 where it is hidden. One that is silent for longer is replaced. */
const SILENT_MS = 65_000;
const ALIVE_MS = 30_000;
/** Without locks: how long a page listens for others that stream, and how many may. */
const LISTEN_MS = 200;
const MOST_WITHOUT_LOCKS = 2;

/** @param {TabParts} parts */
export function createTabs({ key, clock, lead, follow, received, state }) {
  const channel = new BroadcastChannel(key);
  const { locks } = navigator;
  /** @type {AbortController} */
  let waiting;
  let open = true;
  let leading = false;
  let leaders = 0;
  let heard = 0;
  /** @type {(value?: unknown) => void} */
  let release = () => {};
  /** @type {any} */
  let timer;

  /** @param {Message} message */
  const post = (message) => void (open && channel.postMessage(message));

  function begin() {
    leading = true;
    lead();
    alive();
  }

  function alive() {
    clock.clearTimeout(timer);
    post(state());
    timer = clock.setTimeout(alive, ALIVE_MS);
  }

  /** Judged by the clock, as the timer of a hidden page comes late. */
  function watch() {
    clock.clearTimeout(timer);
    const left = heard + SILENT_MS - clock.now();
    timer = clock.setTimeout(left > 0 ? watch : takeOver, left);
  }

  function takeOver() {
    heard = clock.now();
    if (!locks) return begin();
    waiting.abort();
    return ask({ steal: true });
  }

  /** Hold the lock until `close`, or until another page takes it away. @param {LockOptions} options */
  function ask(options) {
    const held = () => open && new Promise((resolve) => {
      release = resolve;
      begin();
    });
    locks.request(key, options, held).catch(() => {
      if (!open || !leading) return;
      leading = false;
      follow();
      queue();
    });
  }

  function queue() {
    heard = clock.now();
    watch();
    waiting = new AbortController();
    if (locks) return ask({ signal: waiting.signal });
    leaders = 0;
    clock.setTimeout(() => open && leaders < MOST_WITHOUT_LOCKS && begin(), LISTEN_MS);
  }

  channel.onmessage = ({ data }) => {
    if (data.hello) return void (leading && alive());
    heard = clock.now();
    leaders++;
    return received(data);
  };
  queue();
  post({ hello: true });

  return {
    post,
    get leading() {
      return leading;
    },
    /** Let go of everything. */
    close() {
      open = leading = false;
      clock.clearTimeout(timer);
      waiting.abort();
      release();
      channel.close();
    },
  };
}
