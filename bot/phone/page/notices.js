// What passes: the line under the bot's name, typing, toasts, alerts, and what a screen reader is told.

import { $, make } from "./dom.js";
import { sender, words } from "./model.js";

const ACTIONS = { typing: "typing…", upload_photo: "sending a photo…", upload_document: "sending a file…" };
const ACTION_SECONDS = 5; // as long as Telegram shows one
const TOAST_SECONDS = 3.5;
let connected = true;
let actionTimer = 0;
let toastTimer = 0;

export function showConnected(now) {
  connected = now;
  if (now) showAction(null);
  else showState("reconnecting…", false);
}

/** What the bot is seen doing; null when nothing. */
export function showAction(action) {
  clearTimeout(actionTimer);
  $("typing").hidden = !action;
  if (!connected) return;
  showState(action ? (ACTIONS[action] ?? "busy…") : "bot", Boolean(action));
  if (action) actionTimer = setTimeout(showAction, ACTION_SECONDS * 1000, null);
}

function showState(text, active) {
  $("state").textContent = text;
  $("state").classList.toggle("active", active);
}

export function toast(text) {
  clearTimeout(toastTimer);
  $("toast").textContent = text;
  $("toast").hidden = false;
  toastTimer = setTimeout(() => { $("toast").hidden = true; }, TOAST_SECONDS * 1000);
}

export function alarm(text) {
  $("alert-text").textContent = text;
  $("alert").showModal();
}

/** Read out politely; only the last few stay in the region. */
export function announce(news) {
  for (const message of news) {
    const about = words(message).slice(0, 300) || (message.photo ? "a photo" : "a document");
    $("live").append(make("p", { textContent: `${sender(message)}: ${about}` }));
  }
  while ($("live").childElementCount > 5) $("live").firstElementChild.remove();
}
