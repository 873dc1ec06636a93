// What can be done with one message: answer it, copy it, correct it, read its thread.

import { $, icon, make } from "./dom.js";
import { repliesBelow, words } from "./model.js";
import { toast } from "./notices.js";

let opener = null;

/** `deeds` are called with the message: answer, correct, thread. */
export function openMenu(message, button, deeds) {
  opener = button;
  $("actions").replaceChildren(...items(message, deeds).map(([name, text, deed]) => item(name, text, deed)));
  $("actions").showPopover();
  button.setAttribute("aria-expanded", "true");
  beside(button.getBoundingClientRect());
  $("actions").firstElementChild.focus();
}

function items(message, deeds) {
  const own = message.from === "user" && message.text;
  return [
    ["reply", "Reply", () => deeds.answer(message)],
    words(message) && ["copy", "Copy text", () => copy(words(message))],
    own && ["edit", "Edit", () => deeds.correct(message)],
    (message.thread || repliesBelow(message)) && ["thread", "Show thread", () => deeds.thread(message)],
  ].filter(Boolean);
}

function item(name, text, deed) {
  const button = make("button", { type: "button" }, icon(name), text);
  button.setAttribute("role", "menuitem");
  button.addEventListener("click", () => {
    $("actions").hidePopover();
    deed();
  });
  return button;
}

function beside({ left, right, bottom, top }) {
  const { offsetWidth: width, offsetHeight: height } = $("actions");
  const x = left + width < innerWidth - 8 ? left : right - width;
  const y = bottom + height < innerHeight - 8 ? bottom : top - height;
  $("actions").style.left = `${Math.max(8, x)}px`;
  $("actions").style.top = `${Math.max(8, y)}px`;
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied");
  } catch {
    toast("The browser does not let this page copy");
  }
}

$("actions").addEventListener("toggle", (event) => {
  if (event.newState !== "closed") return;
  opener?.setAttribute("aria-expanded", "false");
  if ($("actions").contains(document.activeElement)) opener?.focus();
});
$("actions").addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const all = [...$("actions").children];
  all.at((all.indexOf(document.activeElement) + step) % all.length).focus();
});
