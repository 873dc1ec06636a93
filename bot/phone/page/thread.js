// A thread: a message with everything that answers it, over the chat. The address remembers it, so that Back closes it.

import * as api from "./api.js";
import * as composer from "./composer.js";
import { $ } from "./dom.js";
import { learn, messages, rootOf, summary, threads } from "./model.js";
import { toast } from "./notices.js";
import { Timeline } from "./timeline.js";

const timeline = new Timeline($("thread-scroll"), $("thread-messages"));
let root = 0; // 0 while no thread is open
let opener = null;
let learned = () => {};

/** `onLearned` is called with what else the phone told when a thread was fetched. */
export function prepareThread(onLearned) {
  learned = onLearned;
  $("thread-close").addEventListener("click", leave);
  addEventListener("popstate", follow);
  addEventListener("keydown", (event) => {
    const elsewhere = event.defaultPrevented || event.target.closest?.("dialog, [popover]");
    if (event.key === "Escape" && root && !elsewhere) leave();
  });
  follow();
}

export const threadList = timeline;

export function openThread(message, button = null) {
  opener = button;
  history.pushState({ thread: true }, "", `#thread-${rootOf(message)}`);
  follow();
}

/** Brings the open thread up to date. */
export function updateThread({ changed, gone }) {
  if (!root) return;
  timeline.apply(changed.filter((message) => rootOf(message) === root), gone);
  describe();
}

/** Back to the chat; whoever came by an address with a thread in it has no page of ours to go back to. */
function leave() {
  if (history.state?.thread) return history.back();
  history.replaceState(null, "", location.pathname + location.search);
  follow();
}

/** Does what the address says. */
function follow() {
  show(Number(/^#thread-(\d+)$/.exec(location.hash)?.[1] ?? 0));
}

async function show(id) {
  if (id === root) return;
  root = id;
  $("thread").hidden = !root;
  $("scroll").inert = $("down").inert = Boolean(root);
  timeline.clear();
  composer.inThread(messages.get(root) ?? (root ? { message_id: root } : null));
  if (root) await load();
  else opener?.focus({ preventScroll: true });
}

async function load() {
  const wanted = root;
  try {
    const answer = await api.threadOf(wanted);
    const news = learn({ ...answer, cursor: 0 }); // the changes of the rest of the chat are still to be fetched
    if (wanted !== root) return;
    timeline.apply(answer.messages);
    timeline.toBottom();
    learned(news);
    describe();
    $("thread-close").focus({ preventScroll: true });
  } catch (error) {
    toast(error.message);
  }
}

function describe() {
  const count = threads.get(root) ?? 0;
  $("thread-title").textContent = messages.has(root) ? summary(messages.get(root)) : "Thread";
  $("thread-count").textContent = count === 1 ? "1 reply" : `${count} replies`;
}
