// Choosing who one is: the elements get that person's client, and the one before ends.

import { chosenOf, clientOf, hashOf } from "./api.js";
import { element } from "./dom.js";

/** The language in the address (`?lang=de`): of the elements, and of a page that has words of it. */
export const locale = new URLSearchParams(location.search).get("lang") ?? undefined;

/** Fill the chooser `#person`, and put the chosen person's elements where the page has places for them. */
export function signIn(all, chosen = () => {}) {
  const elements = [...document.querySelectorAll("[data-element]")].map((place) => {
    const made = element(place.dataset.element);
    made.id = place.id;
    return [place, made];
  });
  const select = document.getElementById("person");
  let client = null;
  for (const tenant of new Set(all.map((person) => person.tenant))) {
    const group = element("optgroup", { label: tenant });
    group.append(...all.filter((person) => person.tenant === tenant)
      .map((person) => element("option", { value: hashOf(person) }, `${person.name}, ${person.about} · ${tenant}`)));
    select.append(group);
  }

  function become(person) {
    client?.stop();
    client = clientOf(person, { locale });
    history.replaceState(null, "", hashOf(person));
    select.value = hashOf(person);
    for (const [place, made] of elements) {
      made.client = client;
      if (place.isConnected) place.replaceWith(made);
    }
    client.subscribe(() => {
      const { unreadCount } = client.getSnapshot();
      document.title = document.title.replace(/^(\(\d+\) )?/, unreadCount ? `(${unreadCount}) ` : "");
    });
    chosen(person);
  }

  select.disabled = false;
  select.addEventListener("change", () => become(all.find((person) => hashOf(person) === select.value)));
  addEventListener("hashchange", () => become(chosenOf(all)));
  become(chosenOf(all));
}
