// The list of commands: by the "/" button, and while one is being typed.

import { $, make } from "./dom.js";
import { chat } from "./model.js";

let pick = () => {};

/** `onPick` is called with a command such as "/status" when one is chosen. */
export function prepareCommands(onPick) {
  pick = onPick;
  $("slash").addEventListener("click", () => (isOpen() ? close() : open(chat.commands)));
  document.addEventListener("pointerdown", (event) => { if (!event.target.closest("#composer")) close(); });
}

export const isOpen = () => !$("menu").hidden;
export const close = () => open([]);

/** Shows what begins with, or else holds, the command that is being typed. */
export function suggest(typed) {
  const match = /^\/(\w*)$/.exec(typed);
  const wanted = match?.[1].toLowerCase();
  const begin = chat.commands.filter((each) => match && each.command.startsWith(wanted));
  const hold = chat.commands.filter((each) => match && wanted && each.command.includes(wanted, 1) && !begin.includes(each));
  open([...begin, ...hold]);
}

function open(commands) {
  $("menu").replaceChildren(...commands.map(suggestion));
  $("menu").hidden = commands.length === 0;
  $("menu").scrollTop = 0;
  $("slash").setAttribute("aria-expanded", String(isOpen()));
  $("text").removeAttribute("aria-activedescendant");
}

function suggestion({ command, description }) {
  const button = make("button", { type: "button", className: "suggestion", id: `command-${command}`, tabIndex: -1 });
  button.setAttribute("role", "option");
  button.append(make("b", { textContent: `/${command}` }), make("span", { textContent: description }));
  button.addEventListener("click", () => pick(`/${command}`));
  return button;
}

const chosen = () => $("menu").querySelector(".chosen");

/** Moves the choice up or down, around the ends. */
export function choose(step) {
  const options = [...$("menu").children];
  const at = options.indexOf(chosen());
  const next = options.at((at < 0 && step < 0 ? options.length : at) + step - (at === options.length - 1 && step > 0 ? options.length : 0));
  chosen()?.classList.remove("chosen");
  next.classList.add("chosen");
  next.scrollIntoView({ block: "nearest" });
  $("text").setAttribute("aria-activedescendant", next.id);
}

/** The chosen command, or with `orFirst` the uppermost; null when there is none. */
export function choice(orFirst = false) {
  const option = chosen() ?? (orFirst ? $("menu").firstElementChild : null);
  return isOpen() && option ? option.querySelector("b").textContent : null;
}
