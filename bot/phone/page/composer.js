// The box one writes in: sends, answers, corrects, recalls.

import * as api from "./api.js";
import * as commands from "./commands.js";
import { $, fill } from "./dom.js";
import { said, sender, summary } from "./model.js";
import { toast } from "./notices.js";

let sent = () => {};
let thread = null; // the message at the top of the thread that is open
let answering = null;
let correcting = null;
let recalled = -1; // how many own texts back

/** `onSent` is called after the phone has taken a message. */
export function prepareComposer(onSent) {
  sent = onSent;
  commands.prepareCommands((command) => { clear(); send(command); });
  $("text").addEventListener("input", typed);
  $("text").addEventListener("keydown", pressed);
  $("composer").addEventListener("submit", submit);
  $("context-close").addEventListener("click", () => { cancel(); focus(); });
  if (matchMedia("(hover: hover)").matches) focus();
}

export const focus = () => $("text").focus({ preventScroll: true });

/** Puts text at the end of what is written. */
export function type(text) {
  focus();
  $("text").setRangeText(text, $("text").selectionStart, $("text").selectionEnd, "end");
  typed();
}

export function answer(message) {
  [answering, correcting] = [message, null];
  explain("reply", `Reply to ${sender(message)}`, summary(message));
}

export function correct(message) {
  [answering, correcting] = [null, message];
  explain("edit", "Edit message", summary(message));
  write(message.text);
}

/** While a thread is open, what is written goes there. */
export function inThread(message) {
  thread = message;
  $("text").placeholder = message ? "Reply in this thread" : "Message";
}

function explain(name, title, text) {
  $("context").hidden = false;
  $("context-icon").setAttribute("href", `#i-${name}`);
  $("context-title").textContent = title;
  fill($("context-text"), text);
  focus();
}

/** Gives up an answer or a correction; false when there was none. */
function cancel() {
  if (!answering && !correcting) return false;
  if (correcting) clear();
  answering = correcting = null;
  $("context").hidden = true;
  return true;
}

export async function send(text) {
  const [edited, replyTo] = [correcting, answering ?? thread];
  if (!edited || $("text").value === "") cancel();
  try {
    await (edited ? api.correct(edited.message_id, text) : api.say(text, replyTo?.message_id));
    sent();
  } catch (error) {
    toast(error.message);
    if (!$("text").value) write(text);
  }
}

function submit(event) {
  event.preventDefault();
  const text = $("text").value.trim();
  clear();
  if (text) send(text);
}

function typed() {
  recalled = -1;
  grow();
  commands.suggest($("text").value);
}

function write(text) {
  $("text").value = text;
  $("text").setSelectionRange(text.length, text.length);
  grow();
  commands.close();
}

function clear() {
  write("");
  recalled = -1;
}

/** For browsers in which a text field does not grow by itself. */
function grow() {
  if (CSS.supports("field-sizing", "content")) return;
  $("text").style.height = "auto";
  $("text").style.height = `${$("text").scrollHeight + 2}px`;
}

const KEYS = { Enter: enter, Escape: escape, Tab: complete, ArrowUp: up, ArrowDown: down };

/** A key that was used for something is not passed on. */
function pressed(event) {
  if (event.isComposing || !KEYS[event.key]?.(event)) return;
  event.preventDefault();
  event.stopPropagation();
}

function enter(event) {
  if (event.shiftKey) return false;
  const command = commands.choice();
  if (command) {
    clear();
    send(command);
  } else {
    $("composer").requestSubmit();
  }
  return true;
}

function escape() {
  if (commands.isOpen()) commands.close();
  else return cancel();
  return true;
}

function complete(event) {
  const command = event.shiftKey ? null : commands.choice(true);
  if (command) write(`${command} `);
  return Boolean(command);
}

function up(event) {
  if (commands.isOpen()) commands.choose(-1);
  else if (event.ctrlKey || event.metaKey) correctLast();
  else return recall(1);
  return true;
}

function down() {
  if (commands.isOpen()) commands.choose(1);
  else return recall(-1);
  return true;
}

function correctLast() {
  const [last] = said();
  if (last) correct(last);
}

/** Own texts, back and forth, as long as the box holds nothing else. */
function recall(step) {
  const texts = [...new Set(said().map((message) => message.text))];
  const untouched = $("text").value === (texts[recalled] ?? "");
  if (!untouched || correcting || recalled + step < -1 || recalled + step >= texts.length) return false;
  recalled += step;
  write(texts[recalled] ?? "");
  return true;
}
