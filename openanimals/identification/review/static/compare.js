// Two photographs side by side, zoomed and moved together.

import {alertUser, element, get, photograph, say, short} from "./api.js";

const MOST = 12; // times enlarged
const zoom = {scale: 1, x: 0, y: 0}; // x and y: shares of a frame from its middle
const sides = [];

function clampZoom() {
  zoom.scale = Math.min(Math.max(zoom.scale, 1), MOST);
  const reach = (zoom.scale - 1) / 2;
  zoom.x = Math.min(Math.max(zoom.x, -reach), reach);
  zoom.y = Math.min(Math.max(zoom.y, -reach), reach);
  for (const side of sides) side.place();
}

// The point of a frame (shares from its middle) stays where it is.
export function zoomBy(factor, x = 0, y = 0) {
  const before = zoom.scale;
  zoom.scale = Math.min(Math.max(before * factor, 1), MOST);
  const ratio = zoom.scale / before;
  zoom.x = x - (x - zoom.x) * ratio;
  zoom.y = y - (y - zoom.y) * ratio;
  clampZoom();
}

export function resetZoom() {
  Object.assign(zoom, {scale: 1, x: 0, y: 0});
  clampZoom();
}

export class Side {
  constructor(id, chosen) {
    this.root = document.getElementById(id);
    this.chosen = chosen; // is told when another photograph is shown
    for (const name of ["frame", "layer", "missing", "facts", "strip"])
      this[name] = this.root.querySelector(`.${name}`);
    this.image = this.layer.querySelector("img");
    this.svg = this.layer.querySelector("svg");
    this.photographs = [];
    this.pointers = new Map();
    sides.push(this);
    this.listen();
    new ResizeObserver(() => this.place()).observe(this.frame);
  }

  get current() {
    return this.photographs[this.index];
  }

  // Show photographs, of which one is chosen; a promise of when it can be seen.
  show(photographs, row, total) {
    this.photographs = photographs;
    this.strip.replaceChildren(
      ...(photographs.length > 1 ? photographs : []).map((one, n) => element("li", {},
        element("button", {
          type: "button", "aria-label": `${say("photograph_of", {n: n + 1, total})} ${one.viewpoint}`,
          onclick: () => this.choose(n),
        }, element("img", {src: photograph(one, "thumb"), alt: "", loading: "lazy"}),
          element("span", {class: "seen-from"}, one.viewpoint)))),
      total > photographs.length ? element("li", {}, say("more_photographs", {n: total - photographs.length})) : "",
    );
    return this.choose(Math.max(photographs.findIndex(one => one.row === row), 0));
  }

  choose(index) {
    this.index = index;
    const one = this.current;
    [...this.strip.querySelectorAll("button")].forEach(
      (button, n) => button.setAttribute("aria-current", n === index));
    const parts = [one.viewpoint, one.date, one.place, short(one.name)].filter(Boolean);
    this.facts.title = one.name;
    this.facts.replaceChildren(...parts.flatMap((part, n) => [n ? " · " : "", element("bdi", {}, part)]));
    this.svg.replaceChildren();
    this.missing.hidden = true;
    // Until it is there nothing is shown: the one before is another animal.
    this.layer.classList.remove("there");
    const source = photograph(one, "full");
    this.settle?.(); // nobody need wait for what is not shown any more
    const seen = new Promise(done => {
      this.settle = done;
      this.image.onload = () => {
        this.layer.classList.add("there");
        this.place();
        done();
      };
      this.image.onerror = async () => {
        const problem = await fetch(source).then(answer => answer.text()).catch(() => "");
        if (this.current !== one) return;
        this.missing.textContent = say("cannot_show", {name: one.name, problem});
        this.missing.hidden = false;
        done();
      };
    });
    this.image.alt = parts.join(", ");
    this.image.src = source;
    this.chosen();
    return seen;
  }

  turn(step) {
    const count = this.photographs.length;
    if (count > 1) this.choose((this.index + step + count) % count);
  }

  place() {
    const {clientWidth: width, clientHeight: height} = this.frame;
    const ratio = this.image.naturalWidth / this.image.naturalHeight || 1;
    const across = Math.min(width, height * ratio);
    this.layer.style.width = `${across}px`;
    this.layer.style.height = `${across / ratio}px`;
    this.layer.style.transform =
      `translate(-50%, -50%) translate(${zoom.x * width}px, ${zoom.y * height}px) scale(${zoom.scale})`;
    this.frame.classList.toggle("zoomed", zoom.scale > 1);
  }

  // Circles of the matched spots, numbered alike on both sides.
  mark(spots) {
    const height = 1000 * this.image.naturalHeight / this.image.naturalWidth || 1000;
    const draw = (name, attributes, text = "") => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
      made.textContent = text;
      return made;
    };
    this.svg.setAttribute("viewBox", `0 0 1000 ${height}`);
    this.svg.replaceChildren(...spots.flatMap(([x, y, radius], n) => {
      const place = {cx: x * 1000, cy: y * height, r: Math.max(radius * 1000, 8)};
      return [
        draw("circle", {...place, class: "under"}), draw("circle", place),
        draw("text", {x: place.cx, y: place.cy}, n + 1),
      ];
    }));
  }

  position(event) {
    const box = this.frame.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width - 0.5, (event.clientY - box.top) / box.height - 0.5];
  }

  listen() {
    this.frame.addEventListener("wheel", event => {
      event.preventDefault();
      zoomBy(Math.exp(-event.deltaY / 400), ...this.position(event));
    }, {passive: false});
    this.frame.addEventListener("pointerdown", event => {
      this.pointers.set(event.pointerId, this.position(event));
      if (zoom.scale > 1) this.frame.setPointerCapture(event.pointerId);
    });
    this.frame.addEventListener("pointermove", event => {
      const before = this.pointers.get(event.pointerId);
      if (!before) return;
      const now = this.position(event);
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
      if (other) { // a pinch
        const far = point => Math.hypot(point[0] - other[0], point[1] - other[1]) || 0.01;
        zoomBy(far(now) / far(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
      } else {
        zoom.x += now[0] - before[0];
        zoom.y += now[1] - before[1];
        clampZoom();
      }
      this.pointers.set(event.pointerId, now);
    });
    for (const kind of ["pointerup", "pointercancel", "pointerleave"])
      this.frame.addEventListener(kind, event => this.pointers.delete(event.pointerId));
  }
}

// Draw what matches in the two photographs that are shown, or nothing.
export async function markSpots(left, right, wanted) {
  for (const side of [left, right]) side.svg.replaceChildren();
  if (!wanted || !left.current || !right.current) return;
  const [first, second] = [left.current, right.current];
  const spots = await get("spots", {first: first.row, second: second.row}).catch(() => null);
  if (!spots || left.current !== first || right.current !== second) return;
  left.mark(spots[0]);
  right.mark(spots[1]);
  alertUser(spots[0].length ? "" : say("no_spots"));
}
