// Any event of the catalog, and what it does to the inbox of whoever one is.

import "/static/carillon/latest/elements/index.js";
import { catalog, people } from "./api.js";
import { Composer } from "./composer.js";
import { signIn } from "./person.js";

const at = (id) => document.getElementById(id);

async function start() {
  const composer = new Composer();
  const [all, types] = await Promise.all([people(), catalog()]);
  composer.load(all, types);
  signIn(all, (person) => composer.choose(person));
}

start().catch((problem) => {
  at("trouble").textContent = `${problem.message}.`;
  at("trouble").hidden = false;
});
