// What has been read: the line "Unread messages", the counter on the button that leads down, the one in the title.

import { userId } from "./api.js";
import { $ } from "./dom.js";
import { chat } from "./model.js";

const KEY = `phone.read.${userId ?? "owner"}`;

export class Reading {
  #count = 0; // unread messages below
  #loud = 0; // of those, the ones that were not sent silently

  constructor(timeline) {
    this.timeline = timeline;
    timeline.scroller.addEventListener("scroll", () => this.look(), { passive: true });
    document.addEventListener("visibilitychange", () => this.look());
    window.addEventListener("focus", () => this.look());
    $("down").addEventListener("click", () => this.goDown());
  }

  /** The newest message that was seen in an earlier visit, of a chat that has come to `newest`; 0 when unknown. */
  remembered(newest) {
    const seen = Number(remembering(() => localStorage.getItem(KEY)));
    return seen <= newest ? seen : 0; // the phone may have been given a new memory
  }

  /** Counts new messages of the bot, unless they are seen as they come. */
  arrived(news) {
    if (!news.length || this.#watching()) return this.look();
    if (!this.#count) this.timeline.markUnread(news[0].message_id);
    this.#count += news.length;
    this.#loud += news.filter((message) => !message.silent).length;
    this.look();
  }

  /** Whoever writes has read. */
  answered() {
    this.timeline.markUnread(null);
    this.timeline.toBottom();
    this.look();
  }

  /** What is at the bottom of a visible page is read. */
  look() {
    if (this.#watching()) this.#seen();
    $("down").hidden = this.timeline.nearBottom;
    $("count").textContent = this.#count || "";
    $("down").setAttribute("aria-label", this.#count ? `To the newest message, ${this.#count} unread` : "To the newest message");
    document.title = this.#loud ? `(${this.#loud}) ${chat.bot}` : chat.bot;
  }

  /** To the unread messages, and from there to the end. */
  goDown() {
    if (this.timeline.unreadBelow) this.timeline.revealUnread();
    else this.timeline.toBottom();
  }

  #watching() {
    return document.visibilityState === "visible" && this.timeline.nearBottom;
  }

  #seen() {
    this.#count = this.#loud = 0;
    if (this.timeline.last) remembering(() => localStorage.setItem(KEY, this.timeline.last));
  }
}

/** A browser may refuse to remember anything. */
function remembering(work) {
  try {
    return work();
  } catch {
    return null;
  }
}
