// The chat page: shows what the JSON face tells and acts through it.

import * as api from "./api.js";
import * as composer from "./composer.js";
import { $, fill } from "./dom.js";
import { openPhoto } from "./lightbox.js";
import { copy, openMenu } from "./menu.js";
import { chat, learn, messages, summary } from "./model.js";
import { alarm, announce, showAction, showConnected, toast } from "./notices.js";
import { Reading } from "./reading.js";
import { openThread, prepareThread, threadList, updateThread } from "./thread.js";
import { Timeline } from "./timeline.js";

const FIRST = 200; // messages that the page comes with
const MORE = 100;
const WAITING_SECONDS = 5;
const timeline = new Timeline($("scroll"), $("messages"));
const reading = new Reading(timeline);
const waiting = new Map(); // callback_query_id -> the tapped button
let fetching = null;
let again = false;
let paging = null;

// ---------------------------------------------------------------- what the phone tells

/** Fetches what changed; calls during a fetch lead to one more, never to two at once. */
function refresh() {
  again = Boolean(fetching);
  fetching ??= fetchChanges().finally(() => {
    fetching = null;
    if (again) refresh();
  });
  return fetching;
}

async function fetchChanges() {
  try {
    take(await api.changesSince(chat.cursor));
  } catch {
    showConnected(false);
  }
}

/** Shows an answer of the phone; older messages that changed, but are not loaded yet, are left for later. */
function take(answer) {
  const newest = timeline.last ?? 0;
  const news = learn(answer);
  const shown = news.changed.filter((message) => message.message_id >= (timeline.first ?? 0));
  const arrived = shown.filter((message) => message.message_id > newest && message.from === "bot");
  if (arrived.length) showAction(null);
  timeline.apply(shown, news.gone);
  spread(news);
  announce(arrived);
  reading.arrived(arrived);
  if (touchesPins(news)) describe();
  $("empty").hidden = timeline.size > 0;
}

function touchesPins({ changed, gone }) {
  const pins = new Set(chat.pinned.map((message) => message.message_id));
  return gone.some((id) => pins.has(id)) || changed.some((message) => message.pinned || pins.has(message.message_id));
}

/** Redraws what depends on the messages that changed: quotes of them, and counts of replies. */
function spread(news) {
  const touched = new Set(news.changed.map((message) => message.message_id));
  const quotes = [...messages.values()].filter((message) => touched.has(message.reply_to)).map((message) => message.message_id);
  const ids = [...quotes, ...news.recounted];
  timeline.redraw(ids);
  threadList.redraw(ids);
  updateThread(news);
}

async function describe() {
  try {
    const about = await api.about();
    introduce(about);
    return about;
  } catch {
    showConnected(false);
    return null;
  }
}

function introduce(about) {
  Object.assign(chat, { bot: about.bot.name, commands: about.commands, pinned: about.pinned });
  $("name").textContent = about.bot.name;
  $("avatar").textContent = about.bot.name.slice(0, 1);
  if (about.bot.description) $("description").textContent = about.bot.description;
  $("pin").hidden = !about.pinned.length;
  fill($("pin-text"), about.pinned.length ? summary(about.pinned[0]) : "");
  showUsers(about);
  reading.look();
}

function showUsers({ users, owner_id: owner }) {
  const current = Number(api.userId ?? owner);
  $("user-label").hidden = users.length < 2 && current === owner;
  if (!users.some((user) => user.user_id === current)) users.push({ user_id: current, name: `Stranger ${current}` });
  $("user").replaceChildren(...users.map((user) => new Option(user.name, user.user_id, false, user.user_id === current)));
}

function showAnswer(answer) {
  waiting.get(answer.callback_query_id)?.classList.remove("waiting");
  waiting.delete(answer.callback_query_id);
  if (answer.text) (answer.alert ? alarm : toast)(answer.text);
}

// ---------------------------------------------------------------- earlier messages

/** Draws the page of messages before the first; false when there are none. */
async function loadEarlier(count) {
  const answer = await api.messagesBefore(timeline.first, count);
  const news = learn({ ...answer, cursor: 0 }); // the cursor goes on only with the changes
  timeline.apply(answer.messages);
  spread(news);
  $("earlier").hidden = answer.messages.length < count;
  return answer.messages.length > 0;
}

/** One page at a time. */
function earlier(count = MORE) {
  paging ??= loadEarlier(count).catch((error) => toast(error.message)).finally(() => {
    paging = null;
    watchTop(); // there may be room for one more
  });
  return paging;
}

const nearTop = new IntersectionObserver(([seen]) => { if (seen.isIntersecting && timeline.size) earlier(); }, {
  root: $("scroll"),
  rootMargin: "900px",
});

function watchTop() {
  nearTop.disconnect();
  nearTop.observe($("earlier"));
}

/** Goes to a message, loading the pages up to it. */
async function jump(id) {
  while (id < timeline.first && !$("earlier").hidden && (await earlier(FIRST))) continue;
  if (!timeline.reveal(id)) toast("That message is gone");
}

// ---------------------------------------------------------------- what a click does

async function tap(message, button) {
  button.classList.add("waiting");
  setTimeout(() => button.classList.remove("waiting"), WAITING_SECONDS * 1000);
  try {
    const answer = await api.tap(message.message_id, button.dataset.data);
    waiting.set(answer.callback_query_id, button);
  } catch (error) {
    button.classList.remove("waiting");
    toast(error.message);
  }
}

const DEEDS = { answer: composer.answer, correct: composer.correct, thread: (message) => openThread(message) };
const ACTS = {
  jump: (message, button) => (button.closest("#thread") && threadList.reveal(message.reply_to)) || jump(message.reply_to),
  photo: (message) => openPhoto(message.message_id),
  tap,
  copy: (message, button) => copy(button.dataset.copy),
  thread: openThread,
  more: (message, button) => openMenu(message, button, DEEDS),
};

function clicked(event) {
  for (const line of document.querySelectorAll(".touched")) line.classList.remove("touched");
  event.target.closest(".message")?.classList.add("touched"); // a finger does not hover
  const target = event.target.closest("[data-act], .command, .spoiler:not(.open)");
  if (!target || event.ctrlKey || event.metaKey) return;
  if (target.classList.contains("spoiler")) return open(target);
  event.preventDefault();
  if (target.classList.contains("command")) composer.send(target.textContent.trim());
  else ACTS[target.dataset.act](messages.get(Number(target.closest(".message").dataset.id)), target);
}

function open(spoiler) {
  spoiler.classList.add("open");
  for (const name of ["role", "tabindex", "aria-label"]) spoiler.removeAttribute(name);
}

function doubleClicked(event) {
  const line = event.target.closest(".message");
  if (line && !event.target.closest("button, a, pre")) composer.answer(messages.get(Number(line.dataset.id)));
}

/** Keys outside every field: "/" begins a command, Enter opens a spoiler, Esc goes to the box. */
function pressed(event) {
  if (event.target.matches?.(".spoiler") && ["Enter", " "].includes(event.key)) open(event.target);
  else if (event.target.closest?.("input, textarea, select, dialog, [popover]") || event.ctrlKey || event.metaKey || event.altKey) return;
  else if (event.key === "/") composer.type("/");
  else if (event.key === "Escape" && $("thread").hidden) composer.focus();
  else return;
  event.preventDefault();
}

// ---------------------------------------------------------------- start

function prepare() {
  document.addEventListener("click", clicked);
  document.addEventListener("dblclick", doubleClicked);
  document.addEventListener("keydown", pressed);
  composer.prepareComposer(() => refresh().then(() => reading.answered()));
  $("pin").addEventListener("click", () => chat.pinned.length && jump(chat.pinned[0].message_id));
  $("user").addEventListener("change", () => { location.search = api.asUser($("user").value); });
  $("earlier").addEventListener("click", () => earlier());
  watchTop();
}

/** Shows what the page came with, and where its reader left off. */
function begin({ about, history: first }) {
  const newest = first.messages.at(-1)?.message_id ?? 0;
  const seen = reading.remembered(newest);
  introduce(about);
  $("earlier").hidden = first.messages.length < FIRST;
  timeline.apply(learn(first).changed);
  $("empty").hidden = timeline.size > 0;
  const news = first.messages.filter((message) => message.from === "bot" && message.message_id > seen);
  timeline.toBottom();
  if (seen && news.length) {
    timeline.markUnread(news[0].message_id);
    timeline.revealUnread("instant");
    reading.arrived(news);
  }
  reading.look();
}

/** The line stands (again): what was missed meanwhile is fetched, also what the bot is seen doing. */
async function catchUp() {
  showConnected(true);
  refresh();
  const about = await describe();
  if (about?.action) timeline.steady(() => showAction(about.action));
}

function listen() {
  api.listen({
    open: catchUp,
    error: () => showConnected(false),
    change: refresh,
    commands: describe,
    action: ({ action }) => timeline.steady(() => showAction(action)),
    answer: showAnswer,
  });
}

const start = JSON.parse($("start").textContent); // what the page came with
prepare();
showConnected(true);
begin(start);
prepareThread(spread);
if (start.about.action) showAction(start.about.action);
listen();
