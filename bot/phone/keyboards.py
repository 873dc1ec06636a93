"""Reply markup, read and refused as Telegram does it (Client.cpp and td/telegram/ReplyMarkup.cpp).

Inline keyboards are kept and shown. A reply keyboard, its removal and a forced reply are checked and not shown.
"""

from __future__ import annotations

from typing import Any, Final

from bot.phone.entities import is_utf8
from bot.phone.errors import bad_request
from bot.phone.fields import (
    FieldProblem,
    optional_array,
    optional_flag,
    optional_text,
    required_object,
    required_text,
)
from bot.phone.links import BadLink, checked_link
from bot.phone.params import Call
from bot.phone.rows import Keyboard

MAX_CALLBACK_DATA: Final = 64  # bytes
_MOST_BUTTONS: Final = 100
_LONGEST_COPY: Final = 256
_FLAGS: Final = (
    "hide_keyboard",
    "remove_keyboard",
    "personal_keyboard",
    "selective",
    "force_reply_keyboard",
    "force_reply",
)
_KEYBOARD_FLAGS: Final = ("resize_keyboard", "one_time_keyboard", "is_persistent")
_NEEDS_MORE: Final = {  # a game, an invoice, a domain
    "callback_game": "BUTTON_TYPE_INVALID",
    "pay": "BUTTON_TYPE_INVALID",
    "login_url": "BOT_DOMAIN_INVALID",
}
_INLINE_QUERIES: Final = ("switch_inline_query", "switch_inline_query_current_chat", "switch_inline_query_chosen_chat")


def keyboard_of(call: Call, *, inline_only: bool = False) -> Keyboard | None:
    """The inline keyboard of `reply_markup`; edits take no other kind."""
    markup = call.parsed("reply_markup", "reply keyboard markup")
    if markup is None:
        return None
    if not isinstance(markup, dict):
        raise bad_request("Object expected as reply markup")
    try:
        rows, others = _inline_rows(markup), _others(markup)
    except FieldProblem as problem:
        raise bad_request(str(problem)) from problem
    if others and inline_only:
        raise bad_request("Inline keyboard expected")
    if sum(len(row) for row in rows) > _MOST_BUTTONS:
        raise bad_request("Reply markup is too long")
    return rows or None


def _inline_rows(markup: dict[str, Any]) -> Keyboard:
    rows = optional_array(markup, "inline_keyboard") or []
    if not all(isinstance(row, list) for row in rows):
        raise FieldProblem('Field "inline_keyboard" of the InlineKeyboardMarkup must be an Array of Arrays')
    return [[_button(button) for button in row] for row in rows if row]


def _others(markup: dict[str, Any]) -> bool:
    """Is it another kind of markup? Its fields are checked all the same."""
    rows = optional_array(markup, "keyboard") or []
    for row in rows:
        if not isinstance(row, list):
            raise FieldProblem('Field "keyboard" must be an Array of Arrays')
        for button in row:
            _check_key(button)
    flags = [optional_flag(markup, name) for name in _FLAGS]
    for name in _KEYBOARD_FLAGS if rows else ():
        optional_flag(markup, name)
    return bool(rows) or any(flags)


def _check_key(button: Any) -> None:
    if isinstance(button, str) and button:
        return
    try:
        if not isinstance(button, (str, dict)):
            raise FieldProblem("KeyboardButton must be a String or an Object")
        text = required_text(button, "text") if isinstance(button, dict) else button
    except FieldProblem as problem:
        raise bad_request(f"Can't parse keyboard button: {problem}") from problem
    if not text:
        raise bad_request("Keyboard button text must be non-empty")


def _button(button: Any) -> dict[str, Any]:
    try:
        if not isinstance(button, dict):
            raise FieldProblem("InlineKeyboardButton must be an Object")
        text, action = required_text(button, "text"), _action(button)
    except FieldProblem as problem:
        raise bad_request(f"Can't parse inline keyboard button: {problem}") from problem
    if not is_utf8(text):
        raise bad_request("Inline keyboard button text must be encoded in UTF-8")
    if not text:
        raise bad_request("Inline keyboard button text must be non-empty")
    return {"text": text, **action}


def _action(button: dict[str, Any]) -> dict[str, Any]:
    """What the button does: the first that is given, in the server's order."""
    if url := optional_text(button, "url"):
        return {"url": _link(url, "Inline keyboard button")}
    if data := optional_text(button, "callback_data"):
        return {"callback_data": _callback_data(data)}
    for name, refusal in _NEEDS_MORE.items():
        if name in button:
            raise bad_request(refusal)
    for name in _INLINE_QUERIES:
        if name in button:
            return {name: button[name]}
    if "web_app" in button:
        address = required_text(required_object(button, "web_app"), "url")
        return {"web_app": {"url": _link(address, "Inline keyboard button Web App", https_only=True)}}
    if "copy_text" in button:
        return {"copy_text": {"text": _copied(required_text(required_object(button, "copy_text"), "text"))}}
    raise FieldProblem("Text buttons are unallowed in the inline keyboard")


def _link(url: str, what: str, *, https_only: bool = False) -> str:
    try:
        return checked_link(url, https_only=https_only)
    except BadLink as problem:
        raise bad_request(f"{what} {problem}") from problem


def _callback_data(data: str) -> str:
    if not is_utf8(data) or len(data.encode()) > MAX_CALLBACK_DATA:
        raise bad_request("BUTTON_DATA_INVALID")
    return data


def _copied(text: str) -> str:
    if not 1 <= len(text) <= _LONGEST_COPY:
        raise bad_request("BUTTON_COPY_TEXT_INVALID")
    return text
