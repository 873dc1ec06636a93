"""Commands that ask the trader for something. The effect is reported by its own message from the journal.

What lessens risk is done at one word by any operator. What may raise it is shown first, old → new with its effect,
on a card that only the owner can confirm, once, within its time, and only while nothing else has changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, TypeVar

from bot.access import Role
from bot.buttons import button
from bot.confirmation import ask_owner, digest_of
from bot.ports import Answer, Asked, Desk
from bot.text import coin, counted, fitted, money, own, percent, price, prose, quantity, word
from storage.tickets import Ticket
from trading.errors import BadInput
from trading.events import (
    CancelEntry,
    ChangeCouncil,
    ChangeSettings,
    ChangeSymbols,
    ClosePosition,
    MoveToBreakeven,
    Panic,
    PauseTrading,
    Request,
    ResumeTrading,
    StopEntries,
)
from trading.status import EntryView, PositionView, Status

V = TypeVar("V", PositionView, EntryView)

_SHARES: Final = (25, 50, 100)
_MOST_BUTTONS: Final = 8


async def pause(asked: Asked, desk: Desk) -> Answer:
    """Asks for no new entries. Asked every time, also when already paused: the last word counts."""
    already = " (they were not before, either)" if desk.trader.status().paused else ""
    text = (
        f"{desk.look.lead} <b>Pausing</b>: no new entries from now on{already}.\n"
        "Open positions keep their stops and exits. This survives a restart; /resume takes it back."
    )
    return Answer(text=text, request=PauseTrading(by=asked.by, command=asked.command_id))


async def resume(asked: Asked, desk: Desk) -> Answer:
    """Asks for entries again; with real money, or by a button, only after a confirmation."""
    status = desk.trader.status()
    if (desk.look.real_money or asked.tapped is not None) and status.paused:
        return await ask_owner(asked, desk, "resume", {}, _going_live(desk, status), "Trade again")
    already = "" if status.paused else " (they already were)"
    text = f"{desk.look.lead} <b>Resuming</b>: new entries are allowed again{already}.\n/pause takes it back."
    return Answer(text=text, request=ResumeTrading(by=asked.by, command=asked.command_id))


def _going_live(desk: Desk, status: Status) -> list[str]:
    """What allowing entries means in money."""
    now = desk.tunable.current()
    risk = now["risk_per_trade"] * float(status.equity)
    day = now["daily_loss_r"]
    head = "REAL MONEY: " if desk.look.real_money else ""
    return [
        f"{desk.look.lead} <b>{head}allow new entries?</b>",
        "Entries: blocked → open",
        f"Equity {money(status.equity, sign=False)}, leverage {status.leverage:g}x",
        f"Risk per trade {money(risk, sign=False)} ({percent(now['risk_per_trade'])})",
        f"At most {now['max_positions']:g} positions, {percent(now['max_open_risk'], 1)} at risk together",
        f"No entry after losing {day:g}R in a day: about {money(day * risk, sign=False)}",
        f"Markets: {', '.join(coin(symbol) for symbol in status.symbols)}",
    ]


async def stop(asked: Asked, desk: Desk) -> Answer:
    """Asks for a pause and for the cancellation of what rests."""
    resting = len(desk.trader.status().entries)
    text = (
        f"{desk.look.lead} <b>Stopping</b>: no new entries, {counted(resting, 'resting entry', 'resting entries')} "
        "to cancel.\nOpen positions keep their stops and exits. /resume takes it back."
    )
    return Answer(text=text, request=StopEntries(by=asked.by, command=asked.command_id))


async def panic(asked: Asked, desk: Desk) -> Answer:
    """Asks for everything to be cancelled and closed, now."""
    status = desk.trader.status()
    what = f"{counted(len(status.entries), 'order')} to cancel, {counted(len(status.positions), 'position')} to close"
    text = (
        f"{desk.look.lead} <b>PANIC</b>: no new entries, {what}, at the market, now.\n"
        "The proof follows as soon as the exchange shows nothing open."
    )
    return Answer(text=text, request=Panic(by=asked.by, command=asked.command_id))


async def close(asked: Asked, desk: Desk) -> Answer:
    """Asks for a position to be closed, whole or in part; without a name, offers what is open."""
    positions = desk.trader.status().positions
    if not asked.arguments:
        return _offer(asked, desk, positions)
    found = _position(positions, asked.arguments[0])
    if isinstance(found, str):
        return Answer(text=f"{desk.look.lead} {found}")
    if asked.arguments[1:] == ("choose",):
        return Answer(text=_position_line(desk, found), buttons=[_shares(found)])
    share = asked.arguments[1].removesuffix("%") if len(asked.arguments) > 1 else "100"
    if share not in {str(each) for each in _SHARES}:
        return Answer(text=f"{desk.look.lead} /close takes 25, 50 or 100 per cent, like /close {coin(found.symbol)} 50")
    text = (
        f"{desk.look.lead} <b>Closing {share}%</b> of {found.side.value.upper()} {coin(found.symbol)} at the market, "
        f"{quantity(found.qty)} open, {money(found.unrealised)} now."
    )
    part = Decimal(share) / 100
    request = ClosePosition(symbol=found.symbol, share=part, by=asked.by, command=asked.command_id)
    return Answer(text=text, request=request)


def _offer(asked: Asked, desk: Desk, positions: Sequence[PositionView]) -> Answer:
    if not positions:
        return Answer(text=f"{desk.look.lead} Nothing is open: there is nothing to close.")
    shown = positions[:_MOST_BUTTONS]
    lines = [f"{desk.look.lead} <b>Close which?</b>", *(_position_line(desk, each) for each in shown)]
    return Answer(text=fitted(lines), buttons=[_shares(each) for each in shown], in_place=asked.tapped is not None)


def _position_line(desk: Desk, view: PositionView) -> str:
    about = f"{desk.look.lead} <b>Close {view.side.value.upper()} {coin(view.symbol)}?</b>"
    return f"{about} {quantity(view.qty)} from {price(view.entry_price)}, now {money(view.unrealised)} {view.r:+.1f}R"


def _shares(view: PositionView) -> list[dict[str, str]]:
    name = coin(view.symbol)
    return [each for share in _SHARES for each in button(f"{name} {share}%", "close", view.symbol, share)]


async def breakeven(asked: Asked, desk: Desk) -> Answer:
    """Asks for the stop at the entry price."""
    positions = desk.trader.status().positions
    if not asked.arguments:
        choices = [(each, f"{coin(each.symbol)} to {price(each.entry_price)}") for each in positions]
        nothing = "Nothing is open: there is no stop to move."
        return _choose(asked, desk, "Move which stop to its entry?", choices, nothing)
    found = _position(positions, asked.arguments[0])
    if isinstance(found, str):
        return Answer(text=f"{desk.look.lead} {found}")
    text = (
        f"{desk.look.lead} <b>Break-even {coin(found.symbol)}</b>: stop {price(found.stop)} → "
        f"{price(found.entry_price)}, if that tightens it."
    )
    return Answer(text=text, request=MoveToBreakeven(symbol=found.symbol, by=asked.by, command=asked.command_id))


async def cancel(asked: Asked, desk: Desk) -> Answer:
    """Asks for a resting entry to be cancelled."""
    entries = desk.trader.status().entries
    if not asked.arguments:
        choices = [(each, f"Cancel {coin(each.symbol)} at {price(each.price)}") for each in entries]
        return _choose(asked, desk, "Cancel which entry?", choices, "No entry rests: there is nothing to cancel.")
    found = _entry(entries, asked.arguments[0])
    if isinstance(found, str):
        return Answer(text=f"{desk.look.lead} {found}")
    text = (
        f"{desk.look.lead} <b>Cancelling</b> the {found.side.value.upper()} {coin(found.symbol)} entry, "
        f"{quantity(found.qty)} at {price(found.price)}."
    )
    return Answer(text=text, request=CancelEntry(symbol=found.symbol, by=asked.by, command=asked.command_id))


def _choose(
    asked: Asked, desk: Desk, question: str, choices: Sequence[tuple[PositionView | EntryView, str]], nothing: str
) -> Answer:
    """The same command again with what it can be about, each on a button; a sentence when there is nothing."""
    offered = [button(text, asked.name, view.symbol) for view, text in choices[:_MOST_BUTTONS]]
    return Answer(text=f"{desk.look.lead} {question if choices else nothing}", buttons=offered or None)


async def set_(asked: Asked, desk: Desk) -> Answer:
    """Shows the settings, explains one, or changes some: at once when that can only lessen risk."""
    if not asked.arguments:
        return Answer(text=_settings_view(desk))
    if len(asked.arguments) == 1 and "=" not in asked.arguments[0]:
        return Answer(text=_setting_view(desk, asked.arguments[0]))
    try:
        values = desk.tunable.changed(asked.arguments)
    except BadInput as error:
        return Answer(text=f"{desk.look.lead} {own(str(error), 300)}")
    now = desk.tunable.current()
    values = {name: value for name, value in values.items() if value != now[name]}
    if not values:
        return Answer(text=f"{desk.look.lead} That is how it is set already: nothing changes.")
    lines = [f"{word(name, 40)}: {now[name]:g} → {value:g}" for name, value in values.items()]
    if not any(desk.tunable.riskier(name, now[name], value) for name, value in values.items()):
        text = fitted([f"{desk.look.lead} <b>Changing</b> {lines[0]}", *lines[1:], "This can only lessen risk."])
        return Answer(text=text, request=ChangeSettings(values=values, by=asked.by, command=asked.command_id))
    card = [f"{desk.look.lead} <b>Change settings?</b> {lines[0]}", *lines[1:], *_effects(desk, now, values)]
    body = {"values": values, "old": {name: now[name] for name in values}}
    return await ask_owner(asked, desk, "settings", body, card, "Change")


def _effects(desk: Desk, now: Mapping[str, float], values: Mapping[str, float]) -> list[str]:
    """What a change does, in money where it can be said."""
    equity = float(desk.trader.status().equity)
    lines = [f"– {word(name, 40)}: {own(desk.tunable.explain(name), 160)}" for name in values]
    if "risk_per_trade" in values:
        old, new = now["risk_per_trade"] * equity, values["risk_per_trade"] * equity
        lines.append(f"Loss at the stop: {money(old, sign=False, unit='')} → {money(new, sign=False)} a trade")
    return [*lines, "Holds from the next close on, also after a restart. Open trades keep their stops."]


def _settings_view(desk: Desk) -> str:
    """Every setting with its value; a star marks what differs from the configuration."""
    changed = desk.trader.status().settings
    wide = max(22, *(len(name) for name in desk.tunable.current()))
    rows = [
        f"{name:<{wide}} {value:>9g}{'*' if name in changed else ''}" for name, value in desk.tunable.current().items()
    ]
    table = "<pre>" + "\n".join(rows) + "</pre>"
    tail = "* changed in the chat. " if changed else ""
    example = "/set risk_per_trade 0.005 asks for a change, /set risk_per_trade explains."
    return fitted([f"{desk.look.lead} <b>Settings</b>", table, tail + example])


def _setting_view(desk: Desk, name: str) -> str:
    try:
        meaning = desk.tunable.explain(name)
    except BadInput as error:
        return f"{desk.look.lead} {own(str(error), 300)}"
    value = desk.tunable.current()[name]
    return f"{desk.look.lead} <b>{word(name, 40)} = {value:g}</b>\n{own(meaning, 300)}\n/set {word(name, 40)} NUMBER"


async def symbols(asked: Asked, desk: Desk) -> Answer:
    """Shows the markets, takes one out of new entries, or asks to let it in again."""
    status = desk.trader.status()
    if not asked.arguments:
        return Answer(text=_symbols_view(desk, status))
    sign, name = asked.arguments[0][:1], asked.arguments[0][1:].upper()
    known = {symbol: symbol for symbol in status.symbols} | {coin(symbol): symbol for symbol in status.symbols}
    symbol = known.get(name)
    if sign not in {"+", "-"} or symbol is None:
        names = ", ".join(status.symbols)
        text = (
            f"/symbols -{coin(status.symbols[0])} takes a market out of new entries, + lets it in again. "
            f"The configuration has {names}; another one goes into config.json under symbols, then restart."
        )
        return Answer(text=f"{desk.look.lead} {own(text, 500)}")
    muted = set(status.muted)
    if (sign == "-") == (symbol in muted):
        return Answer(text=f"{desk.look.lead} {coin(symbol)} is so already: nothing changes.")
    wanted = tuple(each for each in status.symbols if (each in muted) != (each == symbol))
    if sign == "-":
        text = f"{desk.look.lead} <b>No new entries on {coin(symbol)}</b> from now on; what is open is looked after."
        return Answer(text=text, request=ChangeSymbols(muted=wanted, by=asked.by, command=asked.command_id))
    if asked.caller.role < Role.OWNER:
        return Answer(text=f"{desk.look.lead} Only the owner lets a market in again.")
    card = [f"{desk.look.lead} <b>New entries on {coin(symbol)} again?</b>", "Entries: blocked → open"]
    body = {"muted": wanted, "old": status.muted}
    return await ask_owner(asked, desk, "symbols", body, card, f"Trade {coin(symbol)}")


def _symbols_view(desk: Desk, status: Status) -> str:
    rows = []
    for symbol in status.symbols:
        last = status.last_prices.get(symbol)
        state = "no new entries" if symbol in status.muted else "traded"
        rows.append(f"{coin(symbol)}: {state}" + (f", {price(last)}" if last is not None else ""))
    return fitted([f"{desk.look.lead} <b>{counted(len(status.symbols), 'market')}</b>", *rows, "/symbols -NAME, +NAME"])


# Confirmations: a ticket is bound to a hash of exactly what it permits, and works once.


async def confirm(asked: Asked, desk: Desk) -> Answer:
    """A tap on a card's yes: done once, if it is in time and nothing has changed since it was shown."""
    if len(asked.arguments) != 1:
        return Answer(text=f"{desk.look.lead} This is said by a card's button.")
    known = await desk.tickets.find(asked.arguments[0])
    if known is None or known[0].chat_id != asked.caller.user_id:
        return Answer(text=f"{desk.look.lead} There is nothing to confirm.")
    stale = _stale(known[0], desk)
    ticket = None
    if not stale:
        ticket = await desk.tickets.use(
            asked.arguments[0], user=asked.caller.user_id, update_id=asked.update_id, at=asked.at
        )
    if ticket is None or ticket.digest != digest_of(ticket.kind, ticket.body):
        why = stale or "it is over, or was used already"
        return Answer(text=f"{desk.look.lead} <b>Not done</b>: {own(why, 200)}. Nothing was changed.", in_place=True)
    text = f"{desk.look.lead} <b>Confirmed</b>: {prose(_summary(ticket), 300)}"
    return Answer(text=text, request=_permitted(ticket, asked), in_place=True)


async def dismiss(asked: Asked, desk: Desk) -> Answer:
    """A tap on a card's no."""
    if len(asked.arguments) == 1:
        await desk.tickets.withdraw(asked.arguments[0])
    return Answer(text=f"{desk.look.lead} <b>Left as it was</b>: nothing was changed.", in_place=True)


def _stale(ticket: Ticket, desk: Desk) -> str:
    """Why what the card showed is not so any more; empty when it still is."""
    body = ticket.body
    if ticket.kind == "settings":
        now = desk.tunable.current()
        moved = [name for name, old in body["old"].items() if now[name] != old]
        return f"{moved[0]} has been changed since" if moved else ""
    if ticket.kind == "symbols":
        same = tuple(body["old"]) == tuple(desk.trader.status().muted)
        return "" if same else "the markets have been changed since"
    return _council_moved(body, desk) if ticket.kind == "council" else ""


def _council_moved(body: Mapping[str, Any], desk: Desk) -> str:
    """A card is about the council as it was, and about one that there still can be."""
    if body["old"] != desk.trader.status().council:
        return "the council has been changed since"
    missing = desk.council_modes().get(body["mode"], "is not known any more")
    return f"{body['mode']} {missing}" if missing else ""


def _permitted(ticket: Ticket, asked: Asked) -> Request:
    if ticket.kind == "settings":
        values, source = dict(ticket.body["values"]), str(ticket.body.get("source", ""))
        return ChangeSettings(values=values, by=asked.by, command=asked.command_id, source=source)
    if ticket.kind == "symbols":
        return ChangeSymbols(muted=tuple(ticket.body["muted"]), by=asked.by, command=asked.command_id)
    if ticket.kind == "council":
        return ChangeCouncil(mode=str(ticket.body["mode"]), by=asked.by, command=asked.command_id)
    return ResumeTrading(by=asked.by, command=asked.command_id)


def _summary(ticket: Ticket) -> str:
    if ticket.kind == "settings":
        old = ticket.body["old"]
        return ", ".join(f"{name} {old[name]:g} → {value:g}" for name, value in ticket.body["values"].items())
    if ticket.kind == "symbols":
        return "the markets that are traded change"
    if ticket.kind == "council":
        return f"the council changes, {ticket.body['old']} → {ticket.body['mode']}"
    return "new entries are allowed"


# Finding what is meant


def _position(positions: Sequence[PositionView], name: str) -> PositionView | str:
    """The open position of a symbol, a coin or a decision's number; else a sentence."""
    return _meant(positions, name) or _nothing_open(positions, name, "position")


def _entry(entries: Sequence[EntryView], name: str) -> EntryView | str:
    return _meant(entries, name) or _nothing_open(entries, name, "resting entry")


def _meant(views: Sequence[V], name: str) -> V | None:
    wanted = name.upper().removeprefix("#")
    for view in views:
        if wanted in {view.symbol, coin(view.symbol), str(view.verdict_id)}:
            return view
    return None


def _nothing_open(views: Sequence[PositionView] | Sequence[EntryView], name: str, what: str) -> str:
    have = ", ".join(f"{coin(view.symbol)} (#{view.verdict_id})" for view in views[:_MOST_BUTTONS])
    return f"There is no {what} {word(name, 20)}. " + (f"There is {have}." if have else "There is none at all.")
