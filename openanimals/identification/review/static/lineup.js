// Several candidates at once: to say that it is none of them, or to choose whom to look at.

import {announce, element, percent, photograph, say} from "./api.js";

const root = document.getElementById("lineup");
export let lineup = []; // what is shown; nothing: a single candidate is

// Show candidates, or none; a promise of when they can be seen.
export async function showLineup(choices, encounter, choose) {
  const focused = root.contains(document.activeElement);
  lineup = choices;
  document.body.classList.toggle("with-lineup", choices.length > 0);
  document.querySelector(".answers .different span").textContent = say(choices.length ? "none" : "different");
  const cards = choices.map((choice, n) => element("li", {}, element("button", {
    type: "button", "aria-keyshortcuts": keyOf(n), onclick: () => choose(choice),
  }, picture(choice.photographs[0]),
    element("span", {}, element("kbd", {}, keyOf(n)), " ", element("bdi", {}, choice.title), " ", percent(choice.probability)))));
  root.querySelector("ol").replaceChildren(...cards);
  if (focused) document.querySelector("#right .frame").focus();
  if (!choices.length) return;
  announce(say("lineup_now", {encounter, n: choices.length}));
  await Promise.all([...root.querySelectorAll("img")].map(image => image.decode().catch(() => null)));
}

const picture = one => element("img", {
  src: photograph(one, "card"), alt: "",
  onerror: event => event.target.replaceWith(element("p", {class: "warn"}, say("cannot_show", {name: one.name, problem: ""}))),
});

const keyOf = n => String((n + 1) % 10);

// The candidate of a key with a number.
export const ofKey = key => lineup.find((one, n) => keyOf(n) === key);

// How likely it is one of them.
export const chanceOfLineup = () => lineup.reduce((sum, one) => sum + one.probability, 0);
