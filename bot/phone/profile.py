"""The Bot API's methods about the bot itself, its chats, files and answered taps."""

from __future__ import annotations

import re
from typing import Any, Final

from bot.phone.content import chat_of
from bot.phone.errors import bad_request
from bot.phone.fields import FieldProblem, required_integer, required_text
from bot.phone.params import BIGGEST_ID, Call
from bot.phone.shapes import Json, bot_shape, chat_shape, file_shape, message_shape
from bot.phone.store import Store
from bot.phone.switchboard import Switchboard

# Telegram gives no figure; bots report "query is too old" after some seconds to minutes.
_TAP_LIVES_SECONDS: Final = 60
_LONGEST_ANSWER: Final = 200
_MOST_COMMANDS: Final = 100
_LARGEST_DOWNLOAD: Final = 20 * 1024 * 1024
_LONGEST_NAME: Final = 64
_COMMAND: Final = re.compile(r"[a-z0-9_]{1,32}")
_WIDE_SCOPES: Final = frozenset({"default", "all_private_chats", "all_group_chats", "all_chat_administrators"})
_CHAT_SCOPES: Final = frozenset({"chat", "chat_administrators", "chat_member"})
_STALE: Final = "query is too old and response timeout expired or query ID is invalid"


class Profile:
    """Each public method is the Bot API method of that name: it answers the `result` or raises Refusal."""

    def __init__(self, board: Switchboard) -> None:
        self._board = board
        self._store = board.store

    def get_me(self, call: Call) -> Json:
        rights = {
            "can_join_groups": False,
            "can_read_all_group_messages": False,
            "supports_inline_queries": False,
        }
        return bot_shape(self._store, call.bot_id) | rights

    def log_out(self, _: Call) -> bool:
        """Answered as Telegram does; the phone lets the bot go on, as a server of its own has nothing to leave."""
        return True

    def close(self, _: Call) -> bool:
        """As logOut."""
        return True

    def get_chat(self, call: Call) -> Json:
        """With the message that was pinned last."""
        chat = chat_of(self._store, call)
        pins = self._store.pinned_messages(chat.chat_id)
        pinned = {"pinned_message": message_shape(self._store, pins[0], with_reply=False)} if pins else {}
        gifts = (
            "unlimited_gifts",
            "limited_gifts",
            "unique_gifts",
            "premium_subscription",
            "gifts_from_channels",
        )
        shape = chat_shape(chat) | pinned
        return shape | {
            "accent_color_id": 0,
            "max_reaction_count": 11,
            "accepted_gift_types": dict.fromkeys(gifts, False),
        }

    def get_file(self, call: Call) -> Json:
        if not call.text("file_id"):
            raise bad_request("file_id not specified")
        file = self._store.file(call.text("file_id"))
        if file is None:
            raise bad_request("invalid file_id")
        if file.size > _LARGEST_DOWNLOAD:
            raise bad_request("File is too big")
        return file_shape(file) | {"file_path": file.path}

    def answer_callback_query(self, call: Call) -> bool:
        """A second answer in time is tolerated and replaces the first."""
        number = call.text("callback_query_id")
        tap = self._store.tap(int(number)) if re.fullmatch(r"\d{1,18}", number) else None
        if tap is None or self._board.now() - tap.date > _TAP_LIVES_SECONDS:
            raise bad_request(_STALE)
        text, alert = call.text("text") or None, call.flag("show_alert")
        if text and len(text) > _LONGEST_ANSWER:
            raise bad_request("MESSAGE_TOO_LONG")
        with self._store.writing():
            self._store.answer_tap(tap.tap_id, text, alert)
        self._board.tell("answer", tap.user_id, callback_query_id=str(tap.tap_id), text=text, alert=alert)
        return True

    def set_my_commands(self, call: Call) -> bool:
        commands = call.parsed("commands", "commands")
        if commands is not None and not isinstance(commands, list):
            raise bad_request("Expected an Array of BotCommand")
        read = [_command(command) for command in commands or []]
        key = self._commands_key(call)
        checked = [_checked_command(name, description) for name, description in read]
        if len(checked) > _MOST_COMMANDS:
            raise bad_request("BOT_COMMANDS_TOO_MUCH")
        self._remember(key, checked or None)
        self._tell_everyone("commands")
        return True

    def get_my_commands(self, call: Call) -> list[Json]:
        commands: list[Json] = self._store.fact(self._commands_key(call)) or []
        return commands

    def delete_my_commands(self, call: Call) -> bool:
        self._remember(self._commands_key(call), None)
        self._tell_everyone("commands")
        return True

    def set_my_name(self, call: Call) -> bool:
        """A name of its own for one language may be taken back, the name itself may not."""
        name, language = call.text("name"), _language(call)
        if len(name) > _LONGEST_NAME or not (name or language):
            raise bad_request("BOT_TITLE_INVALID")
        self._remember(f"name:{language}", name or None)
        return True

    def get_my_name(self, call: Call) -> Json:
        return {"name": bot_shape(self._store, call.bot_id)["first_name"]}

    def set_my_description(self, call: Call) -> bool:
        return self._set_words(call, "description", 512)

    def get_my_description(self, call: Call) -> Json:
        return self._words(call, "description")

    def set_my_short_description(self, call: Call) -> bool:
        return self._set_words(call, "short_description", 120)

    def get_my_short_description(self, call: Call) -> Json:
        return self._words(call, "short_description")

    def get_webhook_info(self, _: Call) -> Json:
        pending = self._store.pending_updates()
        return {"url": "", "has_custom_certificate": False, "pending_update_count": pending}

    def delete_webhook(self, call: Call) -> bool:
        """There is none to delete; `drop_pending_updates` empties the queue."""
        if call.flag("drop_pending_updates"):
            with self._store.writing():
                self._store.acknowledge(BIGGEST_ID)
        return True

    def set_webhook(self, call: Call) -> bool:
        url = call.text("url")
        if not url:
            return self.delete_webhook(call)
        if not url.lower().startswith("https://"):
            raise bad_request("bad webhook: An HTTPS URL must be provided for webhook")
        raise bad_request("bad webhook: the phone calls nobody, poll it with getUpdates")

    def _commands_key(self, call: Call) -> str:
        """Where the commands of the call's scope and language are kept; a chat that is named must be known."""
        kind, chat_id = _scope(call)
        known = re.fullmatch(r"-?\d{1,18}", chat_id) and self._store.chat(int(chat_id))
        if chat_id and not known:
            raise bad_request("Chat not found")
        return f"commands:{kind}:{chat_id}:{_language(call)}"

    def _set_words(self, call: Call, name: str, longest: int) -> bool:
        language = _language(call)
        if len(call.text(name)) > longest:
            raise bad_request(f"{name.upper()}_TOO_LONG")
        self._remember(f"{name}:{language}", call.text(name) or None)
        return True

    def _words(self, call: Call, name: str) -> Json:
        return {name: self._store.fact(f"{name}:{_language(call)}") or ""}

    def _remember(self, name: str, value: Any) -> None:
        with self._store.writing():
            self._store.set_fact(name, value)

    def _tell_everyone(self, event: str) -> None:
        for chat in self._store.chats():
            self._board.tell(event, chat.chat_id)


def _language(call: Call) -> str:
    code = call.text("language_code")
    if code and not re.fullmatch(r"[a-z]{2}", code):
        raise bad_request("Invalid language code specified")
    return code


def menu(store: Store, chat_id: int) -> list[Json]:
    """The commands a chat's menu shows: Telegram's search from the narrowest scope to the widest."""
    for scope in (f"chat:{chat_id}", "all_private_chats:", "default:"):
        commands: list[Json] | None = store.fact(f"commands:{scope}:")
        if commands:
            return commands
    return []


def _scope(call: Call) -> tuple[str, str]:
    """Type of the BotCommandScope and the chat (and user) it names."""
    scope = call.parsed("scope", "BotCommandScope")
    if scope is None:
        return "default", ""
    try:
        if not isinstance(scope, dict):
            raise FieldProblem("BotCommandScope must be an Object")
        return _read_scope(scope)
    except FieldProblem as problem:
        raise bad_request(f"Can't parse BotCommandScope: {problem}") from problem


def _read_scope(scope: Json) -> tuple[str, str]:
    kind = required_text(scope, "type")
    if kind in _WIDE_SCOPES:
        return kind, ""
    if kind not in _CHAT_SCOPES:
        raise FieldProblem("Unsupported type specified")
    chat_id = required_text(scope, "chat_id")
    if not chat_id:
        raise FieldProblem("Empty chat_id specified")
    if kind == "chat_member" and required_integer(scope, "user_id") <= 0:
        raise FieldProblem("Invalid user_id specified")
    return kind, chat_id


def _command(command: Any) -> tuple[str, str]:
    try:
        if not isinstance(command, dict):
            raise FieldProblem("expected an Object")
        return required_text(command, "command"), required_text(command, "description")
    except FieldProblem as problem:
        raise bad_request(f"Can't parse BotCommand: {problem}") from problem


def _checked_command(name: str, description: str) -> Json:
    """As td's `set_commands` checks it (td/telegram/BotCommand.cpp), and then Telegram."""
    name, description = name.strip().removeprefix("/"), description.strip()
    for what, text, longest in (("Command", name, 32), ("Command description", description, 256)):
        if not text:
            raise bad_request(f"{what} must be non-empty")
        if len(text) > longest:
            raise bad_request(f"{what} length must not exceed {longest}")
    if not _COMMAND.fullmatch(name):
        raise bad_request("BOT_COMMAND_INVALID")
    return {"command": name, "description": description}
