// The budgets of docs/web-client.md, gzipped: minified by the pinned esbuild, and as served, file by file.
//
// "With the elements" is what a page loads to show a bell. The articles (item.js) and the inbox are fetched when a list
// is first to be seen, other languages and EventSource where they are needed; `everything` holds their sum.

import { readFileSync, readdirSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { expect, test } from "vitest";

const KB = 1024;
const source = new URL("../src/", import.meta.url).pathname;
const gzipped = (bytes) => gzipSync(bytes, { level: 9 }).length;

/** What an entry loads at once, and what is loaded later: by the bundler's own account of the imports. */
async function measure(entry, external = []) {
  const built = await build({
    entryPoints: [source + entry], bundle: true, minify: true, format: "esm", target: "es2022", write: false,
    metafile: true, outdir: "/out", external,
    plugins: [{ name: "later", setup: (each) => each.onResolve({ filter: /./ }, ({ kind, path }) => (kind === "dynamic-import" ? { path, external: true } : null)) }],
  });
  const files = Object.keys(built.metafile.inputs).map((name) => `${source}${name.replace(/^.*?src\//, "")}`);
  return {
    minified: gzipped(built.outputFiles.find(({ path }) => path.endsWith(".js")).contents),
    served: files.reduce((sum, file) => sum + gzipped(readFileSync(file)), 0),
    files: files.map((file) => file.slice(source.length)),
  };
}

/** The locales are chosen by name at run time; English is built in. */
const LOCALES = readdirSync(`${source}locales`).filter((name) => name !== "en.js").map((name) => `../locales/${name}`);
const OTHERS = ["react", "../core/client.js", "../elements/index.js"];

test.each([
  ["core", "core/client.js", [], 6 * KB, 14 * KB],
  ["core with the elements", "elements/index.js", LOCALES, 12 * KB, 28 * KB],
  ["React bindings", "react/index.js", OTHERS, 2 * KB, 5 * KB],
])("%s", async (name, entry, external, minified, served) => {
  const size = await measure(entry, external);
  console.log(`${name}: ${size.minified} bytes minified, ${size.served} as served (${size.files.join(", ")})`);
  expect(size.minified).toBeLessThanOrEqual(minified);
  expect(size.served).toBeLessThanOrEqual(served);
});

test("everything, with what is loaded later", async () => {
  const later = ["item.js", "inbox.js"].map((name) => gzipped(readFileSync(`${source}elements/${name}`)));
  const built = await build({
    stdin: { contents: 'export * from "./elements/index.js"; export * from "./elements/inbox.js"; export * from "./elements/item.js";', resolveDir: source },
    bundle: true, minify: true, format: "esm", target: "es2022", write: false, external: ["./eventsource.js", ...LOCALES],
  });
  const whole = gzipped(built.outputFiles[0].contents);
  console.log(`everything: ${whole} bytes minified; later, as served: ${later.join(" + ")}`);
  expect(whole).toBeLessThanOrEqual(16 * KB);
});
