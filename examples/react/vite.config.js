import { defineConfig } from "vite";

export default defineConfig({
  // JSX without a plugin; one React, although carillon-web lies beside this folder with a React of its own for its tests.
  oxc: { jsx: { runtime: "automatic" } },
  resolve: { dedupe: ["react", "react-dom"] },
  build: { target: "es2022" },
});
