// Making elements. Text becomes text nodes: nothing here reads markup.

/** Return an element with attributes and children; strings among these become text. Empty strings are left out. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== ""));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

/** Return a decorative icon drawn by paths in a field of 24 by 24. */
export function icon(paths) {
  const made = document.createElementNS(SVG, "svg");
  made.setAttribute("viewBox", "0 0 24 24");
  made.setAttribute("aria-hidden", "true");
  for (const path of paths) {
    const drawn = document.createElementNS(SVG, "path");
    drawn.setAttribute("d", path);
    made.append(drawn);
  }
  return made;
}
