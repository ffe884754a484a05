// The full page of one person: everything, by pages and filters.

import "/static/carillon/latest/elements/index.js";
import { people } from "./api.js";
import { signIn } from "./person.js";

const at = (id) => document.getElementById(id);

people().then((all) => signIn(all)).catch((problem) => {
  at("trouble").textContent = `${problem.message}.`;
  at("trouble").hidden = false;
});
