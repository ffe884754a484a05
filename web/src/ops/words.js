// Numbers and times as an operator reads them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

/** 1,234 or 3.4; nothing for what is away. */
export const number = (value) => (value == null ? "–" : (value < 10 ? fine : whole).format(value));

/** A duration: 1.5 ms, 12 ms, 3.4 s, 5 min, 2 h; 0 s for nothing. */
export function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds < 0.0005) return seconds > 0 ? "< 1 ms" : "0 s";
  if (seconds < 0.01) return `${fine.format(seconds * 1000)} ms`;
  if (seconds < 1) return `${whole.format(seconds * 1000)} ms`;
  if (seconds < 120) return `${(seconds < 10 ? fine : whole).format(seconds)} s`;
  return seconds < 7200 ? `${whole.format(seconds / 60)} min` : `${whole.format(seconds / 3600)} h`;
}

/** So many seconds ago. */
export const since = (seconds) => (seconds < 1 ? "just now" : `${duration(Math.round(seconds))} ago`);

/** How long ago a moment was, by the server's clock. */
export const ago = (moment, now) => (moment == null ? "never" : since((now - moment) / 1000));

/** The bound below which something lies. */
export const within = (seconds) => (seconds == null ? "–" : `≤ ${duration(seconds)}`);

/** A job's or task's name without what all of them share. */
export const short = (task) => task.replace(/^carillon\./, "").replaceAll("_", " ");
