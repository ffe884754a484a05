// The numbers at the top, each with its last minutes as a line.

import { element } from "./dom.js";
import { duration, number, within } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
/** Points of a line: one every two seconds, four minutes. */
const KEPT = 120;
const [WIDE, HIGH] = [100, 24];

const sum = (values) => Object.values(values ?? {}).reduce((all, value) => all + value, 0);
const streams = (data) => data.streams.reduce((all, each) => all + each.streams, 0);

/** Title, unit, value and note of each tile, and when it is bad. */
const TILES = [
  { title: "Accepted", unit: "events/s", value: (data) => data.rates.accepted,
    note: (data) => (sum(data.refused) ? `${number(sum(data.refused))} refused in all` : "none refused") },
  { title: "Notifications", unit: "rows/s", value: (data) => data.rates.urgent === null ? null : data.rates.urgent + data.rates.fanOut,
    note: (data) => `${number(data.rates.fanOut)} by chunks` },
  { title: "Event to commit", show: within, value: (data) => data.latency.commit.p99,
    note: (data) => `99 %; half ${within(data.latency.commit.p50)}` },
  { title: "Commit to socket", show: within, value: (data) => data.latency.socket.p99,
    note: (data) => `99 %; ${number(data.rates.frames)} frames/s` },
  { title: "Open streams", value: streams,
    note: (data) => `${number(data.streams.length)} API, ${number(data.workers)} workers` },
  { title: "Oldest event", show: duration, value: (data) => data.queues && data.queues.ages.urgent,
    bad: (value) => value === null || value > 15, note: (data) => `${number(sum(data.queues?.open))} open` },
  { title: "Failed", unit: "events", value: (data) => data.queues && data.queues.failed,
    bad: (value) => value === null || value > 0, note: (data) => (data.queues?.failed ? "see below" : "none") },
];

function drawn(name) {
  return document.createElementNS(SVG, name);
}

/** A line over the values of the last minutes, from nothing to the greatest. */
class Line {
  constructor() {
    this.values = [];
    this.svg = drawn("svg");
    for (const [name, value] of [["viewBox", `0 0 ${WIDE} ${HIGH}`], ["preserveAspectRatio", "none"], ["aria-hidden", "true"]]) {
      this.svg.setAttribute(name, value);
    }
    this.area = drawn("polygon");
    this.line = drawn("polyline");
    this.svg.append(this.area, this.line);
  }

  add(value) {
    this.values = [...this.values, value ?? 0].slice(-KEPT);
    const most = Math.max(...this.values) || 1;
    const step = WIDE / (KEPT - 1);
    const first = WIDE - step * (this.values.length - 1);
    const points = this.values.map((each, place) => `${(first + place * step).toFixed(2)},${(HIGH - 1 - (each / most) * (HIGH - 2)).toFixed(2)}`);
    this.line.setAttribute("points", points.join(" "));
    this.area.setAttribute("points", [`${first.toFixed(2)},${HIGH}`, ...points, `${WIDE},${HIGH}`].join(" "));
  }
}

/** Return a function that shows what the server told. */
export function makeTiles(place) {
  const tiles = TILES.map((tile) => {
    const [value, note, line] = [element("p", { class: "value" }), element("p", { class: "note" }), new Line()];
    const box = element("article", { class: "tile" }, element("h2", {}, tile.title), value, note);
    box.append(line.svg);
    place.append(box);
    return { ...tile, box, shown: value, noted: note, line };
  });
  return (data) => {
    for (const { box, shown, noted, line, value, note, unit = "", show = number, bad = () => false } of tiles) {
      const now = value(data);
      shown.replaceChildren(show(now), unit && element("small", {}, unit));
      noted.textContent = note(data);
      box.classList.toggle("bad", bad(now));
      line.add(now);
    }
  };
}
