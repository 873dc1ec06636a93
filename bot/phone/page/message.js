// Draws one message. Drawing it again changes only the parts that are different, so that focus, an opened spoiler
// and the reading position survive an edit.

import { local } from "./api.js";
import { $, fill, icon, make } from "./dom.js";
import { quoted, repliesBelow, sender, summary, words } from "./model.js";

const CLOCK = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const clock = (date) => CLOCK.format(date * 1000);
const moment = (date) => new Date(date * 1000).toLocaleString();
const LONG = 28; // characters that a key shows in one line
const SIZES = ["B", "KB", "MB", "GB"];

export function draw(message) {
  const line = $("message").content.firstElementChild.cloneNode(true);
  line.dataset.id = message.message_id;
  line.dataset.day = new Date(message.date * 1000).toDateString();
  line.classList.toggle("mine", message.from === "user");
  line.querySelector(".sender").textContent = `${sender(message)}: `;
  update(line, message);
  return line;
}

/** Brings a drawn message up to date. */
export function update(line, message) {
  for (const [name, [value, part]] of Object.entries(parts(message))) {
    const key = JSON.stringify(value);
    if (line.dataset[name] === key) continue;
    line.dataset[name] = key;
    part(line, message);
  }
}

/** What each part depends on, and how it is drawn. */
const parts = (message) => ({
  body: [message.html, drawBody],
  meta: [[message.date, message.edit_date, message.silent], drawMeta],
  quoted: [[message.reply_to, quote(message)], drawQuote],
  media: [[message.photo, message.document], drawMedia],
  keys: [message.buttons, drawKeyboard],
  replies: [repliesBelow(message), drawReplies],
  reaction: [message.reaction, (line) => fill(line.querySelector(".reaction"), message.reaction)],
  origin: [message.forwarded_from, drawOrigin],
});

function drawBody(line, message) {
  const body = line.querySelector(".body");
  body.innerHTML = message.html; // escaped by the phone, see bot/phone/rendering.py
  for (const quote of body.querySelectorAll("blockquote.expandable")) quote.after(unfolding(quote));
  for (const spoiler of body.querySelectorAll(".spoiler")) spoiler.setAttribute("aria-label", "Hidden text: show");
}

function unfolding(quote) {
  const button = make("button", { type: "button", className: "unfold", textContent: "Show all" });
  button.addEventListener("click", () => {
    button.textContent = quote.classList.toggle("open") ? "Show less" : "Show all";
  });
  return button;
}

function drawMeta(line, message) {
  const time = line.querySelector("time");
  time.dateTime = new Date(message.date * 1000).toISOString();
  time.textContent = clock(message.date);
  time.title = moment(message.date);
  const edited = line.querySelector(".edited");
  edited.hidden = !message.edit_date;
  if (message.edit_date) edited.title = `edited ${moment(message.edit_date)}`;
  line.querySelector(".muted").toggleAttribute("hidden", !message.silent);
}

const quote = (message) => quoted(message) && [sender(quoted(message)), summary(quoted(message))];

function drawQuote(line, message) {
  const button = line.querySelector(".quote");
  const [name, text] = quote(message) ?? ["Reply", "a deleted message"];
  button.hidden = !message.reply_to;
  button.querySelector("b").textContent = name;
  button.querySelector("span").textContent = text;
}

function drawMedia(line, message) {
  drawPhoto(line.querySelector(".photo"), message);
  drawDocument(line.querySelector(".document"), message);
}

function drawPhoto(link, message) {
  link.hidden = !message.photo;
  if (!message.photo) return;
  const image = link.querySelector("img");
  const [width, height] = message.photo_size;
  Object.assign(image, { width, height, alt: words(message) ? `Photo: ${summary(message)}` : "Photo" });
  image.style.width = `min(${width}px, ${(62 * width) / height}vh)`; // room before it is loaded: nothing jumps
  image.style.aspectRatio = `${width} / ${height}`;
  link.href = image.src = local(message.photo);
}

function drawDocument(link, message) {
  link.hidden = !message.document;
  if (!message.document) return;
  link.href = local(message.document);
  link.download = message.document_name;
  link.querySelector("b").textContent = message.document_name;
  link.querySelector(".document-text span").textContent = size(message.document_size);
}

function size(octets) {
  const step = Math.min(Math.floor(Math.log2(Math.max(octets, 1)) / 10), SIZES.length - 1);
  const value = octets / 1024 ** step;
  return `${value.toLocaleString([], { maximumFractionDigits: value < 10 && step ? 1 : 0 })} ${SIZES[step]}`;
}

function drawKeyboard(line, message) {
  const focused = line.querySelector(".key:focus")?.dataset.data;
  line.querySelector(".keyboard").replaceChildren(...message.buttons.map(keyRow));
  if (focused) [...line.querySelectorAll(".key")].find((each) => each.dataset.data === focused)?.focus();
}

function keyRow(row) {
  const line = make("div", { className: "keyboard-row" }, ...row.map(key));
  line.dataset.keys = row.length;
  return line;
}

const keyClass = (button) => (button.text.length > LONG ? "key long" : "key");

function key(button) {
  if (button.url) return keyLink(button);
  const element = make("button", { type: "button", className: keyClass(button), textContent: button.text });
  if (button.data !== null) Object.assign(element.dataset, { act: "tap", data: button.data });
  else if (button.copy) Object.assign(element.dataset, { act: "copy", copy: button.copy });
  else Object.assign(element, { disabled: true, title: "Not available on this phone" });
  return element;
}

function keyLink(button) {
  const label = make("span", {}, button.text, icon("out"));
  const link = make("a", { className: keyClass(button), target: "_blank", rel: "noopener noreferrer" }, label);
  if (/^https?:/i.test(button.url)) link.href = button.url;
  return link;
}

function drawReplies(line, message) {
  const count = repliesBelow(message);
  line.querySelector(".replies").hidden = !count;
  line.querySelector(".replies span").textContent = count === 1 ? "1 reply" : `${count} replies`;
}

function drawOrigin(line, message) {
  fill(line.querySelector(".forwarded"), message.forwarded_from && `Forwarded from ${message.forwarded_from}`);
}
