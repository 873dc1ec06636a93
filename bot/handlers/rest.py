"""/start, /help and /menu: where one stands, what there is, and buttons for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bot.access import Role
from bot.buttons import button, rows
from bot.ports import Answer, Asked, Command, Desk, Group
from bot.text import coin, fitted, moment, own, word
from trading.parameters import near
from trading.status import Status

_MAY: Final = {
    Role.VIEWER: "you may look",
    Role.OPERATOR: "you may look and reduce risk",
    Role.OWNER: "you may do everything",
}
_FOR: Final = {
    Role.VIEWER: "everybody on the list",
    Role.OPERATOR: "operators and the owner",
    Role.OWNER: "the owner",
}
_GROUPS: Final[dict[Group, str]] = {
    "see": "See",
    "council": "Council",
    "research": "Research",
    "steer": "Steer",
    "rest": "Rest",
}
_EXAMPLES: Final = {
    "trades": "/trades 5",
    "trade": "/trade 12",
    "profit": "/profit 7",
    "daily": "/daily 14",
    "weekly": "/weekly 8",
    "monthly": "/monthly 12",
    "equity": "/equity 90",
    "chart": "/chart BTC 1d",
    "logs": "/logs 50",
    "verdicts": "/verdicts 5",
    "why": "/why 12",
    "whynot": "/whynot BTC",
    "council": "/council chart",
    "ask": "/ask ETH short",
    "mode": "/mode strict",
    "backtest": "/backtest BTC 15m 365d council=rules",
    "backtests": "/backtests 20",
    "optimize": "/optimize BTC 4h 2y ema_period=100,150,200 adx_min=15:30:5",
    "walkforward": "/walkforward BTC 4h 3y folds=6",
    "compare": "/compare 88 87",
    "apply": "/apply 88",
    "close": "/close BTC 50",
    "breakeven": "/breakeven 12",
    "cancel": "/cancel 12",
    "set": "/set risk_per_trade 0.005",
    "symbols": "/symbols -ETH",
    "help": "/help chart",
}
_MENU: Final = (
    (("Status", "status new"), ("Balance", "balance"), ("Orders", "orders new")),
    (("Trades", "trades"), ("Profit", "profit"), ("Equity", "equity")),
    (("Chart", "chart"), ("Verdicts", "verdicts"), ("Council", "council"), ("Mode", "mode")),
    (("Backtest", "backtest"), ("Runs", "backtests"), ("Parameters", "params")),
    (("Health", "health new"), ("Pause", "pause"), ("Resume", "resume"), ("Help", "help")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One rung of the way to real money: what it is, and the lines of .env that lead to it."""

    name: str
    lines: tuple[str, ...]
    hint: str


_KEYS: Final = ("BYBIT_KEY=", "BYBIT_SECRET=")
LADDER: Final = (
    Rung(name="paper on made-up prices", lines=(), hint=""),
    Rung(
        name="paper on live prices",
        lines=("FEED=live",),
        hint="Bybit's public prices, still nobody's money and no key; start without --candles.",
    ),
    Rung(
        name="demo account",
        lines=("EXCHANGE=demo", *_KEYS),
        hint="Bybit's own matching with play money; make the key in demo trading.",
    ),
    Rung(
        name="testnet",
        lines=("EXCHANGE=testnet", *_KEYS),
        hint="Bybit's test network; make the key at testnet.bybit\u2060.com.",
    ),
    Rung(
        name="live",
        lines=("EXCHANGE=live", *_KEYS),
        hint="Real money; a key with the right to trade, never to withdraw. It starts paused, /resume asks the owner.",
    ),
)
"""The way to real money, step by step."""
_RUNGS: Final = {"DEMO": 2, "TESTNET": 3, "LIVE": 4}
_MEANING: Final = {
    "LIVE": "real money on the exchange",
    "DEMO": "the exchange's demo account, no real money",
    "TESTNET": "the exchange's test network, no real money",
    "PAPER": "a simulated exchange, no real money",
    "REPLAY": "recorded prices on a simulated exchange, no real money",
}


async def start(asked: Asked, desk: Desk) -> Answer:
    """Where the caller stands, what happens by itself, and the next step. Trading neither starts nor stops by it."""
    status, lead = desk.trader.status(), desk.look.lead
    entries = "blocked: " + "; ".join(own(gate, 120) for gate in status.gates[:5]) if status.gates else "open"
    kind = (desk.look.badge.split() or [""])[0].upper()
    you = f"You are {asked.caller.role.label}: {_MAY[asked.caller.role]}."
    lines = [
        f"{lead} <b>Conclave</b> is here; new entries are {entries}",
        f"{lead} means {_MEANING.get(kind, 'what the configuration says')}. {you}",
        _by_itself(status, desk),
        "This message has started nothing. /pause and /resume steer, /status shows, /menu has buttons.",
        *_next_step(_RUNGS.get(kind, 0 if desk.look.made_up else 1)),
    ]
    return Answer(text=fitted(lines), buttons=rows(button("Status", "status new"), button("Menu", "menu new")))


def _by_itself(status: Status, desk: Desk) -> str:
    names = ", ".join(coin(symbol) for symbol in status.symbols[:8]) or "no market"
    closes = f" (next {moment(status.next_close, desk.look.zone)})" if status.next_close is not None else ""
    return (
        f"At every close{closes} the strategy looks at {names}. A signal passes the guards, then the council, which "
        "may veto or shrink it; the order leaves with its stop. Each step comes here."
    )


def _next_step(stands: int) -> list[str]:
    """The rung one stands on, and the lines that lead to the one after it."""
    if stands == len(LADDER) - 1:
        return ["<b>The last step</b>: this is live. There is no next one; smaller is always possible with /set."]
    names = " → ".join(f"<b>{rung.name}</b>" if place == stands else rung.name for place, rung in enumerate(LADDER))
    rung = LADDER[stands + 1]
    lines = [
        f"The way: {names}",
        f"<b>Next step: {rung.name}</b>. In .env, then start again:",
        f"<pre>{chr(10).join(rung.lines)}</pre>",
        rung.hint,
    ]
    if stands < 2:
        lines.append("To have this chat on Telegram: TELEGRAM_BOT_TOKEN and TELEGRAM_OWNER_ID in the same file.")
    return lines


async def help_(asked: Asked, desk: Desk) -> Answer:
    """What the caller may say, by groups; or one command with an example."""
    shown = [command for command in desk.commands if not command.hidden]
    if asked.arguments:
        return Answer(text=f"{desk.look.lead} {_about(asked.arguments[0], shown)}")
    mine = [command for command in shown if command.needs <= asked.caller.role]
    lines = [f"{desk.look.lead} <b>{len(mine)} commands</b>; /help chart explains one"]
    for group in dict.fromkeys(command.group for command in mine):
        lines.append(f"<b>{_GROUPS[group]}</b>")
        lines += [_entry(command) for command in mine if command.group == group]
    if len(mine) < len(shown):
        lines.append(f"{len(shown) - len(mine)} more are for operators or the owner.")
    return Answer(text="\n".join(lines))


def _about(wanted: str, shown: Sequence[Command]) -> str:
    name = wanted.removeprefix("/").lower()
    command = next((each for each in shown if each.name == name), None)
    if command is None:
        hint = own(near(name[:40], [each.name for each in shown]), 60)
        return f"there is no /\u2060{word(name)}{hint}: /help lists what there is"
    example = _EXAMPLES.get(command.name, f"/{command.name}")
    late = "\nNot done when it comes more than a minute late: it may raise risk." if command.raises_risk else ""
    return f"{_entry(command)}\nFor example: {example}\nFor: {_FOR[command.needs]}{late}"


def _entry(command: Command) -> str:
    usage = f" <code>{word(command.usage, 60)}</code>" if command.usage else ""
    return f"/{command.name}{usage} – {own(command.description, 200)}"


async def menu(asked: Asked, desk: Desk) -> Answer:
    """Buttons in groups: what the caller may do, and what makes sense now."""
    status = desk.trader.status()
    known = {each.name for each in desk.commands if each.needs <= asked.caller.role}
    senseless = "pause" if status.paused else "resume"
    groups = []
    for group in _MENU:
        wanted = [(text, data) for text, data in group if data.split()[0] in known and data != senseless]
        groups += rows(*(button(text, data) for text, data in wanted), across=4) or []
    state = "paused" if status.paused else f"{len(status.positions)} open"
    text = f"{desk.look.lead} <b>menu</b>: {state}, {asked.caller.role.label}"
    in_place = asked.tapped is not None and asked.arguments != ("new",)
    return Answer(text=text, buttons=groups or None, in_place=in_place)


async def gone(asked: Asked, desk: Desk) -> Answer:
    """A button of an older card whose command there is no more."""
    return Answer(text=f"{desk.look.lead} That button is no longer active. /menu has those that are.")
