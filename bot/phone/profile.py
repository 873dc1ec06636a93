"""The Bot API's methods about the bot itself, its chats, files and answered taps."""

from __future__ import annotations

import re
from typing import Any, Final

from bot.phone.content import chat_of
from bot.phone.errors import bad_request
from bot.phone.params import BIGGEST_ID, Call
from bot.phone.shapes import Json, bot_shape, chat_shape, file_shape
from bot.phone.store import Store
from bot.phone.switchboard import Switchboard

# Telegram gives no figure; bots report "query is too old" after some seconds to minutes.
_TAP_LIVES_SECONDS: Final = 60
_LONGEST_ANSWER: Final = 200
_MOST_COMMANDS: Final = 100
_LARGEST_DOWNLOAD: Final = 20 * 1024 * 1024
_COMMAND: Final = re.compile(r"[a-z0-9_]{1,32}")
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

    def get_chat(self, call: Call) -> Json:
        gifts = (
            "unlimited_gifts",
            "limited_gifts",
            "unique_gifts",
            "premium_subscription",
            "gifts_from_channels",
        )
        return chat_shape(chat_of(self._store, call)) | {
            "accent_color_id": 0,
            "max_reaction_count": 11,
            "accepted_gift_types": dict.fromkeys(gifts, False),
        }

    def get_file(self, call: Call) -> Json:
        file = self._store.file(call.text("file_id"))
        if file is None:
            raise bad_request("invalid file_id")
        if file.size > _LARGEST_DOWNLOAD:
            raise bad_request("file is too big")
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
        if not isinstance(commands, list):
            raise bad_request("can't parse commands: commands must be of type Array")
        if len(commands) > _MOST_COMMANDS:
            raise bad_request("BOT_COMMANDS_TOO_MUCH")
        self._remember(_commands_key(call), [_command(command) for command in commands] or None)
        self._tell_everyone("commands")
        return True

    def get_my_commands(self, call: Call) -> list[Json]:
        commands: list[Json] = self._store.fact(_commands_key(call)) or []
        return commands

    def delete_my_commands(self, call: Call) -> bool:
        self._remember(_commands_key(call), None)
        self._tell_everyone("commands")
        return True

    def set_my_name(self, call: Call) -> bool:
        return self._set_words(call, "name", 64)

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
        if not call.text("url"):
            return self.delete_webhook(call)
        raise bad_request("bad webhook: the phone calls nobody, poll it with getUpdates")

    def _set_words(self, call: Call, name: str, longest: int) -> bool:
        if len(call.text(name)) > longest:
            raise bad_request(f"{name.upper()}_TOO_LONG")
        self._remember(f"{name}:{call.text('language_code')}", call.text(name) or None)
        return True

    def _words(self, call: Call, name: str) -> Json:
        return {name: self._store.fact(f"{name}:{call.text('language_code')}") or ""}

    def _remember(self, name: str, value: Any) -> None:
        with self._store.writing():
            self._store.set_fact(name, value)

    def _tell_everyone(self, event: str) -> None:
        for chat in self._store.chats():
            self._board.tell(event, chat.chat_id)


def menu(store: Store, chat_id: int) -> list[Json]:
    """The commands a chat's menu shows: Telegram's search from the narrowest scope to the widest."""
    for scope in (f"chat:{chat_id}", "all_private_chats:", "default:"):
        commands: list[Json] | None = store.fact(f"commands:{scope}:")
        if commands:
            return commands
    return []


def _commands_key(call: Call) -> str:
    scope = call.mapping("scope", "BotCommandScope")
    kind = scope.get("type") or "default"
    return f"commands:{kind}:{scope.get('chat_id', '')}:{call.text('language_code')}"


def _command(command: Any) -> Json:
    if not isinstance(command, dict):
        raise bad_request("can't parse BotCommand")
    name, description = str(command.get("command", "")).removeprefix("/"), str(command.get("description", ""))
    if not _COMMAND.fullmatch(name):
        raise bad_request("BOT_COMMAND_INVALID")
    if not 1 <= len(description) <= 256:
        raise bad_request("BOT_COMMAND_DESCRIPTION_INVALID")
    return {"command": name, "description": description}
