// Lists and tables below the numbers. What stays keeps its element, so that focus and bars stay where they are.

import { element } from "./dom.js";
import { ago, duration, number, short, since } from "./words.js";

/** Failed events that are listed: the page stays a page. */
const FAILURES = 6;

const at = (id) => document.getElementById(id);
const nothing = (text) => element("li", { class: "nothing" }, text);
const keyOf = ({ tenant, source, id }) => JSON.stringify([tenant, source, id]);

/** Bring a list's items up to `rows`: `make` makes one, `update` brings it up to date. */
function keep(list, rows, empty, make, update) {
  const known = new Map([...list.children].filter((item) => item.dataset.key).map((item) => [item.dataset.key, item]));
  const items = rows.map((row) => {
    const item = known.get(keyOf(row)) ?? make(row);
    item.dataset.key = keyOf(row);
    update(item, row);
    return item;
  });
  const wanted = items.length ? items : [nothing(empty)];
  if (wanted.length !== list.children.length || wanted.some((item, place) => item !== list.children[place])) {
    const focused = document.activeElement;
    list.replaceChildren(...wanted);
    if (focused instanceof HTMLElement && list.contains(focused)) focused.focus();
  }
}

function fanOuts(data) {
  const make = (row) => {
    const bar = element("progress", { "aria-label": `${row.type} ${row.id}` });
    const head = element("p", { class: "head" }, element("span", { class: "name" }, row.type), element("span", { class: "quiet number" }));
    return element("li", {}, head, bar, element("p", { class: "quiet" }));
  };
  keep(at("fan-outs"), data.fanOuts ?? [], data.fanOuts ? "None: nothing large is being told." : "The database is away.", make, (item, row) => {
    const [head, bar, below] = item.children;
    bar.max = Math.max(1, row.chunks);
    bar.value = row.done;
    head.lastChild.textContent = row.chunks ? `${number(row.done)} of ${number(row.chunks)} chunks` : "being planned";
    const failed = row.failed ? `, ${number(row.failed)} chunks failed` : "";
    below.textContent = `${row.tenant} · ${number(row.notifications)} notifications${failed} · begun ${ago(Date.parse(row.acceptedAt), data.at)}`;
  });
}

function failures(data, retry) {
  const make = (row) => {
    const words = element("div", {}, element("p", { class: "name" }, row.type), element("p", { class: "reason" }), element("p", { class: "quiet" }));
    const item = element("li", { class: "failure" }, words);
    if (data.mayRetry) {
      const button = element("button", { class: "small", type: "button", "aria-label": `Retry ${row.type} ${row.id}` }, "Retry");
      button.addEventListener("click", () => retry(row, button));
      item.append(button);
    }
    return item;
  };
  const more = (data.queues?.failed ?? 0) - FAILURES;
  at("failed-more").textContent = more > 0 ? `And ${number(more)} more: carillon status lists them, carillon events retry --all-failed tries all again.` : "";
  keep(at("failed"), (data.failed ?? []).slice(0, FAILURES), data.failed ? "None." : "The database is away.", make, (item, row) => {
    const [, reason, below] = item.firstChild.children;
    if (item.dataset.finished !== row.finishedAt && data.mayRetry) again(item.lastChild);
    item.dataset.finished = row.finishedAt;
    reason.textContent = row.error ?? "";
    below.textContent = `${row.tenant} · ${row.source} · ${row.id}${row.attempts ? ` · ${number(row.attempts)} attempts` : ""} · ${ago(Date.parse(row.finishedAt), data.at)}`;
  });
}

/** Let a button be pressed that was: what it asked for was refused, or has failed once more. */
export function again(button) {
  button.disabled = false;
  button.textContent = "Retry";
}

/** Fill a table's body with cells: each a text, or [text, class], or an element. */
function fill(id, rows, empty) {
  const body = at(id).tBodies[0];
  const columns = at(id).tHead.rows[0].cells.length;
  const cell = (told) => {
    if (told instanceof Node) return element("td", {}, told);
    return Array.isArray(told) ? element("td", { class: told[1] }, told[0]) : element("td", {}, told);
  };
  const made = rows.map((row) => element("tr", {}, ...row.map(cell)));
  body.replaceChildren(...(made.length ? made : [element("tr", {}, element("td", { class: "quiet", colspan: columns }, empty))]));
}

const bad = (text, is) => (is ? [text, "bad"] : text);

function lanes(data) {
  const queue = { urgent: "carillon.urgent", fan_out: "carillon.fan_out", maintenance: "carillon.maintenance" };
  const { ages = {}, silence = {} } = data.queues ?? {};
  fill("lanes", Object.keys(queue).map((lane) => [
    short(lane),
    bad(lane in ages ? duration(ages[lane]) : "–", ages[lane] > 15 && lane === "urgent"),
    data.broker ? number(data.broker[queue[lane]]) : "–",
    bad(lane in silence ? since(silence[lane]) : "never", !(silence[lane] < 30)),
  ]), "");
}

function jobs(data) {
  const named = ({ task, why, everySeconds, error }) => {
    const told = element("span", {}, short(task));
    told.append(element("span", { class: "quiet why" }, error ?? `every ${duration(everySeconds)}: ${why}`));
    return told;
  };
  const last = ({ running, secondsAgo, everySeconds }) => {
    if (running) return "running";
    return secondsAgo === null ? "never" : bad(since(secondsAgo), secondsAgo > 4 * everySeconds + 30);
  };
  fill("jobs", data.jobs.map((job) => [named(job), last(job), duration(job.seconds), number(job.done), bad(number(job.failures), job.failures > 0)]), "");
}

function streams(data) {
  fill("streams", data.streams.map((each) => [each.process, number(each.streams), number(each.inboxes)]), "No process counts.");
  const repaired = (data.repaired.hole ?? 0) + (data.repaired.round ?? 0);
  at("stream-notes").textContent = `Gaps repaired: ${number(repaired)} · resets: ${number(data.totals.resets)} · `
    + `slow readers closed: ${number(data.totals.slow)} · refused: ${number(data.totals.refusedStreams)}`;
}

/** Show what the server told; `retry(row, button)` is called for a failed event. */
export function show(data, retry) {
  fanOuts(data);
  failures(data, retry);
  lanes(data);
  streams(data);
  fill("types", data.types.map((each) => [each.type, duration(each.seconds), number(each.commits)]), "Nothing was fanned out just now.");
  jobs(data);
}
