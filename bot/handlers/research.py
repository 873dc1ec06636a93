"""Asking the laboratory, and taking over what it found.

Looking is for everybody on the list. Starting work is for operators: it takes the machine's time from everybody, one
study at a time. Taking over a run, or going back, may raise risk: the owner confirms a card that shows old → new.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Final

from bot.access import Role
from bot.buttons import button, rows
from bot.confirmation import ask_owner
from bot.handlers.see import count_of
from bot.ports import Answer, Asked, Desk
from bot.text import coin, own, prose, word
from bot.views.research import (
    KINDS,
    Working,
    apply_card,
    bar_length,
    compare_view,
    headline,
    params_view,
    rollback_card,
    runs_view,
)
from trading.errors import BadInput, ConclaveError, Transient
from trading.events import SettingsChanged
from trading.laboratory import Finding, Kind, Study

_RUNS: Final = (10, 30)
_KNOWN: Final = 60  # runs that are looked through for one of what trades now
_NUMBER: Final = re.compile(r"#?(\d{1,9})", re.ASCII)
_AS_RUN: Final = re.compile(r"#(\d{1,9})", re.ASCII)
_APPLIED: Final = "run "
_TAKEN_BACK: Final = "rollback "


async def backtest(asked: Asked, desk: Desk) -> Answer:
    """How something would have done; without words, what trades now over the last year, without a council."""
    return await _study(asked, desk, "backtest")


async def optimize(asked: Asked, desk: Desk) -> Answer:
    """A search over parameters; without a grid, around what trades now."""
    return await _study(asked, desk, "optimize")


async def walkforward(asked: Asked, desk: Desk) -> Answer:
    """A search that is judged on the bars after those that it saw, again and again."""
    return await _study(asked, desk, "walkforward")


async def _study(asked: Asked, desk: Desk, kind: Kind) -> Answer:
    """The study that the words ask for, as long work; `#88` among them means: as that run, but for the other words."""
    words = [each for each in asked.arguments if not _AS_RUN.fullmatch(each)]
    named = [each for each in asked.arguments if _AS_RUN.fullmatch(each)]
    try:
        base = await _run(desk, named[0]) if named else None
        study = desk.studies.asked(kind, words, base.study if base is not None else None)
    except (BadInput, Transient) as error:
        return Answer(text=f"{desk.look.lead} {own(str(error), 400)}")
    return Answer(text=f"{desk.look.lead} <b>{headline(study)}</b>", study=study)


async def _run(desk: Desk, number: str) -> Finding:
    """The finding of a run's number, `88` or `#88`; `BadInput` when there is none."""
    digits = _NUMBER.fullmatch(number)
    found = await desk.laboratory.run(int(digits[1])) if digits else None
    if found is None:
        raise BadInput(f"there is no run {number[:20]}: /backtests lists those there are")
    return found


async def again(asked: Asked, desk: Desk) -> Answer:
    """A button: the same work once more, after a cancel, a failure or a restart."""
    study = await desk.jobs.study_of(asked.arguments[0]) if len(asked.arguments) == 1 else None
    if study is None:
        return Answer(text=f"{desk.look.lead} That work is not known any more: write it again, like /backtest")
    return Answer(text=f"{desk.look.lead} <b>{headline(study)}</b>", study=study)


async def abandon(asked: Asked, desk: Desk) -> Answer:
    """A button: end work that is under way. `list` after its name: the button was not on its own message."""
    if not asked.arguments:
        return Answer(text=f"{desk.look.lead} This is said by a button under work that is under way.")
    study = await desk.jobs.study_of(asked.arguments[0])
    ended = await desk.jobs.cancel(asked.arguments[0], asked.by)
    if ended is None or study is None:
        return Answer(text=f"{desk.look.lead} That is over already: there is nothing to cancel.")
    if asked.arguments[1:] == ("list",):
        return Answer(text=f"{desk.look.lead} <b>Cancelled</b>: {headline(study)}")
    return Answer(text=ended.text, buttons=ended.buttons, in_place=True)


async def backtests(asked: Asked, desk: Desk) -> Answer:
    """What works or waits, and the last n runs."""
    count = count_of(asked, *_RUNS)
    if isinstance(count, str):
        return Answer(text=f"{desk.look.lead} {count}")
    working = desk.jobs.under_way()
    try:
        runs = await desk.laboratory.runs(count)
    except ConclaveError as error:
        return Answer(text=f"{desk.look.lead} {prose(str(error), 300)}")
    shown = [
        Working(study=each.study, by=each.by, before=each.before, elapsed=each.elapsed) for each in working
    ]
    cancels = []
    if asked.caller.role >= Role.OPERATOR:
        names = [f"{KINDS[each.study.kind].lower()} {each.study.symbol.removesuffix('USDT')}" for each in working]
        cancels = [
            button(f"Cancel {name}", "abandon", each.nonce, "list") for name, each in zip(names, working, strict=True)
        ]
    last = [button(f"Compare #{runs[0][0]}, #{runs[1][0]}", "compare", runs[0][0], runs[1][0])] if runs[1:] else []
    return Answer(text=runs_view(runs, shown, desk.look), buttons=rows(*cancels, *last, across=2))


async def compare(asked: Asked, desk: Desk) -> Answer:
    """Two runs side by side."""
    if len(asked.arguments) != 2:
        says = "/compare takes two numbers of runs, like /compare 88 87; /backtests lists them"
        return Answer(text=f"{desk.look.lead} {says}")
    try:
        one, two = [await _run(desk, each) for each in asked.arguments]
    except (BadInput, Transient) as error:
        return Answer(text=f"{desk.look.lead} {own(str(error), 300)}")
    first, second = (int(each.removeprefix("#")) for each in asked.arguments)
    return Answer(text=compare_view((first, one), (second, two), desk.look))


async def params(asked: Asked, desk: Desk) -> Answer:
    """What trades now, and every change of it: by whom, since when, from which run."""
    status = desk.trader.status()
    past = await desk.records.settings_changes()
    names = ", ".join(dict.fromkeys(desk.studies.strategy(each) for each in status.symbols))
    text = params_view(names, desk.params, status.settings, past[::-1], desk.look)
    able = asked.caller.role >= Role.OWNER and _last_applied(past) is not None
    return Answer(text=text, buttons=rows(button("Roll back…", "rollback")) if able else None)


async def apply(asked: Asked, desk: Desk) -> Answer:
    """The card that asks the owner whether to trade with a run's parameters."""
    if len(asked.arguments) != 1:
        return Answer(text=f"{desk.look.lead} /apply takes the number of a run, like /apply 88; /backtests lists them")
    try:
        finding = await _run(desk, asked.arguments[0])
        changes = _changes(finding, desk)
    except (BadInput, Transient) as error:
        return Answer(text=f"{desk.look.lead} {own(str(error), 400)}")
    run = int(asked.arguments[0].removeprefix("#"))
    old = {name: desk.params[name] for name in changes}
    known = await _of_what_trades(finding, desk)
    card = apply_card(run, finding, changes, old, _notes(finding, desk), known, desk.look)
    body = {"values": dict(changes), "old": old, "source": f"{_APPLIED}{run}"}
    return await ask_owner(asked, desk, "settings", body, card, "Apply")


def _changes(finding: Finding, desk: Desk) -> Mapping[str, float]:
    """What taking it over would set, checked together; `BadInput` where that is nothing, or cannot be."""
    study, trades = finding.study, desk.studies.strategy(finding.study.symbol)
    if study.strategy != trades:
        raise BadInput(f"the run is of {study.strategy}, {trades} trades: a strategy is chosen in config.json")
    changes = desk.studies.proposed(finding)
    if not changes:
        fixed = ", ".join(desk.studies.fixed(finding))
        more = f" ({fixed} can only be changed in config.json)" if fixed else ""
        raise BadInput(f"that is what trades already: nothing would change{more}")
    return desk.tunable.changed([f"{name}={value!r}" for name, value in changes.items()])


def _notes(finding: Finding, desk: Desk) -> list[str]:
    """What the reader of the card must know besides the figures."""
    notes, traded = [], desk.trader.status().symbols
    if finding.study.interval != desk.studies.interval:
        found, now = bar_length(finding.study.interval), bar_length(desk.studies.interval)
        notes.append(f"Found on bars of {found}; bars of {now} are traded, where it was not tried.")
    shared = [name for name in desk.studies.proposed(finding) if "." not in name]  # not of one market's own strategy
    if shared and set(traded) != {finding.study.symbol}:
        notes.append(f"Found on {coin(finding.study.symbol)}; holds for {', '.join(coin(each) for each in traded)}.")
    if finding.study.has_council:
        notes.append(f"Found with the {word(finding.study.council, 12)} council; /apply leaves /mode as it is.")
    if fixed := desk.studies.fixed(finding):
        shown = ", ".join(f"{word(name, 40)} {value:g}" for name, value in fixed.items())
        notes.append(f"Not taken over, it can only be changed in config.json: {shown}.")
    return notes


async def _of_what_trades(finding: Finding, desk: Desk) -> Finding | None:
    """A run of what trades now over the same bars, for the effect; None when there is none yet."""
    wanted = desk.studies.current(finding.study.symbol, finding.study.days)
    if finding.study.has_council:  # the effect is told under the same council and the same limits
        wanted = dataclasses.replace(wanted, council=finding.study.council, limits=finding.study.limits)
    for _, _, each in await desk.laboratory.runs(_KNOWN):
        if _bars(each) == _bars(finding) and _same(each.study, wanted):
            return each
    return None


def _bars(finding: Finding) -> tuple[object, ...]:
    """What the result is about; a walk-forward is about a part of its bars only."""
    return finding.study.interval, finding.data_fingerprint, finding.first, finding.last, finding.bars


def _same(study: Study, wanted: Study) -> bool:
    mine, other = (
        (each.kind, each.strategy, each.council, dict(each.values), dict(each.limits)) for each in (study, wanted)
    )
    return mine == other


async def rollback(asked: Asked, desk: Desk) -> Answer:
    """The card that asks the owner whether to go back to what traded before the last run was taken over."""
    applied = _last_applied(await desk.records.settings_changes())
    if applied is None:
        nothing = "No run has been taken over: there is nothing to go back to. /params shows all."
        return Answer(text=f"{desk.look.lead} {nothing}")
    now = desk.params
    changes = {name: value for name, value in applied.old.items() if name in now and now[name] != value}
    if not changes:
        return Answer(text=f"{desk.look.lead} Everything is as before {word(applied.source)} already: nothing changes.")
    try:
        values = desk.tunable.changed([f"{name}={value!r}" for name, value in changes.items()])
    except BadInput as error:
        return Answer(text=f"{desk.look.lead} {own(str(error), 300)}")
    old = {name: now[name] for name in values}
    source = _TAKEN_BACK + applied.source.removeprefix(_APPLIED)
    body = {"values": dict(values), "old": old, "source": source}
    return await ask_owner(asked, desk, "settings", body, rollback_card(applied, values, old, desk.look), "Go back")


def _last_applied(past: Sequence[SettingsChanged]) -> SettingsChanged | None:
    """The last run that was taken over and not taken back since; `past` is oldest first."""
    applied: list[SettingsChanged] = []
    for event in past:
        if event.source.startswith(_APPLIED):
            applied.append(event)
        elif event.source.startswith(_TAKEN_BACK) and applied:
            applied.pop()
    return applied[-1] if applied else None
