"""Every command, in every role, in every way that Telegram can deliver it: what the table says, and nothing else."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest
from telegram import Update

from bot import handlers
from bot.access import Role
from bot.commands import COMMANDS
from bot.handlers import council, research, rest, see, steer
from bot.ports import Answer, Asked, Command, Desk
from tests.bot.stage import OPERATOR, OWNER, STRANGER, VIEWER, Stage, staged
from tests.structure import ROOT

Json = dict[str, Any]
PEOPLE: dict[int, Role | None] = {OWNER: Role.OWNER, OPERATOR: Role.OPERATOR, VIEWER: Role.VIEWER, STRANGER: None}
NOW = 4_000_000_000  # a message from the future is as late as one from the past: never used with what raises risk


def a_person(user_id: int) -> Json:
    return {"id": user_id, "is_bot": False, "first_name": "Ann"}


def a_message(user_id: int, text: str, date: int, **more: Any) -> Json:
    chat = {"id": user_id, "type": "private", "first_name": "Ann"}
    return {"message_id": 7, "date": date, "chat": chat, "from": a_person(user_id), "text": text, **more}


def a_tap(user_id: int, data: str, date: int, **more: Any) -> Json:
    bot = {"id": 7000000001, "is_bot": True, "first_name": "Conclave"}
    shown = a_message(user_id, "PAPER a card", date) | {"from": bot}
    return {"id": "1", "from": a_person(user_id), "chat_instance": "1", "data": data, "message": shown, **more}


def ways(user_id: int, name: str, date: int) -> dict[str, Json]:
    """An update of each kind that carries the command."""
    text = f"/{name}"
    group = {"chat": {"id": -100, "type": "supergroup", "title": "g"}}
    channel = {"chat": {"id": -200, "type": "channel", "title": "c"}}
    forwarded = {"forward_origin": {"type": "user", "date": 1, "sender_user": a_person(OWNER)}}
    query = {"id": "1", "from": a_person(user_id), "query": text, "offset": ""}
    return {
        "message": {"message": a_message(user_id, text, date)},
        "button": {"callback_query": a_tap(user_id, name, date)},
        "edit": {"edited_message": a_message(user_id, text, date, edit_date=date)},
        "group": {"message": a_message(user_id, text, date, **group)},
        "group button": {
            "callback_query": a_tap(user_id, name, date) | {"message": a_message(user_id, text, date, **group)}
        },
        "channel post": {"channel_post": a_message(user_id, text, date, **channel)},
        "channel edit": {"edited_channel_post": a_message(user_id, text, date, edit_date=date, **channel)},
        "forward": {"message": a_message(user_id, text, date, **forwarded)},
        "inline": {"inline_query": query},
        "inline result": {"chosen_inline_result": {"result_id": "1", "from": a_person(user_id), "query": text}},
        "inline button": {
            "callback_query": {key: value for key, value in a_tap(user_id, name, date).items() if key != "message"}
            | {"inline_message_id": "i"}
        },
        "business": {"business_message": a_message(user_id, text, date, business_connection_id="b")},
    }


def expected(command: Command, role: Role | None, way: str) -> bool:
    """Does the handler run? Buttons say what is hidden from menus; words do not."""
    if role is None or way not in {"message", "button"} or (command.hidden and way == "message"):
        return False
    return role >= command.needs


@dataclasses.dataclass(slots=True)
class Ran:
    """The commands whose handlers ran, with the role of whom they ran for."""

    commands: list[tuple[str, Role]] = dataclasses.field(default_factory=list)

    def instead_of(self, command: Command) -> Command:
        async def handler(asked: Asked, desk: Desk) -> Answer:
            assert asked.caller.role >= command.needs
            self.commands.append((asked.name, asked.caller.role))
            return Answer(text="PAPER ran")

        return dataclasses.replace(command, handler=handler, slow=False)


async def deliver(stage: Stage, update_id: int, content: Json) -> None:
    """As the poller hands it over."""
    update = Update.de_json({"update_id": update_id, **content}, None)
    await stage.conversation._accept(update)


@pytest.mark.parametrize("user_id", PEOPLE, ids=["owner", "operator", "viewer", "stranger"])
async def test_every_command_in_every_role_in_every_way(tmp_path: Path, user_id: int) -> None:
    """What the table allows runs, once; everything else never reaches a handler, a stranger not even the disk."""
    ran, role, update_id = Ran(), PEOPLE[user_id], 0
    wanted: list[tuple[str, Role]] = []
    async with staged(tmp_path, commands=tuple(ran.instead_of(each) for each in COMMANDS)) as stage:
        date = int(stage.conversation._reception._wall().timestamp())
        for command in COMMANDS:
            for way, content in ways(user_id, command.name, date).items():
                update_id += 1
                await deliver(stage, update_id, content)
                if expected(command, role, way):
                    assert role is not None
                    wanted.append((command.name, role))
                elif command.hidden and way == "message" and role is not None:
                    wanted.append(("help", role))  # a hidden command in words is no command
        if role is None:
            assert await stage.inbox.pending() == []
        await stage.owner.reply_to(await stage.owner.say("/help"))  # everything before it is dealt with
        assert ran.commands == [*wanted, ("help", Role.OWNER)]
        assert stage.trader.asked == []


def test_every_handler_is_behind_the_table() -> None:
    """No public function of bot/handlers is reachable but through a row that names its role."""
    modules = (council, research, rest, see, steer)
    files = {path.stem for path in Path(handlers.__path__[0]).glob("*.py")} - {"__init__"}
    assert files == {module.__name__.rsplit(".", 1)[1] for module in modules}
    public = {
        function
        for module in modules
        for name, function in vars(module).items()
        if inspect.iscoroutinefunction(function) and function.__module__ == module.__name__ and name[0] != "_"
    }
    assert public == {command.handler for command in COMMANDS}


def test_nobody_but_the_gate_makes_a_caller_and_nobody_but_reception_an_asked() -> None:
    """A handler takes an `Asked`, that takes a `Caller`, and that only the gate makes: the gate ran first."""
    made: dict[str, set[str]] = {"Caller": set(), "Asked": set()}
    for path in (ROOT / "bot").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in made:
                made[node.func.id].add(path.relative_to(ROOT).as_posix())
    assert made == {"Caller": {"bot/access.py"}, "Asked": {"bot/reception.py"}}
