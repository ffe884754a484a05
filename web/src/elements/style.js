// The looks. Everything that a host may want to change is a custom property, `--carillon-…`, or a `::part()`.

/** @param {string} text */
export function css(text) {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(text);
  return sheet;
}

/** What all elements need; articles and the inbox bring the rest. */
export const sheet = css(`
:host {
  --a: var(--carillon-accent, light-dark(#2a6661, #7cc4ba));
  --on-a: var(--carillon-on-accent, light-dark(#fff, #10211f));
  --s: var(--carillon-surface, light-dark(#fff, #1c2124));
  --sunk: var(--carillon-sunken, light-dark(#f5f5f1, #23292c));
  --i: var(--carillon-ink, light-dark(#22272b, #e6e8e5));
  --q: var(--carillon-quiet, light-dark(#626b70, #9aa5a8));
  --l: var(--carillon-line, light-dark(#e6e4dd, #2f3639));
  --h: var(--carillon-high, light-dark(#935a10, #e3ad64));
  --u: var(--carillon-urgent, light-dark(#b23a3a, #f08a80));
  --c: var(--a);
  --r: var(--carillon-radius, 12px);
  --shadow: 0 1px 2px rgb(0 0 0 / 6%), 0 12px 32px rgb(0 0 0 / 14%);
  display: block; color: var(--i); font: 400 .9375rem/1.45 var(--carillon-font, system-ui, sans-serif);
}
:host(carillon-bell), :host(carillon-status) { display: inline-block; position: relative; }
:host([hidden]), [hidden] { display: none !important; }
* { box-sizing: border-box; margin: 0; }
svg { display: block; width: 20px; height: 20px; fill: none; stroke: currentcolor; stroke-width: 1.6; stroke-linecap: round; stroke-linejoin: round; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
:focus-visible { outline: 2px solid var(--a); outline-offset: 2px; border-radius: 6px; }
button, .link, select { min-height: 32px; padding: 0 .7em; border: 1px solid transparent; border-radius: 8px; background: none; color: var(--a); font: inherit; font-size: .875em; font-weight: 500; text-decoration: none; white-space: nowrap; cursor: pointer; }
button:hover, .link:hover, select:hover { background: var(--sunk); }
button:disabled { color: var(--q); opacity: .6; background: none; cursor: default; }
.link { display: inline-flex; align-items: center; }

.bell { position: relative; display: grid; place-items: center; width: 40px; height: 40px; padding: 0; border-radius: 50%; color: inherit; }
.bell svg { width: 24px; height: 24px; }
.new svg { color: var(--a); }
.badge { position: absolute; inset-block-start: 0; inset-inline-start: 22px; min-width: 18px; padding: 0 5px; border-radius: 9px; background: var(--u); color: light-dark(#fff, #2a0f0c); font-size: 11px; line-height: 18px; font-weight: 650; text-align: center; font-variant-numeric: tabular-nums; box-shadow: 0 0 0 2px var(--s); }
.panel { position: fixed; inset: var(--top) var(--right) auto auto; width: min(25rem, calc(100vw - 16px)); padding: 0; overflow: visible; color: inherit; border: 1px solid var(--l); border-radius: var(--r); background: var(--s); box-shadow: var(--shadow); }
.list { max-height: min(32rem, 68vh); overflow-y: auto; overscroll-behavior: contain; }
.bar { display: flex; flex-wrap: wrap; align-items: center; gap: 4px; min-height: 48px; padding-block: 8px; padding-inline: 16px 6px; border-block-end: 1px solid var(--l); }
.bar h2 { margin-inline-end: auto; font-size: 1rem; font-weight: 650; }
.foot { border-block-start: 1px solid var(--l); border-block-end: 0; justify-content: center; padding-inline: 8px; }

.empty { padding: 40px 24px 44px; color: var(--q); text-align: center; }
.empty svg { width: 40px; height: 40px; margin: 0 auto 10px; opacity: .7; }
.empty b { display: block; color: var(--i); font-weight: 600; }
.note { display: flex; align-items: center; gap: 8px; padding-block: 8px; padding-inline: 16px 6px; background: var(--sunk); color: var(--q); font-size: .875em; }
.note button { font-size: 1em; }
.note.bad { background: color-mix(in srgb, var(--u) 10%, var(--s)); color: var(--u); }
.note span { flex: 1; }
.toasts { position: fixed; z-index: 1100; inset-block-end: 16px; inset-inline-end: 16px; display: grid; gap: 8px; width: min(24rem, calc(100vw - 32px)); }
.toast { position: relative; border: 1px solid var(--l); border-inline-start: 3px solid var(--c); border-radius: var(--r); background: var(--s); box-shadow: var(--shadow); }

.status { display: inline-flex; align-items: center; gap: 8px; color: var(--q); font-size: .875em; }
.status::before { content: ""; width: 8px; height: 8px; border-radius: 50%; background: var(--d, var(--q)); }
.live { --d: light-dark(#2d7047, #82c99a); } .polling, .reconnecting { --d: var(--h); } .offline, .unauthenticated, .closed { --d: var(--u); }

@media (max-width: 30rem) { .panel { inset: auto 0 0; width: auto; border-width: 1px 0 0; border-radius: 16px 16px 0 0; } }
@media (prefers-reduced-motion: no-preference) {
  .toast { animation: in .32s cubic-bezier(.2, .8, .3, 1); }
  .panel { animation: in .16s ease-out; }
  .ring svg { animation: ring .7s ease-in-out; transform-origin: 50% 10%; }
  .reconnecting::before, .connecting::before { animation: pulse 1.4s infinite; }
}
@keyframes in { from { opacity: 0; transform: translateY(-8px); } }
@keyframes ring { 20%, 60% { transform: rotate(12deg); } 40%, 80% { transform: rotate(-12deg); } }
@keyframes pulse { 50% { opacity: .35; } }
@media (forced-colors: active) {
  .badge, .fresh { border: 1px solid; }
  .dot, .status::before { forced-color-adjust: none; background: Highlight; }
}
`);
