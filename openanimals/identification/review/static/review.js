// Questions and answers: what is shown, keys, filters. All state is in the program's decisions.

import {alertUser, announce, element, get, percent, photograph, post, say, send, short, unsent} from "./api.js";
import {Side, markSpots, resetZoom, zoomBy} from "./compare.js";
import {chanceOfLineup, lineup, ofKey, showLineup} from "./lineup.js";
import {showCatalogue, showProgress} from "./views.js";

const find = id => document.getElementById(id);
const values = JSON.parse(find("filter-values").textContent);
const filters = JSON.parse(sessionStorage.getItem("filters")) ?? {};
const KEYS = {
  s: "same", d: "different", c: "incomparable", k: "skip", n: "new", u: "undo", t: "note", m: "spots", l: "lineup",
  e: "next_of_encounter", E: "last_of_encounter", i: "next_of_candidate", I: "last_of_candidate",
  ArrowLeft: "previous", ArrowRight: "following", "+": "zoom_in", "=": "zoom_in", "-": "zoom_out",
  0: "zoom_reset", "?": "help",
};
const ANSWERS = ["same", "different", "incomparable", "skip", "new"];
let question = null; // that is shown
let candidates = []; // of its encounter, as far as they were looked at
let doubted = ""; // an unlikely answer that was given once
let everything = false, spots = false, busy = false;
let asked = 0; // how many questions were shown
let ready = []; // photographs of the next question, kept so that they are not fetched again

const left = new Side("left", photographChanged);
const right = new Side("right", photographChanged);

function photographChanged() {
  if (spots) markSpots(left, right, !lineup.length);
}

const place = () => ({
  encounter: question.encounter.number, individual: question.choice.individual, other: question.choice.other,
  lineup: lineup.length > 0,
});

function setTitle(side, name) {
  const title = side.root.querySelector(".title");
  title.textContent = short(name);
  title.title = name;
}

// Show a question; in the history of the browser it gets a place of its own.
async function show(found, remember = true) {
  question = found.encounter ? {...found, asked: found.choice} : null;
  doubted = "";
  find("nothing").hidden = question !== null;
  find("note").value = ""; // it was about another question
  find("note-row").hidden = true;
  document.body.classList.toggle("without-question", question === null);
  document.body.dataset.state = question ? "loading" : "nothing";
  refreshCounts();
  const lineupSeen = showLineup(question ? found.lineup : [], found.encounter?.name, chooseOther);
  if (!question) return void (document.body.dataset.asked = ++asked);
  const {encounter} = question;
  setTitle(left, encounter.name);
  left.root.querySelector(".badges").replaceChildren(
    ...[encounter.date, encounter.place, say("proposed", {decision: encounter.decision}), encounter.remark]
      .filter(Boolean).map(text => element("span", {class: "badge"}, element("bdi", {}, text))));
  candidates = [];
  const both = [left.show(encounter.photographs, question.choice.query, encounter.photographs.length),
    found.lineup.length ? lineupSeen : showChoice()];
  if (remember) history.pushState(place(), "", `#encounter-${encounter.number}`);
  prepareNext();
  await Promise.all(both);
  if (question?.asked === found.choice) document.body.dataset.state = "ready";
  document.body.dataset.asked = ++asked;
}

function showChoice() {
  const {choice} = question;
  const {root} = right;
  setTitle(right, choice.title);
  root.querySelector(".role").textContent = say(choice.other === null ? "from_catalogue" : "unknown_encounter");
  const badges = [["chance", say("probability", {p: percent(choice.probability)})]];
  if (choice.answered) badges.push(["said", say("you_said", {answer: say(choice.answered)})]);
  if (!choice.comparable) badges.push(["warn", say("not_comparable")]);
  root.querySelector(".badges").replaceChildren(
    ...badges.map(([kind, text]) => element("span", {class: `badge ${kind}`}, text)));
  const at = candidates.findIndex(isShown);
  find("rank").textContent = at < 0 ? "" : say("candidate_number", {n: at + 1});
  announce(say("now", {
    encounter: question.encounter.name, candidate: choice.title, p: percent(choice.probability),
  }));
  const first = choice.photographs[0];
  return right.show(choice.photographs, first ? first.row : -1, choice.total);
}

const isShown = one => one.individual === question.choice.individual && one.other === question.choice.other;

async function moreCandidates() {
  const number = question.encounter.number;
  const more = await get("candidates", {encounter: number, start: candidates.length, count: 20});
  if (question && question.encounter.number === number) candidates.push(...more);
  return more.length;
}

async function turnCandidate(step) {
  if (lineup.length) return showOther(question.choice);
  while (!candidates.some(isShown) || candidates.findIndex(isShown) + step >= candidates.length)
    if (!await moreCandidates()) break;
  const chosen = candidates[candidates.findIndex(isShown) + step];
  if (chosen) await showOther(chosen);
}

async function showOther(choice) {
  if (doubted) alertUser("");
  doubted = "";
  question.choice = choice;
  showLineup([]);
  history.replaceState(place(), "");
  const seen = showChoice();
  const query = left.photographs.findIndex(one => one.row === choice.query);
  if (query >= 0 && query !== left.index) left.choose(query);
  await seen;
}

const chooseOther = choice => withoutOthers(() => showOther(choice));

// All likely individuals at once, or again the one that was shown.
async function turnLineup() {
  if (lineup.length) return showOther(question.choice);
  const found = await get("question", {...place(), lineup: true});
  if (!found.lineup.length) return alertUser(say("no_lineup"));
  alertUser("");
  const seen = showLineup(found.lineup, question.encounter.name, chooseOther);
  history.replaceState(place(), "");
  photographChanged();
  await seen;
}

// Fetch the photographs of what will be asked next, while this one is looked at.
async function prepareNext() {
  const shown = question;
  try {
    const next = await get("question", {...filters, everything, besides: shown.encounter.number});
    await moreCandidates();
    if (question !== shown) return;
    const at = candidates.findIndex(isShown);
    find("rank").textContent = at < 0 ? "" : say("candidate_number", {n: at + 1});
    const choices = [...(next.encounter ? [next.choice] : []), ...candidates.slice(at + 1, at + 2)];
    const rows = new Set(choices.flatMap(one => [one.query, one.photographs[0]?.row]).filter(row => row >= 0));
    const cards = (next.lineup ?? []).map(one => photograph(one.photographs[0], "card"));
    ready = [...[...rows].map(row => photograph({row}, "full")), ...cards].map(source => {
      const image = new Image();
      image.src = source;
      return image;
    });
  } catch { /* only a preparation */ }
}

async function refreshCounts() {
  const found = await get("progress").catch(() => null);
  if (!found) return;
  const answered = Object.values(found.answered).reduce((sum, n) => sum + n, 0);
  find("counts").textContent = say("left", {answered, left: found.left});
}

async function withoutOthers(action) {
  if (busy) return;
  busy = true;
  document.body.classList.add("busy");
  try {
    await action();
  } catch (error) {
    alertUser(error.message || say("away"));
  } finally {
    busy = false;
    document.body.classList.remove("busy");
  }
}

// Of what the program chose to ask, an answer less likely than its opposite takes two presses.
function isUnlikely(said) {
  const {choice, asked} = question;
  const opposite = {same: 1 - choice.probability, different: choice.probability, none: chanceOfLineup()}[said];
  return (said === "none" || choice === asked) && doubted !== said && opposite > 0.5;
}

async function answer(said) {
  // What cannot be seen yet has nobody looked at.
  const looked = document.body.dataset.state === "ready" || !["same", "different"].includes(said);
  if (!question || !looked) return;
  if (lineup.length && ["same", "incomparable"].includes(said)) return alertUser(say("choose_first"));
  if (lineup.length && said === "different") said = "none";
  if (isUnlikely(said)) {
    doubted = said;
    const chance = said === "none" ? chanceOfLineup() : question.choice.probability;
    return alertUser(say(said === "none" ? "unlikely_none" : "unlikely", {answer: say(said), p: percent(chance)}));
  }
  const note = find("note").value;
  const shown = lineup.map(one => one.individual);
  const next = await send({...place(), answer: said, lineup: shown, note, ...filters, everything});
  announce(say("saved", {answer: say(said)}));
  show(next);
}

async function undo() {
  const found = await post("undo", {});
  alertUser("");
  if (!found.undone) return announce(say("nothing_to_undo"));
  announce(say("undone", {answer: ANSWERS.includes(found.undone) ? say(found.undone) : found.undone}));
  show(found.encounter ? found : await get("question", {...filters, everything}));
}

async function next() {
  show(await get("question", {...filters, everything}));
}

const actions = {
  ...Object.fromEntries(ANSWERS.map(name => [name, () => withoutOthers(() => answer(name))])),
  undo: () => withoutOthers(undo),
  everything: () => withoutOthers(() => { everything = true; return next(); }),
  previous: () => question && withoutOthers(() => turnCandidate(-1)),
  lineup: () => question && withoutOthers(turnLineup),
  following: () => question && withoutOthers(() => turnCandidate(1)),
  next_of_encounter: () => left.turn(1),
  last_of_encounter: () => left.turn(-1),
  next_of_candidate: () => right.turn(1),
  last_of_candidate: () => right.turn(-1),
  zoom_in: () => zoomBy(1.5),
  zoom_out: () => zoomBy(1 / 1.5),
  zoom_reset: resetZoom,
  help: () => find("help").showModal(),
  note: () => {
    find("note-row").hidden = false;
    find("note").focus();
  },
  spots: () => {
    spots = !spots;
    document.querySelector("[data-action=spots]").setAttribute("aria-pressed", spots);
    alertUser("");
    markSpots(left, right, spots && !lineup.length);
  },
};

function showFilters() {
  const named = Object.entries(values).filter(([, some]) => some.length > 1);
  find("filters").replaceChildren(...named.map(([name, some]) => {
    const options = ["", ...some].map(value => element("option", {value, selected: filters[name] === value},
      value || `${say(name)}: ${say("any")}`));
    const change = event => setFilter(name, event.target.value);
    const chosen = filters[name];
    return element("span", {class: chosen ? "filter chosen" : "filter"},
      element("select", {"aria-label": say(name), onchange: change}, ...options),
      chosen ? element("button", {
        type: "button", "aria-label": say("remove_filter", {name: say(name), value: chosen}),
        onclick: () => setFilter(name, ""),
      }, "×") : null);
  }));
}

function setFilter(name, value) {
  if (value) filters[name] = value;
  else delete filters[name];
  sessionStorage.setItem("filters", JSON.stringify(filters));
  showFilters();
  withoutOthers(next);
}

function showView(name) {
  for (const view of document.querySelectorAll(".view")) view.hidden = view.id !== `view-${name}`;
  for (const button of document.querySelectorAll("[data-view]"))
    if (button.dataset.view === name) button.setAttribute("aria-current", "page");
    else button.removeAttribute("aria-current");
  find("filters").hidden = name !== "review";
  if (name === "catalogue") showCatalogue(find("view-catalogue"));
  if (name === "progress") showProgress(find("view-progress"), async number => {
    showView("review");
    show(await get("question", {encounter: number}));
  });
}

document.addEventListener("click", event => {
  const button = event.target.closest("[data-action], [data-view]");
  if (button?.dataset.view) showView(button.dataset.view);
  else if (button) actions[button.dataset.action]();
});

document.addEventListener("keydown", event => {
  const writes = event.target.matches("input, textarea, select");
  if (writes && event.target.id === "note" && ["Enter", "Escape"].includes(event.key)) event.target.blur();
  if (writes || event.ctrlKey || event.altKey || event.metaKey || find("help").open) return;
  const chosen = ofKey(event.key);
  const action = chosen ? "choose" : KEYS[event.key];
  if (!action || find("view-review").hidden) return;
  event.preventDefault();
  if (chosen) chooseOther(chosen);
  else if (!event.repeat || action.startsWith("zoom")) actions[action]();
});

find("go").addEventListener("change", event => withoutOthers(async () => {
  const individual = event.target.value.trim();
  event.target.value = "";
  event.target.blur();
  if (!individual || !question) return;
  const found = await get("question", {encounter: question.encounter.number, individual});
  alertUser("");
  await showOther(found.choice);
}));

// Back and forward: the question of that place, as it is now.
window.addEventListener("popstate", event => {
  if (event.state) withoutOthers(async () => show(await get("question", event.state), false));
});


withoutOthers(async () => {
  const kept = unsent();
  const before = history.state;
  // The token is not for the history of the browser.
  history.replaceState(before, "", `/${location.hash}`);
  showFilters();
  if (kept) show(await send(kept));
  else if (before) show(await get("question", before), false);
  else await next();
});
