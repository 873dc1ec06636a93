// A scrolling list of messages, oldest at the top: it keeps their order, the dates between them and the place that is
// being read.

import { gently, make } from "./dom.js";
import { draw, update } from "./message.js";
import { messages } from "./model.js";

const NEAR_BOTTOM = 120;

export class Timeline {
  #lines = new Map(); // message_id -> its <li>
  #ids = []; // in order
  #days = new WeakMap(); // <li> of a message -> the date above it
  #unread = null;

  constructor(scroller, list) {
    this.scroller = scroller;
    this.list = list;
    let height = scroller.clientHeight;
    new ResizeObserver(() => { // a keyboard comes up: what was at the bottom stays there
      if (this.#distance() < NEAR_BOTTOM + Math.max(0, height - scroller.clientHeight)) this.toBottom();
      height = scroller.clientHeight;
    }).observe(scroller);
  }

  get first() { return this.#ids[0]; }
  get last() { return this.#ids.at(-1); }
  get size() { return this.#ids.length; }
  get nearBottom() { return this.#distance() < NEAR_BOTTOM; }

  line(id) { return this.#lines.get(id); }

  /** Draws these messages and takes those away, without moving what is being read. */
  apply(changed, gone = []) {
    this.steady(() => {
      for (const message of changed) this.#show(message);
      for (const id of gone) this.#remove(id);
    });
  }

  /** Draws messages again that are shown already. */
  redraw(ids) {
    this.steady(() => {
      for (const id of ids) {
        if (this.#lines.has(id) && messages.has(id)) update(this.#lines.get(id), messages.get(id));
      }
    });
  }

  clear() {
    this.list.replaceChildren();
    this.#lines.clear();
    this.#ids = [];
    this.#unread = null;
  }

  /** Makes a change; whoever reads at the bottom stays at the bottom, whoever reads elsewhere stays there. */
  steady(change) {
    const pinned = this.nearBottom;
    const anchor = pinned ? null : this.#topmost();
    const before = anchor?.getBoundingClientRect().top;
    change();
    if (pinned) this.toBottom();
    else if (anchor?.isConnected) this.scroller.scrollTop += anchor.getBoundingClientRect().top - before;
  }

  toBottom(behavior = "instant") {
    this.scroller.scrollTo({ top: this.scroller.scrollHeight, behavior });
  }

  /** Brings a message into the middle and lets it light up; false when it is not here. */
  reveal(id) {
    const line = this.#lines.get(id);
    if (!line) return false;
    line.scrollIntoView({ behavior: gently(), block: "center" });
    line.classList.remove("flash");
    void line.offsetWidth; // starts the animation anew
    line.classList.add("flash");
    return true;
  }

  /** The line "Unread messages" above a message; none for null. */
  markUnread(id) {
    this.steady(() => {
      this.#unread?.remove();
      this.#unread = null;
      const line = this.#lines.get(id);
      if (!line) return;
      this.#unread = make("li", { className: "unread", textContent: "Unread messages" });
      line.before(this.#unread);
    });
  }

  /** Is the line "Unread messages" below what is seen? */
  get unreadBelow() {
    return Boolean(this.#unread) && this.#unread.offsetTop > this.scroller.scrollTop + this.scroller.clientHeight;
  }

  revealUnread(behavior = gently()) {
    this.#unread?.scrollIntoView({ behavior, block: "start" });
  }

  #distance() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight;
  }

  /** The first line that is seen. */
  #topmost() {
    const lines = this.list.children;
    const edge = this.scroller.getBoundingClientRect().top;
    let low = 0;
    let high = lines.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (lines[middle].getBoundingClientRect().bottom > edge) high = middle;
      else low = middle + 1;
    }
    return lines[low];
  }

  #show(message) {
    const known = this.#lines.get(message.message_id);
    if (known) return update(known, message);
    const line = draw(message);
    const at = this.#placeOf(message.message_id);
    const next = this.#lines.get(this.#ids[at]);
    this.#insert(line, next);
    this.#lines.set(message.message_id, line);
    this.#ids.splice(at, 0, message.message_id);
    this.#mend(at);
    this.#mend(at + 1);
  }

  #insert(line, next) {
    if (!next) this.list.append(line);
    else if (this.#unread?.nextElementSibling === next) this.#unread.before(line);
    else (this.#days.get(next) ?? next).before(line);
  }

  #remove(id) {
    const line = this.#lines.get(id);
    if (!line) return;
    const at = this.#placeOf(id);
    this.#days.get(line)?.remove();
    line.remove();
    if (this.#unread && !this.#unread.nextElementSibling) this.markUnread(null);
    this.#lines.delete(id);
    this.#ids.splice(at, 1);
    this.#mend(at);
  }

  /** Where the id stands, or would stand. */
  #placeOf(id) {
    let low = 0;
    let high = this.#ids.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#ids[middle] < id) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The date above a line, and how close it stands to the one before: both depend on its neighbour. */
  #mend(at) {
    const line = this.#lines.get(this.#ids[at]);
    if (!line) return;
    const message = messages.get(this.#ids[at]);
    const previous = messages.get(this.#ids[at - 1]);
    this.#date(line, message, this.#lines.get(this.#ids[at - 1])?.dataset.day !== line.dataset.day);
    const close = previous && previous.from === message?.from && Math.abs(message.date - previous.date) < 300;
    line.classList.toggle("joined", Boolean(close) && !this.#days.has(line));
  }

  #date(line, message, wanted) {
    const shown = this.#days.get(line);
    if (wanted === Boolean(shown)) return;
    shown?.remove();
    this.#days.delete(line);
    if (!wanted) return;
    const text = new Date(message.date * 1000).toLocaleDateString([], { weekday: "short", day: "numeric", month: "long" });
    const date = make("li", { className: "day", textContent: text });
    this.#days.set(line, date);
    (this.#unread?.nextElementSibling === line ? this.#unread : line).before(date);
  }
}
