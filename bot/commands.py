"""The command table: the one place that says what there is.

The router, the access check, /help, Telegram's own menu and the README's list are all drawn from it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from bot.access import Role
from bot.handlers import council, research, rest, see, steer
from bot.ports import Command, Group, Handler

_STUDY: Final = "[SYMBOL] [interval] [days] [council=rules] [name=value …]"
_SEARCH: Final = "[SYMBOL] [interval] [days] [name=a,b,c|start:stop:step …]"
_FOLDS: Final = "[SYMBOL] [interval] [days] [name=a,b,c …] [folds=n]"


def _looks(
    name: str, description: str, handler: Handler, usage: str = "", *, group: Group = "see", slow: bool = True
) -> Command:
    """A command that everybody on the list may say. What asks the database or draws is answered beside the others."""
    return Command(
        name=name, group=group, needs=Role.VIEWER, description=description, handler=handler, usage=usage, slow=slow
    )


def _steers(
    name: str, description: str, handler: Handler, usage: str = "", *, needs: Role = Role.OPERATOR, raises: bool = False
) -> Command:
    """A command that changes something; never behind a slow one."""
    return Command(
        name=name,
        group="steer",
        needs=needs,
        description=description,
        handler=handler,
        usage=usage,
        raises_risk=raises,
    )


def _asks(
    name: str, description: str, handler: Handler, usage: str = "", *, needs: Role = Role.OPERATOR, hidden: bool = False
) -> Command:
    """A command to the laboratory, answered beside the others. Its work takes the machine's time: operators."""
    return Command(
        name=name,
        group="research",
        needs=needs,
        description=description,
        handler=handler,
        usage=usage,
        slow=True,
        hidden=hidden,
    )


COMMANDS: tuple[Command, ...] = (
    _looks("status", "positions, result, next close, and which gate is shut", see.status, slow=False),
    _looks("balance", "cash, equity, margin, fees and funding", see.balance),
    _looks("orders", "what rests on the exchange", see.orders, slow=False),
    _looks("trades", "the last trades", see.trades, "[n]"),
    _looks("trade", "one trade from decision to exit", see.trade, "ID"),
    _looks("profit", "result of the last days in USDT, % and R", see.profit, "[days]"),
    _looks("daily", "result by day, as a table and bars", see.daily, "[n]"),
    _looks("weekly", "result by week", see.weekly, "[n]"),
    _looks("monthly", "result by month", see.monthly, "[n]"),
    _looks("performance", "result by market and by way out", see.performance),
    _looks("equity", "the equity curve with its drawdown", see.equity, "[days]"),
    _looks("chart", "candles, indicators and fills", see.chart, "SYMBOL [timeframe]"),
    _looks("health", "connections, disk, memory, delays", see.health),
    _looks("logs", "the last lines of the log", see.logs, "[n]"),
    _looks("version", "what runs, in which version", see.version),
    _looks("verdicts", "the last decisions, approved and rejected", council.verdicts, "[n]", group="council"),
    _looks("why", "one decision with every argument", council.why, "ID", group="council"),
    _looks("whynot", "how many signals died at which gate", council.whynot, "[SYMBOL]", group="council"),
    _looks("council", "how good the council is, and what it costs", council.council, "[chart|excel]", group="council"),
    Command(
        name="ask",
        group="council",
        needs=Role.OPERATOR,
        description="a council reading of a market now, never an order",
        handler=council.ask,
        usage="SYMBOL [long|short]",
        slow=True,
    ),
    Command(
        name="mode",
        group="council",
        needs=Role.OPERATOR,
        description="which council decides, and what is missing for the others",
        handler=council.mode,
        usage="[rules|strict|degraded|shadow|off]",
    ),
    _asks("backtest", "how it would have done: chart, verdict, Excel", research.backtest, _STUDY),
    _asks("backtests", "what works, and the last runs", research.backtests, "[n]", needs=Role.VIEWER),
    _asks("optimize", "search over parameters; without any, around what trades", research.optimize, _SEARCH),
    _asks("walkforward", "search, then judge on later bars, fold by fold", research.walkforward, _FOLDS),
    _asks("compare", "two runs side by side", research.compare, "ID ID", needs=Role.VIEWER),
    _asks("params", "what trades now, and who changed it when", research.params, needs=Role.VIEWER),
    _asks("apply", "trade with a run's parameters; asks first", research.apply, "ID", needs=Role.OWNER),
    _asks("rollback", "back to before the last apply; asks first", research.rollback, needs=Role.OWNER),
    _asks("again", "a button: the same work once more", research.again, hidden=True),
    Command(
        name="abandon",
        group="research",
        needs=Role.OPERATOR,
        description="a button: end work that is under way",
        handler=research.abandon,
        hidden=True,
    ),
    _steers("pause", "no new entries; stops and exits go on", steer.pause),
    _steers("resume", "allow new entries again", steer.resume, needs=Role.OWNER, raises=True),
    _steers("stop", "pause, and cancel what rests", steer.stop),
    _steers("panic", "block entries, cancel all, close all, prove it", steer.panic),
    _steers("close", "close a position, whole or in part", steer.close, "ID|SYMBOL [25|50|100]"),
    _steers("breakeven", "move a stop to its entry", steer.breakeven, "ID|SYMBOL"),
    _steers("cancel", "cancel a resting entry", steer.cancel, "ID|SYMBOL"),
    _steers("set", "show, explain or change settings", steer.set_, "[name value]"),
    _steers("symbols", "which markets get new entries", steer.symbols, "[+SYMBOL|-SYMBOL]"),
    _looks("start", "where you stand, and the next step; starts nothing", rest.start, group="rest", slow=False),
    _looks("menu", "buttons for all of this", rest.menu, group="rest", slow=False),
    _looks("help", "this list, or one command", rest.help_, "[command]", group="rest", slow=False),
    Command(
        name="gone",
        group="rest",
        needs=Role.VIEWER,
        description="a button that no longer is one",
        handler=rest.gone,
        hidden=True,
    ),
    Command(
        name="confirm",
        group="rest",
        needs=Role.OWNER,
        description="a card's yes",
        handler=steer.confirm,
        raises_risk=True,
        hidden=True,
    ),
    Command(
        name="dismiss", group="rest", needs=Role.OPERATOR, description="a card's no", handler=steer.dismiss, hidden=True
    ),
)
_SPOKEN: Final = re.compile(r"/([A-Za-z0-9_]{1,32})(?:@\w+)?(?:\s+(.*))?", re.DOTALL)
_LONGEST_ARGUMENTS: Final = 16


_TITLES: Final = {"see": "See", "council": "Council", "research": "Research", "steer": "Steer", "rest": "The rest"}


def listing(commands: Sequence[Command] = COMMANDS) -> str:
    """The table for README, in Markdown: everything that can be said, by group."""
    lines = ["| say | from | what it does |", "| --- | --- | --- |"]
    for group, title in _TITLES.items():
        rows = [command for command in commands if command.group == group and not command.hidden]
        lines += [f"| **{title}** | | |"] if rows else []
        for command in rows:
            words = f"/{command.name} {command.usage}".strip().replace("|", "\\|")
            lines.append(f"| `{words}` | {command.needs.label} | {command.description} |")
    return "\n".join(lines)


def menu(commands: Sequence[Command] = COMMANDS) -> list[tuple[str, str]]:
    """Names and descriptions for Telegram's own menu."""
    return [(command.name, command.description) for command in commands if not command.hidden]


def route(
    text: str, commands: Sequence[Command] = COMMANDS, *, tapped: bool = False
) -> tuple[Command, tuple[str, ...]]:
    """The command that was said, with its arguments. What is none means /help; what only buttons say, too, in words."""
    spoken = _SPOKEN.fullmatch(text.strip())
    name = spoken.group(1).lower() if spoken else ""
    table = {command.name: command for command in commands if tapped or not command.hidden}
    if spoken is None or name not in table:
        return table["gone" if tapped else "help"], ()
    return table[name], tuple((spoken.group(2) or "").split()[:_LONGEST_ARGUMENTS])
