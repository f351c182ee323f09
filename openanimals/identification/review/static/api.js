// Talking to the program, and texts. An answer is kept until it is known to be saved.

export const texts = JSON.parse(document.getElementById("texts").textContent);
const token = document.querySelector("meta[name=token]").content;
const version = document.querySelector("meta[name=version]").content;
const PENDING = `pending answer ${token}`; // with another token, numbers are of other encounters
const PAUSE = 1000; // milliseconds between two tries

export function say(name, values = {}) {
  return texts[name].replace(/\{(\w+)\}/g, (whole, key) => values[key] ?? whole);
}

export function percent(chance) {
  const shown = Math.min(Math.max(Math.round(100 * chance), 1), 99) + "\u00a0%";
  if (chance >= 0.995) return say("over", {p: shown});
  return chance < 0.005 ? say("under", {p: shown}) : shown;
}

// The end of a path: its folders are mostly the same, and are told elsewhere.
export function short(name) {
  const parts = name.split("/");
  return name.length > 32 && parts.length > 2 ? `…/${parts.slice(-2).join("/")}` : name;
}

// The address of a photograph: rows are of this program's catalogue, not of one that the browser has kept.
export const photograph = (one, size) => `/photograph/${one.row}/${size}?${version}`;

// An element with attributes and children; texts become text, never markup.
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter(child => child !== null && child !== ""));
  return made;
}

export function alertUser(text) {
  const line = document.getElementById("alert");
  line.textContent = text;
  line.hidden = !text;
}

export function announce(text) {
  document.getElementById("live").textContent = text;
}

async function read(response) {
  const said = await response.json().catch(() => ({error: response.statusText}));
  if (!response.ok) throw Object.assign(new Error(said.error), {status: response.status});
  return said;
}

export async function get(path, values = {}) {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== "");
  return read(await fetch(`/api/${path}?${new URLSearchParams(given)}`));
}

export async function post(path, body) {
  const headers = {"Content-Type": "application/json", "X-Token": token};
  return read(await fetch(`/api/${path}`, {method: "POST", headers, body: JSON.stringify(body)}));
}

// Send an answer until it is saved. Sent twice it counts once, so a try too many does no harm.
export async function send(answer) {
  sessionStorage.setItem(PENDING, JSON.stringify(answer));
  for (let away = false; ; away = true) {
    try {
      const said = await post("answer", answer);
      sessionStorage.removeItem(PENDING);
      alertUser("");
      if (away) announce(say("back"));
      return said;
    } catch (error) {
      if (error.status && error.status !== 503) {
        if (error.status !== 403) sessionStorage.removeItem(PENDING);
        throw error;
      }
      alertUser(error.status ? say("cannot_save", {problem: error.message}) : say("away"));
      await new Promise(done => setTimeout(done, PAUSE));
    }
  }
}

export function unsent() {
  return JSON.parse(sessionStorage.getItem(PENDING));
}
