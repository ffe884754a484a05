// Every language says everything, with a form for each of its numbers.

import { readFileSync, readdirSync } from "node:fs";
import { expect, test } from "vitest";
import ar from "../src/locales/ar.js";
import de from "../src/locales/de.js";
import en from "../src/locales/en.js";
import es from "../src/locales/es.js";
import fr from "../src/locales/fr.js";

const SOURCE = new URL("../src/", import.meta.url);
const PLACES = /\{(n|title)\}/g;

test.each(Object.entries({ ar, de, es, fr }))("%s has English's words, with its places to fill", (code, words) => {
  expect(Object.keys(words).sort()).toEqual(Object.keys(en).sort());
  for (const [key, form] of Object.entries(words)) {
    for (const text of typeof form === "string" ? [form] : Object.values(form)) {
      expect(text, key).not.toBe("");
      const known = JSON.stringify(en[key]);
      for (const [place] of text.matchAll(PLACES)) expect(known, `${code} ${key}`).toContain(place);
    }
  }
});

test("every language is one that the elements can fetch, or English, which they have", () => {
  const elements = readFileSync(new URL("elements/base.js", SOURCE), "utf8");
  const named = [...elements.matchAll(/"\.\.\/locales\/(\w+\.js)"/g)].map(([, name]) => name);
  expect(named.sort()).toEqual(readdirSync(new URL("locales", SOURCE)).sort());
});

test.each(Object.entries({ ar, de, en, es, fr }))("%s has a form for whatever number there is", (code, words) => {
  const rules = new Intl.PluralRules(code);
  for (const form of Object.values(words).filter((each) => typeof each !== "string")) {
    for (const number of [0, 1, 2, 3, 11, 21, 100, 101, 1_000_000]) expect(form[rules.select(number)] ?? form.other).toBeTruthy();
  }
});
