// What the page knows of the chat.

export const messages = new Map(); // message_id -> the newest copy of the message
export const originals = new Map(); // message_id -> { from, text } of a message that is quoted
export const threads = new Map(); // message_id at the top of a thread -> number of its replies
export const chat = { bot: "", cursor: 0, commands: [], pinned: [] };

/** Takes in an answer of the phone and tells which messages are affected: changed, gone, or with another count. */
export function learn(answer) {
  chat.cursor = Math.max(chat.cursor, answer.cursor);
  for (const message of answer.messages) messages.set(message.message_id, message);
  for (const id of answer.deleted) messages.delete(id);
  for (const [key, original] of Object.entries(answer.originals)) originals.set(Number(key), original);
  const recounted = [];
  for (const [key, count] of Object.entries(answer.threads)) {
    const root = Number(key);
    if (threads.get(root) !== count) recounted.push(root);
    threads.set(root, count);
  }
  return { changed: answer.messages, gone: answer.deleted, recounted };
}

/** The top of the thread that a message belongs to, itself if it answers nothing. */
export const rootOf = (message) => message.thread ?? message.message_id;

/** Replies worth a link: a decision's, or a conversation of several. A command with its one answer is no thread. */
export function repliesBelow(message) {
  const count = message.thread ? 0 : (threads.get(message.message_id) ?? 0);
  return message.from === "bot" || count > 1 ? count : 0;
}

export const sender = (message) => (message.from === "bot" ? chat.bot : "You");
export const words = (message) => message.text ?? message.caption ?? "";
export const quoted = (message) => messages.get(message.reply_to) ?? originals.get(message.reply_to);

/** One line that stands for the message. */
export function summary(message) {
  const line = words(message).split("\n").find((each) => each.trim());
  return line ?? (message.photo ? "Photo" : (message.document_name ?? "Message"));
}

/** Own texts, newest first. */
export function said() {
  const own = [...messages.values()].filter((message) => message.from === "user" && message.text);
  return own.sort((a, b) => b.message_id - a.message_id);
}
