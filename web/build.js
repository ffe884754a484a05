// The minified modules of the npm package: `npm run build` writes them to dist/. Nothing needs them: what is served, and
// what the tests run, is the source. The budgets (tests/sizes.test.js) measure what is made here.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build, transform } from "esbuild";

export const SOURCE = fileURLToPath(new URL("src/", import.meta.url));
/** The style sheets are the only template literals that are written as css`…` calls. */
const SHEET = /css\(`([^`]*)`\)/g;
export const TARGET = "es2022";

/** Style sheets lose what is written for people, as the code around them does. */
const sheets = {
  name: "sheets",
  setup: (each) => each.onLoad({ filter: /src\/elements\/.*\.js$/ }, async ({ path }) => {
    let contents = readFileSync(path, "utf8");
    for (const [whole, sheet] of contents.matchAll(SHEET)) {
      const { code } = await transform(sheet, { loader: "css", minify: true });
      contents = contents.replace(whole, () => `css(${JSON.stringify(code.trim())})`);
    }
    return { contents, loader: "js" };
  }),
};

/** Return what esbuild makes of `options`, minified, in memory. @param {import("esbuild").BuildOptions} options */
export const minified = ({ plugins = [], ...options }) =>
  build({ bundle: true, minify: true, format: "esm", target: TARGET, charset: "utf8", write: false, ...options, plugins: [...plugins, sheets] });

/** The package's entries; what is loaded later is a file of its own, and what several need is one as well. */
export const dist = (outdir) => minified({
  entryPoints: { core: "core/client.js", elements: "elements/index.js", react: "react/index.js" },
  absWorkingDir: SOURCE, outdir, splitting: true, external: ["react"], chunkNames: "[name]-[hash]", write: true, legalComments: "none",
});

if (process.argv[1] === fileURLToPath(import.meta.url)) await dist(fileURLToPath(new URL("dist/", import.meta.url)));
