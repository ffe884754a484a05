// The operators' page: it follows one stream, and asks for a key where the server wants one.

import { again, show } from "./board.js";
import { ask, follow } from "./follow.js";
import { makeTiles } from "./tiles.js";

const at = (id) => document.getElementById(id);
/** In this page's memory alone. */
let key = null;

function tell(state, words) {
  at("state").dataset.state = state;
  if (at("state").textContent !== words) at("state").textContent = words;
}

function trouble(words) {
  at("trouble").textContent = words;
  at("trouble").hidden = !words;
}

async function retry({ tenant, source, id }, button) {
  button.disabled = true;
  button.textContent = "Asked for";
  try {
    const body = JSON.stringify({ tenant, source, id });
    await ask("/api/ops/events/retry", key, { method: "POST", body, headers: { "content-type": "application/json" } });
    trouble("");
    at("said").textContent = `${id} will be tried again.`;
  } catch (problem) {
    trouble(problem.message);
    again(button);
  }
}

async function open() {
  at("sign-in").hidden = true;
  const refused = await follow(key, {
    told(data) {
      at("board").hidden = false;
      tell("live", "Live");
      tiles(data);
      show(data, retry);
    },
    away: () => tell("away", "Reconnecting"),
  });
  tell("waiting", "Signed out");
  if (key) trouble(refused.message);
  at("board").hidden = true;
  at("sign-in").hidden = false;
  at("key").focus();
}

at("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  key = at("key").value.trim();
  at("key").value = "";
  trouble("");
  open();
});
const tiles = makeTiles(at("tiles"));
open();
