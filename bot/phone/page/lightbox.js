// A photo over the whole window: fits it, zooms by click, wheel, pinch and keys, moves by dragging; Esc, a tap beside
// the photo or the button closes it.

import { local } from "./api.js";
import { $, fill } from "./dom.js";
import { messages, words } from "./model.js";

const LARGEST = 8;
const STEP = 1.5;
const STILL = 6; // pixels a finger may move and still tap
const view = { scale: 1, x: 0, y: 0 };
const fingers = new Map(); // pointer id -> [x, y]
let shown = 0;
let moved = 0;

export function openPhoto(id) {
  show(id);
  $("lightbox").showModal();
}

function show(id) {
  const message = messages.get(id);
  shown = id;
  $("lightbox-image").src = $("lightbox-save").href = local(message.photo);
  $("lightbox-image").alt = words(message) || "Photo";
  $("lightbox-save").download = decodeURIComponent(local(message.photo).split("/").at(-1));
  fill($("lightbox-caption"), words(message));
  $("lightbox").classList.toggle("captioned", Boolean(words(message)));
  $("lightbox-previous").hidden = !neighbour(-1);
  $("lightbox-next").hidden = !neighbour(1);
  place(1, 0, 0);
}

/** The photo before or after this one in the chat. */
function neighbour(step) {
  const photos = [...messages.values()].filter((each) => each.photo).map((each) => each.message_id).sort((a, b) => a - b);
  return photos[photos.indexOf(shown) + step];
}

function turn(step) {
  const id = neighbour(step);
  if (id) show(id);
}

function place(scale, x, y) {
  Object.assign(view, { scale, x: scale === 1 ? 0 : x, y: scale === 1 ? 0 : y });
  $("lightbox-image").style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
  $("lightbox-stage").classList.toggle("zoomed", scale > 1);
}

/** Zooms by a factor; the point of the window under the pointer stays where it is. */
function zoom(factor, [x, y] = [innerWidth / 2, innerHeight / 2]) {
  const scale = Math.min(LARGEST, Math.max(1, view.scale * factor));
  const box = $("lightbox-image").getBoundingClientRect();
  const ratio = scale / view.scale - 1;
  place(scale, view.x - (x - box.left) * ratio, view.y - (y - box.top) * ratio);
}

function press(event) {
  $("lightbox-stage").setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, [event.clientX, event.clientY]);
  if (fingers.size === 1) moved = 0;
}

function drag(event) {
  const before = fingers.get(event.pointerId);
  if (!before) return;
  const now = [event.clientX, event.clientY];
  moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
  if (fingers.size === 2) pinch(event.pointerId, before, now);
  else if (view.scale > 1) place(view.scale, view.x + now[0] - before[0], view.y + now[1] - before[1]);
  $("lightbox-stage").classList.toggle("dragging", view.scale > 1 && moved > STILL);
  fingers.set(event.pointerId, now);
}

function pinch(id, before, now) {
  const other = [...fingers].find(([key]) => key !== id)[1];
  const spread = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
  const middle = [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2];
  zoom(spread(now) / Math.max(1, spread(before)), middle);
}

function release(event) {
  const alone = fingers.size === 1;
  if (!fingers.delete(event.pointerId)) return;
  $("lightbox-stage").classList.remove("dragging");
  if (alone && moved <= STILL && event.type === "pointerup") tapped([event.clientX, event.clientY]);
}

function tapped(point) {
  const box = $("lightbox-image").getBoundingClientRect();
  const beside = point[0] < box.left || point[0] > box.right || point[1] < box.top || point[1] > box.bottom;
  if (beside) $("lightbox").close();
  else if (view.scale > 1) place(1, 0, 0);
  else zoom(2.5, point);
}

const KEYS = {
  "+": () => zoom(STEP),
  "=": () => zoom(STEP),
  "-": () => zoom(1 / STEP),
  "0": () => place(1, 0, 0),
  ArrowLeft: () => turn(-1),
  ArrowRight: () => turn(1),
};

$("lightbox-stage").addEventListener("pointerdown", press);
$("lightbox-stage").addEventListener("pointermove", drag);
$("lightbox-stage").addEventListener("pointerup", release);
$("lightbox-stage").addEventListener("pointercancel", release);
$("lightbox-stage").addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY / 400), [event.clientX, event.clientY]);
}, { passive: false });
$("lightbox").addEventListener("keydown", (event) => KEYS[event.key]?.());
$("lightbox").addEventListener("close", () => { fingers.clear(); $("lightbox-image").removeAttribute("src"); });
$("lightbox-close").addEventListener("click", () => $("lightbox").close());
$("lightbox-in").addEventListener("click", () => zoom(STEP));
$("lightbox-out").addEventListener("click", () => zoom(1 / STEP));
$("lightbox-previous").addEventListener("click", () => turn(-1));
$("lightbox-next").addEventListener("click", () => turn(1));
