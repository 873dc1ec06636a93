"""What the laboratory found, for a phone: progress, verdicts under charts, lists, comparisons and diffs.

Figures are those of the finding; whatever is undefined is a dash. Names and reasons are escaped and capped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from bot.cards import Look
from bot.text import (
    CAPTION_LIMIT,
    UNKNOWN,
    coin,
    counted,
    duration,
    fitted,
    moment,
    percent,
    prose,
    readable,
    signed,
    word,
)
from bot.views.table import Column, table
from trading.events import SettingsChanged
from trading.laboratory import WAITING, Finding, Found, Kind, Progress, Study, Verdict
from trading.model import utc

KINDS: Final[Mapping[Kind, str]] = {
    "backtest": "Backtest",
    "optimize": "Optimisation",
    "walkforward": "Walk-forward",
}
_CELLS: Final = 12  # of a progress bar
_REASONS: Final = 260
_MOST_AXES: Final = 6
_MOST_CHANGES: Final = 8
_MOST_DIFFERENT: Final = 12
_RUNS: Final = (
    Column("ID", 5),
    Column("", 1),
    Column("PAIR", 4, left=True),
    Column("BAR", 3),
    Column("NET%", 6),
    Column("N", 4),
    Column("PROOF", 5, left=True),
)
_PARAMS: Final = (Column("SETTING", 24, left=True), Column("NOW", 9))
_PROOF: Final = {"PROVEN": "yes", "NOT PROVEN": "no", "LOSES": "loses"}
_LETTERS: Final = {"backtest": "b", "optimize": "o", "walkforward": "w"}
_METRICS: Final = (
    ("sharpe", "Sharpe", ".2f"),
    ("sortino", "Sortino", ".2f"),
    ("calmar", "Calmar", ".2f"),
    ("profit_factor", "PF", ".2f"),
    ("win_rate", "win", "%"),
    ("expectancy_r", "R/trade", "+.2f"),
    ("trades", "trades", ".0f"),
    ("exposure", "exposed", "%"),
)


# ------------------------------------------------------------------------------------------------------- in short


def bar_length(minutes: int) -> str:
    """`15m`, `4h`, `1d`."""
    if minutes % 1440 == 0:
        return f"{minutes // 1440}d"
    return f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes}m"


def subject(study: Study) -> str:
    """`BTCUSDT 15m 365d`, with the strategy's name where it is not the usual one, and the council; escaped."""
    days = "all" if study.days is None else f"{study.days}d"
    other = "" if study.strategy == "ema_trend" else f"  {word(study.strategy, 24)}"
    council = f"  council={word(study.council, 12)}" if study.has_council else ""
    return f"{word(study.symbol, 20)} {bar_length(study.interval)}  {days}{other}{council}"


def headline(study: Study, run: int | None = None) -> str:
    """`Backtest #88  BTCUSDT 15m  365d`; escaped."""
    number = "" if run is None else f" #{run}"
    return f"{KINDS[study.kind]}{number}  {subject(study)}"


def grid_line(study: Study) -> str:
    """What is tried; empty for a backtest; escaped."""
    if not study.grid:
        return ""
    folds = f", {counted(study.folds, 'fold')}" if study.folds else ""
    return f"{_sets(study)}{folds}: {_axes(study)}"


def _axes(study: Study) -> str:
    return "; ".join(f"{word(name, 24)} {_values(values)}" for name, values in study.grid[:_MOST_AXES])


def _sets(study: Study) -> str:
    return f"{study.combinations:,} {'set' if study.combinations == 1 else 'sets'}"


def _values(values: Sequence[float]) -> str:
    shown = [f"{value:g}" for value in values]
    return ", ".join(shown) if len(shown) <= 6 else f"{shown[0]}, {shown[1]} … {shown[-1]}"


def verdict_line(verdict: Verdict) -> str:
    """`NOT PROVEN: 41 trades (<100), out-of-sample Sharpe 0.3`; escaped."""
    return f"<b>{verdict.word}</b>: {prose(', '.join(verdict.reasons), _REASONS)}"


def figure(value: float | None, form: str = ".2f") -> str:
    """A number of the finding as `form` says (`%`: per cent); a dash where there is none."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if form == "%":
        return percent(value, 0)
    return f"{value:{form}}" if abs(value) < 1e9 else f"{value:.2e}"


def _share(value: float | None) -> str:
    return UNKNOWN if value is None else percent(value, 1, sign=True)


def _fall(value: float | None) -> str:
    """A drawdown, which the finding holds as a positive fraction."""
    return UNKNOWN if value is None else percent(-value, 1, sign=True)


def costs(finding: Finding) -> float | None:
    """Fees, funding and slippage as a fraction of the equity at the start; None without one."""
    start = finding.study.values.get("initial_equity")
    return (finding.fees + finding.funding + finding.slippage) / start if start else None


# ------------------------------------------------------------------------------------------------- while it works


def progress_view(study: Study, progress: Progress | None, elapsed: float, before: int, look: Look) -> str:
    """How far it is: bar, stage, elapsed and remaining time."""
    lines = [f"{look.lead} <b>{headline(study)}</b>"]
    if before:
        lines.append(f"waiting: {before} before this one, {_seconds(elapsed)} so far")
    elif progress is None or progress.stage == WAITING:
        lines.append(f"starting, {_seconds(elapsed)} so far")
    else:
        lines += _advance(progress, elapsed)
    lines += [grid_line(study)] if study.grid else []
    return fitted(lines)


def _advance(progress: Progress, elapsed: float) -> list[str]:
    stage, left = word(progress.stage, 40), progress.remaining
    share = min(max(progress.done / progress.total, 0.0), 1.0) if progress.total > 0 else None
    rate = f", {progress.rate:,.0f}/s" if progress.rate and progress.rate >= 1 else ""
    told = f"{_seconds(elapsed)} so far" + (f", about {_seconds(left)} left" if left is not None else "")
    if share is None:
        return [stage, told + rate]
    full = int(share * _CELLS)
    of = f"{progress.done:,} of {progress.total:,}"
    return [f"{'▓' * full}{'░' * (_CELLS - full)} {share:.0%}", f"{stage}: {of}", told + rate]


def _seconds(seconds: float) -> str:
    return duration(timedelta(seconds=min(max(seconds, 0.0), 1e9))) if math.isfinite(seconds) else UNKNOWN


def cancelled_view(study: Study, by: str, elapsed: float, look: Look) -> str:
    """Somebody has ended it."""
    return f"{look.lead} <b>{headline(study)}</b>\nCANCELLED by {word(by, 40)} after {_seconds(elapsed)}"


def interrupted_view(study: Study, look: Look) -> str:
    """The program stopped while it worked."""
    return f"{look.lead} <b>{headline(study)}</b>\nINTERRUPTED by a restart of the program: nothing came of it"


def failed_view(study: Study, reason: str, later: bool, look: Look) -> str:
    """It ended without an answer, and why."""
    hint = "\nThis may pass: try again in a while." if later else ""
    return f"{look.lead} <b>{headline(study)}</b>\nFAILED: {prose(reason, 400)}{hint}"


# ------------------------------------------------------------------------------------------------------ the answer


def finding_view(run: int, finding: Finding, look: Look) -> str:
    """The caption under the chart: the verdict first, then what it rests on."""
    metrics, study = finding.metrics, finding.study
    invented = " on made-up prices" if finding.made_up else ""
    net = f"Net {_share(metrics.get('total_return'))} vs hold {_share(finding.hold_return)}"
    won = f"PF {figure(metrics.get('profit_factor'))}  win {figure(metrics.get('win_rate'), '%')}"
    lines = [
        f"{look.lead} <b>{headline(study, run)}</b>{invented}",
        verdict_line(finding.verdict),
        f"{net}   MaxDD {_fall(metrics.get('max_drawdown'))}",
        *_beside(finding, look),
        f"Fees+funding+slip {_cost(finding)}   {won}",
        _sharpes(finding),
        *_tried(finding),
        f"{_span(finding, look)}, {finding.bars:,} bars",
        f"cfg {_short(finding.params_fingerprint)} data {_short(finding.data_fingerprint)}  {_took(finding)}",
    ]
    return fitted(lines, CAPTION_LIMIT)


def _beside(finding: Finding, look: Look) -> list[str]:
    """The result with the council and without it, and what became of the candidates."""
    effect = finding.effect
    if effect is None:
        return []
    with_it, without = _in_short(finding.metrics), _in_short(effect.metrics)
    fates = f"{effect.vetoed:,} vetoed, {effect.shrunk:,} shrunk, {effect.guarded:,} stopped by guards"
    lines = [
        f"With the {word(finding.study.council, 12)} council {with_it}",
        f"Without {without}",
        f"Of {effect.candidates:,} candidate{'' if effect.candidates == 1 else 's'} {fates}",
    ]
    if effect.shut:
        last = None if effect.last_entry is None else utc(effect.last_entry).astimezone(look.zone)
        since = "at all" if last is None else f"since {last:%d %b %Y}"
        lines.append(f"No entry {since}: {prose(effect.shut, 120)}")
    return lines


def _in_short(metrics: Mapping[str, float | int | None]) -> str:
    net, fall = _share(metrics.get("total_return")), _fall(metrics.get("max_drawdown"))
    return f"{net}, DD {fall}, {figure(metrics.get('trades'), '.0f')} trades"


def _cost(finding: Finding) -> str:
    paid = costs(finding)
    return UNKNOWN if paid is None else percent(-paid, 1, sign=True)


def _sharpes(finding: Finding) -> str:
    metrics = finding.metrics
    unseen = f", out-of-sample {figure(finding.out_of_sample)}" if finding.out_of_sample is not None else ""
    r = figure(metrics.get("expectancy_r"), "+.2f")
    return f"Sharpe {figure(metrics.get('sharpe'))}{unseen}   {figure(metrics.get('trades'), '.0f')} trades, {r}R each"


def _tried(finding: Finding) -> list[str]:
    """What was chosen of how many, and how many sets these bars have seen in all: the more, the likelier is luck."""
    study, sets = finding.study, _sets(finding.study)
    best = ", ".join(f"{word(name, 24)} {value:g}" for name, value in list(finding.chosen.items())[:_MOST_AXES])
    in_all = f"{finding.trials:,} sets tried on these bars in all"
    if study.kind == "backtest":
        return [in_all] if finding.trials > 1 else []
    if study.kind == "walkforward":
        line = f"{counted(study.folds, 'fold')} of {sets}" + (f", the last chose {best}" if best else "")
    else:
        line = f"Best of {sets}" + (f": {best}" if best else "")
    return [line, f"Searched {_axes(study)}", *([in_all] if finding.trials > study.combinations else [])]


def _span(finding: Finding, look: Look) -> str:
    first, last = (utc(each).astimezone(look.zone) for each in (finding.first, finding.last))
    return f"{first:%d %b %Y} to {last:%d %b %Y}"


def _short(fingerprint: str) -> str:
    clean = readable(fingerprint)
    return word(clean[:4], 8) + (".." if len(clean) > 4 else "")


def _took(finding: Finding) -> str:
    return f"{finding.seconds:.1f}s" + (" (cached)" if finding.cached else "")


def finished_view(found: Found, by: str, look: Look) -> str:
    """An optimisation has ended, for those who did not ask for it."""
    finding = found.finding
    lines = [
        f"{look.lead} <b>{headline(finding.study, found.run)}</b> by {word(by, 40)} is done",
        verdict_line(finding.verdict),
        f"Net {_share(finding.metrics.get('total_return'))} vs hold {_share(finding.hold_return)}",
        *_tried(finding),
        f"/backtests lists the runs, /compare sets two side by side{_invented(finding)}",
    ]
    return fitted(lines)


def _invented(finding: Finding) -> str:
    return "; on made-up prices" if finding.made_up else ""


def too_large_view(size: int) -> str:
    """The workbook is more than Telegram takes."""
    return f"The workbook has {size / 1e6:,.0f} MB, Telegram takes 50: main.py writes it to a folder"


# --------------------------------------------------------------------------------------------------- the weekly search


def proposal_view(found: Found, now: Finding, changes: Mapping[str, float], look: Look) -> str:
    """Something proven is better than what trades: old → new, and the effect on the same bars."""
    finding = found.finding
    lines = [
        f"{look.lead} <b>Weekly re-optimisation {coin(finding.study.symbol)}: something better</b>"
        + (" on made-up prices" if finding.made_up else ""),
        verdict_line(finding.verdict),
        *_diff(changes, finding, now.study.values),
        *effect_lines(finding, now),
        "Nothing was changed: Apply… shows the card that asks the owner.",
    ]
    return fitted(lines, CAPTION_LIMIT)


def _diff(changes: Mapping[str, float], finding: Finding, old: Mapping[str, float]) -> list[str]:
    return [f"{word(name, 40)}: {figure(old.get(name), 'g')} → {value:g}" for name, value in changes.items()]


def quiet_view(symbol: str, trouble: str, found: Found | None, look: Look) -> str:
    """The weekly search proposes nothing: one line."""
    head = f"{look.lead} Weekly re-optimisation {coin(symbol)}:"
    if found is None:
        return f"{head} {prose(trouble, 300)}"
    finding = found.finding
    sets, why = _sets(finding.study), prose(", ".join(finding.verdict.reasons), 160)
    return f"{head} nothing better. #{found.run}, best of {sets}, is {finding.verdict.word}: {why}"


def effect_lines(finding: Finding, now: Finding | None) -> list[str]:
    """What the run showed and, where it is known, what trades now showed on the same bars."""
    mine = _effect(finding)
    if now is None:
        return [f"In the run: {mine}"]
    return [f"What trades now: {_effect(now)}", f"With the change: {mine}"]


def _effect(finding: Finding) -> str:
    metrics = finding.metrics
    net, fall = _share(metrics.get("total_return")), _fall(metrics.get("max_drawdown"))
    sharpe, trades = figure(metrics.get("sharpe")), figure(metrics.get("trades"), ".0f")
    return f"net {net}, MaxDD {fall}, Sharpe {sharpe}, {trades} trades"


# ------------------------------------------------------------------------------------------------- lists and pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class Working:
    """Work that is under way, for the list: `text` is plain."""

    study: Study
    by: str
    before: int
    elapsed: float


def runs_view(runs: Sequence[tuple[int, int, Finding]], working: Sequence[Working], look: Look) -> str:
    """The last runs as a table, below what is under way."""
    lines = [f"{look.lead} <b>{counted(len(runs), 'run')}</b>" + (f", {len(working)} under way" if working else "")]
    for each in working:
        state = f"waiting: {each.before} before it" if each.before else f"working for {_seconds(each.elapsed)}"
        lines.append(f"– {headline(each.study)}, {state}, by {word(each.by, 40)}")
    if not runs:
        return fitted([*lines, "No run yet: /backtest asks how what trades now would have done."])
    lines.append(table(_RUNS, [_run_row(number, finding) for number, _, finding in runs]))
    newest, invented = runs[0], any(finding.made_up for _, _, finding in runs)
    councils = any(finding.study.has_council for _, _, finding in runs)
    letters = f"b backtest, {'c the same with a council, ' if councils else ''}o optimisation, w walk-forward"
    lines.append(f"{letters}. The newest: {moment(utc(newest[1]), look.zone)}")
    lines += ["Some are on made-up prices."] if invented else []
    return fitted([*lines, f"/compare {newest[0]} ID sets two side by side, /backtest #{newest[0]} shows one again."])


def _run_row(number: int, finding: Finding) -> list[str]:
    net, trades = finding.metrics.get("total_return"), finding.metrics.get("trades")
    count = UNKNOWN if trades is None else (f"{trades:.0f}" if trades < 1e4 else f"{trades / 1e3:.0f}k")
    return [
        str(number),
        "c" if finding.study.has_council else _LETTERS[finding.study.kind],
        finding.study.symbol.removesuffix("USDT") or finding.study.symbol,
        bar_length(finding.study.interval),
        UNKNOWN if net is None else signed(100 * net, 1 if abs(net) < 10 else 0).replace(",", ""),
        count,
        _PROOF[finding.verdict.word],
    ]


def compare_view(first: tuple[int, Finding], second: tuple[int, Finding], look: Look) -> str:
    """Two runs side by side: results, then the parameters that differ."""
    (one, a), (two, b) = first, second
    nets = [_share(each.metrics.get("total_return")) for each in (a, b)]
    lines = [
        f"{look.lead} <b>#{one} against #{two}</b>: {nets[0]} against {nets[1]}",
        f"#{one} {headline(a.study)}{_invented(a)}",
        f"#{two} {headline(b.study)}{_invented(b)}",
        f"#{one} {verdict_line(a.verdict)}",
        f"#{two} {verdict_line(b.verdict)}",
        table(_sides(one, two, 12), [[name, left, right] for name, left, right in _side_by_side(a, b)]),
        *_different(one, two, a, b),
    ]
    if a.data_fingerprint != b.data_fingerprint:
        lines.append("Not the same bars: the results are of different markets, spans or bar lengths.")
    return fitted(lines)


def _sides(one: int, two: int, names: int) -> tuple[Column, ...]:
    wide = (32 - names) // 2
    return Column("", names, left=True), Column(f"#{one}"[:wide], wide), Column(f"#{two}"[:wide], wide)


def _side_by_side(a: Finding, b: Finding) -> list[tuple[str, str, str]]:
    rows = [
        ("net", _share(a.metrics.get("total_return")), _share(b.metrics.get("total_return"))),
        ("hold", _share(a.hold_return), _share(b.hold_return)),
        ("MaxDD", _fall(a.metrics.get("max_drawdown")), _fall(b.metrics.get("max_drawdown"))),
        ("costs", _cost(a), _cost(b)),
        ("OOS Sharpe", figure(a.out_of_sample), figure(b.out_of_sample)),
    ]
    rows += [(name, figure(a.metrics.get(key), form), figure(b.metrics.get(key), form)) for key, name, form in _METRICS]
    return [*rows, ("sets tried", f"{a.trials}", f"{b.trials}"), ("bars", f"{a.bars}", f"{b.bars}")]


def _different(one: int, two: int, a: Finding, b: Finding) -> list[str]:
    mine, other = ({**each.study.values, **each.chosen} for each in (a, b))
    names = [name for name in dict.fromkeys((*mine, *other)) if mine.get(name) != other.get(name)]
    if not names:
        return ["The same parameters."]
    rows = [[name, figure(mine.get(name), "g"), figure(other.get(name), "g")] for name in names[:_MOST_DIFFERENT]]
    more = len(names) - _MOST_DIFFERENT
    return [table(_sides(one, two, 18), rows), *([f"… {more} more parameters differ"] if more > 0 else [])]


# ------------------------------------------------------------------------------------------ parameters and changes


def params_view(
    strategy: str,
    values: Mapping[str, float],
    changed: Mapping[str, float],
    past: Sequence[SettingsChanged],
    look: Look,
) -> str:
    """What trades now; a star marks what differs from the configuration, with who changed it, when and why."""
    rows = [
        [name.replace("USDT.", ".")[:23] + ("*" if name in changed else ""), f"{value:g}"]
        for name, value in values.items()
    ]
    differ = counted(len(changed), "parameter") if changed else "nothing"
    lines = [f"{look.lead} <b>{word(strategy, 40)} trades</b>, {differ} changed in the chat"]
    lines.append(table(_PARAMS, rows))
    lines += [_change(event, look) for event in past[:_MOST_CHANGES]]
    lines.append("/backtest tries them, /set changes one, /apply ID takes over a run, /rollback goes back.")
    return fitted(lines)


def _change(event: SettingsChanged, look: Look) -> str:
    names = [f"{word(name, 40)} {figure(event.old.get(name), 'g')} → {value:g}" for name, value in event.values.items()]
    source = f", {word(event.source, 40)}" if event.source else ""
    return f"– {', '.join(names)} by {word(event.by, 40)}, {moment(event.at, look.zone)}{source}"


def apply_card(
    run: int,
    finding: Finding,
    changes: Mapping[str, float],
    old: Mapping[str, float],
    notes: Sequence[str],
    now: Finding | None,
    look: Look,
) -> list[str]:
    """The lines of the card that asks whether to take a run over: its verdict first, then old → new, then the effect.

    `notes` are lines of HTML that belong below the diff.
    """
    invented = " on made-up prices" if finding.made_up else ""
    return [
        f"{look.lead} <b>Apply #{run}?</b> {verdict_line(finding.verdict)}",
        f"{headline(finding.study)}{invented}",
        *_diff(changes, finding, old),
        *effect_lines(finding, now),
        *notes,
        "Holds from the next close on, also after a restart; open trades keep their stops. /rollback takes it back.",
    ]


def rollback_card(
    event: SettingsChanged, changes: Mapping[str, float], old: Mapping[str, float], look: Look
) -> list[str]:
    """The lines of the card that asks whether to go back to what traded before a run was taken over."""
    run = word(event.source.removeprefix("run "), 12)
    return [
        f"{look.lead} <b>Back to before run #{run}?</b>",
        f"It was taken over by {word(event.by, 40)}, {moment(event.at, look.zone)}",
        *(f"{word(name, 40)}: {figure(old.get(name), 'g')} → {value:g}" for name, value in changes.items()),
        "Holds from the next close on; open trades keep their stops.",
    ]

