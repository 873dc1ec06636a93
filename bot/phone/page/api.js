// Talks to the phone. The contract is in bot/phone/face.py.

const query = new URLSearchParams(location.search);
export const userId = query.get("user_id");

const address = (path, parameters = {}) => {
  const all = new URLSearchParams(parameters);
  if (userId) all.set("user_id", userId);
  return all.size ? `${path}?${all}` : path;
};

async function call(path, options) {
  const response = await fetch(path, options);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error ?? response.statusText);
  return answer;
}

function post(path, body) {
  const signed = userId ? { ...body, user_id: Number(userId) } : body;
  return call(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(signed) });
}

export const changesSince = (cursor) => call(address("/phone/messages", { since: cursor }));
export const messagesBefore = (id, count) => call(address("/phone/messages", { last: count, before: id }));
export const threadOf = (id) => call(address("/phone/messages", { thread: id }));
export const about = () => call(address("/phone/about"));
export const say = (text, replyTo) => post("/phone/messages", replyTo ? { text, reply_to: replyTo } : { text });
export const correct = (id, text) => post("/phone/edits", { message_id: id, text });
export const tap = (id, data) => post("/phone/taps", { message_id: id, data });

/** Path of a file address: the page may have been opened under another name of this machine. */
export const local = (url) => new URL(url).pathname;

/** The address of this page as another user, with the rest of its query kept. */
export function asUser(id) {
  const all = new URLSearchParams(location.search);
  all.set("user_id", id);
  return `?${all}`;
}

/** Calls the handler of each nudge's name with its data; "open" and "error" tell of the line itself. */
export function listen(handlers) {
  const events = new EventSource(address("/phone/events"));
  for (const [name, handler] of Object.entries(handlers)) {
    events.addEventListener(name, (event) => handler(event.data ? JSON.parse(event.data) : null));
  }
}
