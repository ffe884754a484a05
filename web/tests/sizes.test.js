// The budgets of docs/web-client.md, gzipped, in units of 1,000 bytes: minified by the pinned esbuild (build.js), and as
// served, file by file.
//
// "With the elements" is what a page loads to show a bell. The articles (item.js) and the inbox are fetched when a list
// is first to be seen, other languages and EventSource where they are needed: `a page with every element` is what one
// transfers that shows all of it in English.

import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { minified, SOURCE } from "../build.js";

const KB = 1000;
const gzipped = (bytes) => gzipSync(bytes, { level: 9 }).length;
/** What is imported later is no part of a bundle. */
const later = { name: "later", setup: (each) => each.onResolve({ filter: /./ }, ({ kind, path }) => (kind === "dynamic-import" ? { path, external: true } : null)) };
const OTHERS = ["react", "../core/client.js", "../elements/index.js"];
const EVERY = ["index", "inbox", "item"].map((name) => `export * from "./elements/${name}.js";`).join("");

/** A bundle minified, its modules as served, and their names. */
async function measure(options) {
  const built = await minified({ metafile: true, outdir: "/out", ...options, plugins: [later] });
  const files = Object.keys(built.metafile.inputs).map((name) => name.replace(/^.*?src\//, "")).filter((name) => name !== "<stdin>");
  return {
    minified: gzipped(built.outputFiles.find(({ path }) => path.endsWith(".js")).contents),
    served: files.reduce((sum, file) => sum + gzipped(readFileSync(SOURCE + file)), 0),
    files,
  };
}

test.each([
  ["core", { entryPoints: [`${SOURCE}core/client.js`] }, 6 * KB, 14 * KB],
  ["core with the elements", { entryPoints: [`${SOURCE}elements/index.js`] }, 12 * KB, 28 * KB],
  ["a page with every element", { stdin: { contents: EVERY, resolveDir: SOURCE } }, 15.8 * KB, 32.2 * KB],
  ["React bindings", { entryPoints: [`${SOURCE}react/index.js`], external: OTHERS }, 2 * KB, 5 * KB],
])("%s", async (name, options, most, mostServed) => {
  const size = await measure(options);
  console.log(`${name}: ${size.minified} bytes minified, ${size.served} as served (${size.files.join(", ")})`);
  expect(size.minified).toBeLessThanOrEqual(most);
  expect(size.served).toBeLessThanOrEqual(mostServed);
});
