"""The gate: nobody but those on the list, and only what they say themselves in their own chat."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from telegram import Update

from bot.access import AllowList, Gate, Role
from tests.bot.stage import ALLOWED, OPERATOR, OWNER, STRANGER, VIEWER

Json = dict[str, Any]
KINDS = (
    "message", "edited_message", "channel_post", "edited_channel_post", "business_message", "edited_business_message",
)  # fmt: skip


def a_user(user_id: int = OWNER, **more: Any) -> Json:
    return {"id": user_id, "is_bot": False, "first_name": "Ann", **more}


def a_message(user_id: int = OWNER, **more: Any) -> Json:
    chat = {"id": user_id, "type": "private", "first_name": "Ann"}
    return {"message_id": 7, "date": 1_790_000_000, "chat": chat, "from": a_user(user_id), "text": "/pause", **more}


def an_update(**content: Any) -> Update:
    update: Update = Update.de_json({"update_id": 1, **content}, None)
    return update


@pytest.mark.parametrize(("user_id", "role"), [(OWNER, Role.OWNER), (OPERATOR, Role.OPERATOR), (VIEWER, Role.VIEWER)])
def test_those_on_the_list_are_heard_with_their_role(user_id: int, role: Role) -> None:
    """In messages and on buttons alike."""
    gate = Gate(ALLOWED)
    query = {"id": "1", "from": a_user(user_id), "chat_instance": "1", "data": "x", "message": a_message(user_id)}
    for update in (an_update(message=a_message(user_id)), an_update(callback_query=query)):
        caller = gate.admit(update)
        assert caller is not None
        assert (caller.user_id, caller.role) == (user_id, role)


def test_an_empty_list_means_nobody() -> None:
    """Not even somebody whose id is 0 or who comes first."""
    gate = Gate(AllowList(None))
    assert gate.admit(an_update(message=a_message(OWNER))) is None
    assert gate.refused == 1


def test_without_an_owner_the_log_tells_the_id_once(caplog: pytest.LogCaptureFixture) -> None:
    """So that a new owner can learn it; further messages are counted, not logged."""
    gate = Gate(AllowList(None))
    for _ in range(9):
        gate.admit(an_update(message=a_message(STRANGER)))
    lines = [record for record in caplog.records if record.name == "bot.access"]
    assert len(lines) == 1
    assert str(STRANGER) in lines[0].getMessage()
    assert gate.refused == 9


@pytest.mark.parametrize(
    "content",
    [
        {"message": a_message(forward_origin={"type": "hidden_user", "date": 1, "sender_user_name": "x"})},
        {"message": a_message(via_bot=a_user(9, is_bot=True))},
        {"message": a_message(edit_date=1_790_000_001)},
        {"message": a_message(sender_chat={"id": -5, "type": "channel", "title": "c"})},
        {"message": a_message(chat={"id": -100, "type": "supergroup", "title": "g"})},
        {"message": a_message(chat={"id": OPERATOR, "type": "private"})},
        {"edited_message": a_message(edit_date=1_790_000_001)},
        {"inline_query": {"id": "1", "from": a_user(), "query": "/pause", "offset": ""}},
        {"callback_query": {"id": "1", "from": a_user(), "chat_instance": "1", "data": "x", "inline_message_id": "i"}},
        {"callback_query": {"id": "1", "from": a_user(OPERATOR), "chat_instance": "1", "message": a_message(OWNER)}},
        {"chat_join_request": {"chat": {"id": -1, "type": "group"}, "from": a_user(), "date": 1, "user_chat_id": 1}},
    ],
)  # fmt: skip
def test_what_the_owner_did_not_say_in_person_is_not_heard(content: Json) -> None:
    """Forwards, edits, groups, channels, inline queries, taps in somebody else's chat."""
    assert Gate(ALLOWED).admit(an_update(**content)) is None


USERS = st.one_of(st.none(), st.builds(a_user, st.integers(4, 2**52)), st.just(a_user(OWNER, is_bot=True)))
CHATS = st.one_of(
    st.builds(lambda n: {"id": n, "type": "private"}, st.integers(1, 9)),
    st.builds(
        lambda n, kind: {"id": -n, "type": kind, "title": "t"},
        st.integers(1, 99),
        st.sampled_from(["group", "supergroup", "channel"]),
    ),
)


@settings(max_examples=500)
@given(st.sampled_from(KINDS), USERS, CHATS, st.text(max_size=20), st.booleans())
def test_no_unauthorised_update_passes(kind: str, user: Json | None, chat: Json, text: str, forwarded: bool) -> None:
    """F37: strangers, bots and senders without a name, in any kind of update and any chat."""
    content = a_message(chat=chat, text=text)
    del content["from"]
    content |= {"from": user} if user else {}
    content |= {"forward_origin": {"type": "user", "date": 1, "sender_user": a_user()}} if forwarded else {}
    assert Gate(ALLOWED).admit(an_update(**{kind: content})) is None


def test_higher_roles_come_first_and_the_owner_is_owner_whatever_else_is_listed() -> None:
    """An id that is listed twice has its highest role."""
    allowed = AllowList(1, [1, 2], [1, 2, 3])
    assert allowed.at_least(Role.VIEWER) == (1, 2, 3)
    assert allowed.at_least(Role.OPERATOR) == (1, 2)
    assert [allowed.role(each) for each in range(4)] == [None, Role.OWNER, Role.OPERATOR, Role.VIEWER]


def test_many_strangers_do_not_fill_the_memory() -> None:
    """Beyond ten thousand they share one counter."""
    gate = Gate(ALLOWED)
    update = an_update(message=a_message(STRANGER))
    for user_id in itertools.islice(itertools.count(100), 10_500):
        gate.admit(an_update(message=a_message(user_id)))
    gate.admit(update)
    assert gate.refused == 10_501
    assert len(gate._strangers) <= 10_001
