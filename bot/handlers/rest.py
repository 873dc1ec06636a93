"""/start and /help."""

from __future__ import annotations

from bot.access import Role
from bot.ports import Answer, Asked, Command, Desk
from bot.text import fitted, own, word

_MEANING = {
    "LIVE": "real money on the exchange",
    "DEMO": "the exchange's demo account, no real money",
    "TESTNET": "the exchange's test network, no real money",
    "PAPER": "a simulated exchange, no real money",
    "REPLAY": "recorded prices on a simulated exchange, no real money",
}
_MAY = {
    Role.VIEWER: "you may look",
    Role.OPERATOR: "you may look and reduce risk",
    Role.OWNER: "you may do everything",
}


async def start(asked: Asked, desk: Desk) -> Answer:
    """Where the caller stands. Trading neither starts nor stops by it."""
    status = desk.trader.status()
    entries = "blocked: " + "; ".join(own(gate, 120) for gate in status.gates) if status.gates else "open"
    kind = _MEANING.get((desk.look.badge.split() or [""])[0].upper(), "see the configuration")
    return Answer(
        text=fitted(
            [
                f"{desk.look.lead} <b>Conclave</b> is here; new entries are {entries}",
                f"{desk.look.lead} means {kind}.",
                f"You are {asked.caller.role.label}: {_MAY[asked.caller.role]}.",
                "This message has started nothing: trading runs by itself, /pause and /resume steer it.",
                "/status shows how things stand, /help what there is.",
            ]
        )
    )


async def help_(asked: Asked, desk: Desk) -> Answer:
    """The whole table by groups, or one command."""
    if asked.arguments:
        wanted = asked.arguments[0].removeprefix("/").lower()
        for command in desk.commands:
            if command.name == wanted:
                return Answer(text=f"{desk.look.lead} {_entry(command)}\nFor: {_who(command)}")
        return Answer(text=f"{desk.look.lead} There is no /\u2060{word(wanted)}. /help lists what there is.")
    lines = [f"{desk.look.lead} <b>Commands</b>"]
    for group in dict.fromkeys(command.group for command in desk.commands):
        lines.append(f"<b>{group}</b>")
        lines += [_entry(command) for command in desk.commands if command.group == group]
    return Answer(text=fitted(lines))


def _entry(command: Command) -> str:
    usage = f" <code>{word(command.usage, 60)}</code>" if command.usage else ""
    return f"/{command.name}{usage} – {command.description}"


def _who(command: Command) -> str:
    return {
        Role.VIEWER: "everybody on the list",
        Role.OPERATOR: "operators and the owner",
        Role.OWNER: "the owner",
    }[command.needs]
