import { defineConfig } from "vite";

const carillon = process.env.VITE_CARILLON_URL ?? "http://localhost:8000";

/** Stands in for this application's server, which knows who is signed in: with `npm run dev` it is the demonstration's Ada. */
const server = {
  name: "application-server",
  configureServer({ middlewares }) {
    middlewares.use("/carillon-token", async (_request, response) => {
      await fetch(`${carillon}/api/demo/people`); // Makes them, if there are none yet.
      const ada = JSON.stringify({ tenant: "uni-berlin", recipient: "ada" });
      const asked = { method: "POST", headers: { "content-type": "application/json" }, body: ada };
      const told = await fetch(`${carillon}/api/demo/session`, asked);
      response.writeHead(told.status, { "content-type": told.headers.get("content-type") }).end(await told.text());
    });
  },
};

export default defineConfig({
  plugins: [server],
  // JSX without a plugin; one React, although carillon-web lies beside this folder with a React of its own for its tests.
  oxc: { jsx: { runtime: "automatic" } },
  resolve: { dedupe: ["react", "react-dom"] },
  build: { target: "es2022" },
});
