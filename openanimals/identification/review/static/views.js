// The catalogue as it is now, and how far the review is.

import {alertUser, element, get, percent, photograph, post, say} from "./api.js";

const thumbnail = (one, alt) => element("img", {src: photograph(one, "thumb"), alt, loading: "lazy"});
const heading = (level, name) => element(level, {}, say(name));

// Do something that the program may refuse, and say why if it does.
async function attempt(action) {
  try {
    alertUser("");
    await action();
  } catch (error) {
    alertUser(error.message || say("away"));
  }
}

// A field and a button for one thing to do.
function form(name, label, action) {
  const field = element("input", {required: true, autocomplete: "off", "aria-label": say(label), placeholder: say(label)});
  return element("form", {class: "line", onsubmit: event => {
    event.preventDefault();
    attempt(() => action(field.value.trim()));
  }}, field, element("button", {}, say(name)));
}

const decide = (kind, first, second = "", rows = []) => post("decide", {kind, first, second, rows});

export async function showCatalogue(view, wanted = "") {
  await attempt(async () => {
    const list = element("ul", {class: "cards"});
    const found = await get("catalogue", {find: wanted});
    const more = element("button", {type: "button", hidden: found.individuals.length >= found.total}, say("more"));
    const card = one => element("li", {}, element("button", {type: "button", onclick: () => showIndividual(view, one.name)},
      thumbnail(one.photograph, ""), element("b", {}, element("bdi", {}, one.name)), element("span", {}, say("count", {n: one.count}))));
    list.append(...found.individuals.map(card));
    more.addEventListener("click", () => attempt(async () => {
      const next = await get("catalogue", {find: wanted, start: list.children.length});
      list.append(...next.individuals.map(card));
      more.hidden = list.children.length >= next.total;
    }));
    const again = () => showCatalogue(view, wanted);
    const conflicts = found.conflicts.map(each => element("li", {}, element("p", {}, each.text),
      ...each.decisions.map(number => undoButton(number, again))));
    view.replaceChildren(
      heading("h2", "catalogue"),
      element("p", {}, say("individuals", {n: found.total, unknown: found.unknown})),
      form("find", "find_label", name => showCatalogue(view, name)),
      element("section", {class: conflicts.length ? "conflicts" : ""}, heading("h3", "conflicts"),
        conflicts.length ? element("ul", {}, ...conflicts) : element("p", {}, say("no_conflicts"))),
      list, more);
  });
}

function undoButton(number, then) {
  return element("button", {type: "button", onclick: () => attempt(async () => {
    await decide("undo", String(number));
    await then();
  })}, say("undo_decision", {n: number}));
}

async function showIndividual(view, name) {
  await attempt(async () => {
    const found = await get("catalogue", {name});
    const again = () => showIndividual(view, found.name);
    const boxes = found.photographs.map(one => {
      const facts = [one.name, one.viewpoint, one.date, one.place].filter(Boolean).join(" · ");
      const box = element("input", {type: "checkbox", value: one.row});
      return {box, card: element("li", {}, element("label", {}, thumbnail(one, facts), box, " ", element("bdi", {}, facts)))};
    });
    const chosen = () => boxes.filter(({box}) => box.checked).map(({box}) => Number(box.value));
    view.replaceChildren(
      element("p", {}, element("button", {type: "button", onclick: () => showCatalogue(view)}, say("back_to_list"))),
      element("h2", {}, element("bdi", {}, found.name)),
      element("div", {class: "forms"},
        form("rename", "rename_label", async to => {
          await decide("rename", found.name, to);
          await showIndividual(view, to);
        }),
        form("merge", "merge_label", async other => {
          await decide("merge", found.name, other);
          await again();
        }),
        element("button", {type: "button", onclick: () => attempt(async () => {
          await decide("split", found.name, "", chosen());
          await again();
        })}, say("split"))),
      element("ul", {class: "cards"}, ...boxes.map(({card}) => card)),
      heading("h3", "history"),
      found.history.length ? element("ol", {class: "history"}, ...found.history.map(each => element("li", {}, each.text, " ",
        each.undone || / undo \d+/.test(each.text) ? null : undoButton(each.number, again))))
        : element("p", {}, say("no_history")));
    view.scrollIntoView();
  });
}

export async function showProgress(view, look) {
  await attempt(async () => {
    const found = await get("progress");
    const total = Object.values(found.answered).reduce((sum, n) => sum + n, 0);
    const share = ([same, both]) => both ? `${say("of", {n: same, total: both})} (${percent(same / both)})` : "–";
    const answers = Object.entries(found.answered).map(([name, n]) => `${say(name)}: ${n}`).join(", ");
    const rows = [
      ["answered", total ? `${total} (${answers})` : "0"], ["worth_asking", found.left], ["skipped", found.skipped],
      ["encounters", found.encounters], ["agreement_again", share(found.again)], ["agreement_others", share(found.others)],
      ["reviewers", Object.entries(found.reviewers).map(([by, n]) => `${by}: ${n}`).join(", ") || "–"],
    ];
    view.replaceChildren(
      heading("h2", "progress"),
      element("progress", {max: Math.max(total + found.left, 1), value: total, "aria-label": say("progress")}),
      element("dl", {}, ...rows.flatMap(([name, text]) => [element("dt", {}, say(name)), element("dd", {}, String(text))])),
      heading("h3", "disagreements"),
      found.disagreements.length ? element("ul", {}, ...found.disagreements.map(each => element("li", {},
        element("button", {type: "button", onclick: () => attempt(() => look(each.encounter))}, say("look", {name: each.name})),
        element("ul", {}, ...each.answers.map(one => element("li", {}, say("said", {...one, answer: say(one.answer)}), one.note ? ` – ${one.note}` : null))))))
        : element("p", {}, say("no_disagreements")));
  });
}
