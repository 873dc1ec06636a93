// The chat page: shows what the JSON face tells and acts through it. See bot/phone/face.py for the contract.

const PAGE = 200;
const NEAR_BOTTOM = 120;
const $ = (id) => document.getElementById(id);

const query = new URLSearchParams(location.search);
const userId = query.get("user_id");
const known = new Map(); // message_id -> the newest copy of the message
const shown = new Map(); // message_id -> its <li>
const waiting = new Map(); // callback_query_id -> the tapped button
let cursor = 0;
let depth = PAGE;
let commands = [];
let unread = 0;
let answering = null;
let busy = false;
let again = false;
let connected = false;

// ---------------------------------------------------------------- talking to the phone

async function call(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(path, options);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error ?? response.statusText);
  return answer;
}

function address(path, parameters = {}) {
  const all = new URLSearchParams(parameters);
  if (userId) all.set("user_id", userId);
  return all.size ? `${path}?${all}` : path;
}

const signed = (body) => (userId ? { ...body, user_id: Number(userId) } : body);

/** Fetches what changed since the cursor; calls during a fetch lead to one more, never to two at once. */
async function refresh() {
  again = busy;
  if (busy) return;
  busy = true;
  try {
    take(await call(address("/phone/messages", { since: cursor })));
    if (!connected) showConnected(true);
  } catch {
    showConnected(false);
  } finally {
    busy = false;
  }
  if (again) refresh();
}

async function load() {
  const history = await call(address("/phone/messages", { last: depth }));
  $("earlier").hidden = history.messages.length < depth;
  take(history);
}

const describe = async () => introduce(await call(address("/phone/about")));

function introduce(about) {
  commands = about.commands;
  $("name").textContent = document.title = about.bot.name;
  $("avatar").textContent = about.bot.name.slice(0, 1);
  showUsers(about);
}

function listen() {
  const events = new EventSource(address("/phone/events"));
  events.addEventListener("open", () => { refresh(); describe().catch(() => {}); });
  events.addEventListener("error", () => showConnected(false));
  events.addEventListener("change", refresh);
  events.addEventListener("commands", describe);
  events.addEventListener("action", (event) => showAction(JSON.parse(event.data).action));
  events.addEventListener("answer", (event) => showAnswer(JSON.parse(event.data)));
}

// ---------------------------------------------------------------- messages

function take(answer) {
  const pinned = nearBottom();
  cursor = Math.max(cursor, answer.cursor);
  for (const message of answer.messages) show(message);
  for (const id of answer.deleted) remove(id);
  $("empty").hidden = shown.size > 0;
  markDays();
  if (pinned) toBottom();
}

function show(message) {
  const old = shown.get(message.message_id);
  const line = draw(message);
  known.set(message.message_id, message);
  shown.set(message.message_id, line);
  if (old) {
    old.replaceWith(line);
    line.classList.add("flash");
    return;
  }
  const next = [...$("messages").children].findLast((each) => Number(each.dataset.id) < message.message_id);
  next ? next.after(line) : $("messages").prepend(line);
  if (message.from === "bot") {
    showAction(null);
    if (!nearBottom()) count(unread + 1);
  }
}

function remove(id) {
  shown.get(id)?.remove();
  shown.delete(id);
  known.delete(id);
}

function draw(message) {
  const line = $("message").content.firstElementChild.cloneNode(true);
  const part = (name) => line.querySelector(name);
  line.dataset.id = message.message_id;
  line.classList.add("message");
  line.classList.toggle("mine", message.from === "user");
  part(".body").innerHTML = message.html; // escaped by the phone, see bot/phone/formatting.py
  part(".body").hidden = !message.html;
  part(".time").textContent = (message.edit_date ? "edited " : "") + clock(message.date);
  part(".bubble").addEventListener("dblclick", () => answerTo(message));
  if (message.reply_to) drawQuote(part(".quote"), message.reply_to);
  if (message.photo) drawPhoto(part(".photo"), message);
  if (message.document) drawDocument(part(".document"), message.document);
  for (const row of message.buttons) part(".keyboard").append(drawRow(message, row));
  return line;
}

function drawQuote(quote, id) {
  const original = known.get(id);
  quote.hidden = false;
  quote.querySelector("b").textContent = original?.from === "bot" ? $("name").textContent : "You";
  quote.querySelector("span").textContent = original ? summary(original) : "an earlier message";
  quote.addEventListener("click", () => shown.get(id)?.scrollIntoView({ behavior: "smooth", block: "center" }));
}

function drawPhoto(link, message) {
  const image = link.querySelector("img");
  const [width, height] = message.photo_size;
  image.style.width = `min(${width}px, ${(60 * width) / height}vh)`; // room before it is loaded: nothing jumps
  image.style.aspectRatio = `${width} / ${height}`;
  link.hidden = false;
  link.href = image.src = local(message.photo);
}

function drawDocument(link, url) {
  link.hidden = false;
  link.href = local(url);
  link.querySelector(".file").textContent = decodeURIComponent(url.split("/").at(-1));
}

function drawRow(message, row) {
  const line = document.createElement("div");
  for (const button of row) line.append(button.url ? drawLink(button) : drawButton(message, button));
  return line;
}

function drawLink(button) {
  const link = Object.assign(document.createElement("a"), { textContent: `${button.text} ↗`, target: "_blank", rel: "noopener" });
  if (/^https?:/i.test(button.url)) link.href = button.url;
  return link;
}

function drawButton(message, button) {
  const element = Object.assign(document.createElement("button"), { type: "button", textContent: button.text });
  element.addEventListener("click", () => tap(message, button, element));
  return element;
}

const summary = (message) => (message.text ?? message.caption ?? (message.photo ? "photo" : "document")).split("\n")[0];
const clock = (date) => new Date(date * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
const local = (url) => new URL(url).pathname;

function markDays() {
  for (const old of document.querySelectorAll("li.day")) old.remove();
  let last = "";
  for (const [id, line] of [...shown].sort(([a], [b]) => a - b)) {
    const day = new Date(known.get(id).date * 1000).toLocaleDateString([], { weekday: "short", day: "numeric", month: "long" });
    if (day !== last) line.before(Object.assign(document.createElement("li"), { className: "day", textContent: day }));
    last = day;
  }
}

// ---------------------------------------------------------------- acting

async function send(text) {
  const body = answering ? { text, reply_to: answering } : { text };
  answerTo(null);
  try {
    await call("/phone/messages", signed(body));
    toBottom();
    refresh();
  } catch (error) {
    toast(error.message);
    $("text").value ||= text;
  }
}

async function tap(message, button, element) {
  element.classList.add("waiting");
  setTimeout(() => element.classList.remove("waiting"), 5000);
  try {
    const answer = await call("/phone/taps", signed({ message_id: message.message_id, data: button.data }));
    waiting.set(answer.callback_query_id, element);
  } catch (error) {
    element.classList.remove("waiting");
    toast(error.message);
  }
}

function answerTo(message) {
  answering = message?.message_id ?? null;
  $("answering").hidden = !message;
  if (message) {
    $("answering").querySelector("span").textContent = `Reply to: ${summary(message)}`;
    $("text").focus();
  }
}

// ---------------------------------------------------------------- passing events

function showConnected(now) {
  connected = now;
  $("state").classList.remove("active");
  $("state").textContent = now ? "bot" : "reconnecting…";
}

let actionTimer = 0;
function showAction(action) {
  clearTimeout(actionTimer);
  if (!connected) return;
  $("state").classList.toggle("active", Boolean(action));
  $("state").textContent = action ? { typing: "typing…", upload_photo: "sending a photo…", upload_document: "sending a file…" }[action] ?? "busy…" : "bot";
  if (action) actionTimer = setTimeout(showAction, 5000, null); // Telegram shows an action for 5 seconds
}

function showAnswer(answer) {
  waiting.get(answer.callback_query_id)?.classList.remove("waiting");
  waiting.delete(answer.callback_query_id);
  if (!answer.text) return;
  if (!answer.alert) return toast(answer.text);
  $("alert").querySelector("p").textContent = answer.text;
  $("alert").showModal();
}

let toastTimer = 0;
function toast(text) {
  clearTimeout(toastTimer);
  $("toast").textContent = text;
  $("toast").hidden = false;
  toastTimer = setTimeout(() => { $("toast").hidden = true; }, 3500);
}

function showUsers({ users, owner_id: owner }) {
  const current = Number(userId ?? owner);
  $("user-label").hidden = users.length < 2 && current === owner;
  if (!users.some((user) => user.user_id === current)) users.push({ user_id: current, name: `Stranger ${current}` });
  $("user").replaceChildren(...users.map((user) => new Option(user.name, user.user_id, false, user.user_id === current)));
}

// ---------------------------------------------------------------- scrolling

const nearBottom = () => $("scroll").scrollHeight - $("scroll").scrollTop - $("scroll").clientHeight < NEAR_BOTTOM;

function toBottom() {
  $("scroll").scrollTop = $("scroll").scrollHeight;
  count(0);
}

function count(number) {
  unread = number;
  $("unread").textContent = number || "";
}

$("scroll").addEventListener("scroll", () => {
  $("down").hidden = nearBottom();
  if (nearBottom()) count(0);
});
$("down").addEventListener("click", toBottom);
$("earlier").addEventListener("click", async () => {
  const from = $("scroll").scrollHeight - $("scroll").scrollTop;
  depth *= 2;
  await load();
  $("scroll").scrollTop = $("scroll").scrollHeight - from;
});
new ResizeObserver(() => { if ($("down").hidden) toBottom(); }).observe($("scroll"));

// ---------------------------------------------------------------- the command box

function suggest(all) {
  const typed = $("text").value;
  const wanted = all ? "" : /^\/\w*$/.test(typed) ? typed.slice(1) : null;
  const found = wanted === null ? [] : commands.filter((each) => each.command.startsWith(wanted));
  $("menu").replaceChildren(...found.map(suggestion));
  $("menu").hidden = found.length === 0;
  $("slash").setAttribute("aria-expanded", String(found.length > 0));
}

function suggestion({ command, description }) {
  const button = Object.assign(document.createElement("button"), { type: "button" });
  button.setAttribute("role", "option");
  button.append(Object.assign(document.createElement("b"), { textContent: `/${command}` }));
  button.append(Object.assign(document.createElement("span"), { textContent: description }));
  button.addEventListener("click", () => { clearBox(); send(`/${command}`); });
  return button;
}

function choose(step) {
  const options = [...$("menu").children];
  const at = options.findIndex((option) => option.classList.contains("chosen"));
  options[at]?.classList.remove("chosen");
  const next = options[(at + step + options.length + (at < 0 && step < 0 ? 1 : 0)) % options.length];
  next?.classList.add("chosen");
  next?.scrollIntoView({ block: "nearest" });
}

function clearBox() {
  $("text").value = "";
  grow();
  suggest(false);
}

function grow() {
  if (CSS.supports("field-sizing", "content")) return;
  $("text").style.height = "auto";
  $("text").style.height = `${$("text").scrollHeight + 2}px`;
}

$("text").addEventListener("input", () => { grow(); suggest(false); });
$("text").addEventListener("keydown", (event) => {
  const chosen = $("menu").querySelector(".chosen");
  if (event.key === "Escape") { answerTo(null); $("menu").hidden = true; }
  if (!$("menu").hidden && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
    event.preventDefault();
    choose(event.key === "ArrowDown" ? 1 : -1);
  }
  if (!$("menu").hidden && event.key === "Tab") {
    const name = (chosen ?? $("menu").firstElementChild).querySelector("b").textContent;
    event.preventDefault();
    $("text").value = `${name} `;
    suggest(false);
  }
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    chosen && !$("menu").hidden ? chosen.click() : $("composer").requestSubmit();
  }
});
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  clearBox();
  if (text) send(text);
});
$("slash").addEventListener("click", () => ($("menu").hidden ? suggest(true) : suggest(false)));
$("answering").querySelector("button").addEventListener("click", () => answerTo(null));
$("user").addEventListener("change", () => { location.search = `?user_id=${$("user").value}`; });
document.addEventListener("click", (event) => {
  const target = event.target.closest(".spoiler, .command");
  if (target?.classList.contains("spoiler")) target.classList.add("open");
  if (target?.classList.contains("command")) {
    event.preventDefault();
    send(target.textContent);
  }
});

// ---------------------------------------------------------------- start

const start = JSON.parse($("start").textContent); // what the page came with
introduce(start.about);
showConnected(true);
$("earlier").hidden = start.history.messages.length < PAGE;
take(start.history);
toBottom();
listen();
