// The full page of one person: everything, by pages and filters.

import "/static/carillon/latest/elements/index.js";
import { people } from "./api.js";
import { locale, signIn } from "./person.js";
import { speak } from "./words.js";

const at = (id) => document.getElementById(id);

const word = speak(locale);
const told = (person) => ({ ...person, about: word(person.about) });

people().then((all) => signIn(all.map(told))).catch((problem) => {
  at("trouble").textContent = `${problem.message}.`;
  at("trouble").hidden = false;
});
