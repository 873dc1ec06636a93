"""The verdict with what it rests on, vectorbt's table, and every assumption."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Final

from research.results import Evidence, Interval, Report, Result
from research.views import bar_ms, effect_of, first_and_last, limits_of
from research.workbook.book import WORDS, Book, Column, Kind, Sheet
from research.workbook.ledger import EQUITY_LINES
from research.workbook.words import KINDS, MEANINGS, NAMES, NOT_MODELLED
from trading.model import utc
from trading.parameters import AccountTerms, InstrumentTerms, TradeRules
from trading.risk import Limits
from trading.strategy import strategies

_WIDTHS: Final = (30, 15, 15, 15, 78)
_STUDIES: Final = {"backtest": "Backtest", "optimize": "Grid search", "walkforward": "Walk-forward"}

Row = tuple[str, float | int | None, float | int | None, Kind, str]  # label, own, hold's, kind, meaning
Proof = tuple[str, float | int | None, Interval | None, Kind, str]


def summary(sheet: Sheet, report: Report, rows: int) -> None:
    """The front page; `rows` are those of the equity sheet, which feeds its chart."""
    for at, wide in enumerate(_WIDTHS):
        sheet.page.set_column(at, at, wide)
    sheet.text(0, 0, titled(report), "title")
    sheet.text(1, 0, _period(report), "note")
    verdict = report.verdict
    look = {"bold": True, "font_size": 16, "font_color": "#ffffff", "bg_color": WORDS[verdict.word]}
    sheet.page.merge_range(3, 0, 3, 4, "", sheet.book.style("", None, **look))
    sheet.text(3, 0, verdict.word, "", **look)
    sheet.page.set_row(3, 26)
    row = sheet.lines(4, (f"• {reason}" for reason in verdict.reasons), "bold")
    row = _figures(sheet, row + 1, report)
    row = _evidence(sheet, row + 1, report.evidence)
    row = sheet.lines(row + 1, (*_warnings(report), *report.notes))
    first, last = first_and_last(report.result)
    shape = {"sheet": "Equity", "rows": (1, rows), "span": (first, last), "width": 1060, "height": 340}
    sheet.curve(f"A{row + 2}", "Equity and buy and hold, USDT", EQUITY_LINES, format="#,##0", **shape)
    sheet.page.freeze_panes(4, 0)


def titled(report: Report) -> str:
    """What was studied, in one line."""
    study = report.study
    made_up = " (made-up candles)" if report.made_up else ""
    days = "" if study.days is None else f", {study.days:,} days"
    council = "" if report.beside is None else f", {report.beside.council} council"
    bars = f"{study.interval:,} minutes{days}{council}"
    return f"{_STUDIES[study.kind]}: {report.result.strategy} on {study.symbol}, {bars}{made_up}"


def _period(report: Report) -> str:
    first, last = (f"{utc(each):%Y-%m-%d %H:%M}" for each in first_and_last(report.result))
    bars = f"{len(report.result.series):,} bars" + (" on which nothing was chosen" if report.walk is not None else "")
    return f"{first} to {last} UTC, {bars}; worked out in {report.seconds:,.1f} s"


def _figures(sheet: Sheet, top: int, report: Report) -> int:
    metrics, hold = report.result.metrics, report.hold
    beside = {"total_return": hold.total_return, "max_drawdown": hold.max_drawdown, "sharpe": hold.sharpe}
    rows: list[Row] = [
        ("Final equity USDT", float(report.result.equity[-1]), float(hold.equity[-1]), "money", _FINAL),
        *((NAMES[each], metrics.get(each), beside.get(each), KINDS[each], MEANINGS[each]) for each in NAMES),
    ]
    first, third = ("Strategy", "") if report.beside is None else ("With the council", "Without council")
    for at, name in enumerate(("Key figures", first, "Buy and hold", third, "What it means")):
        sheet.text(top, at, name, "header")
    if report.beside is not None:
        _without(sheet, top + 1, report.beside.alone)
    for row, (name, own, other, kind, meaning) in enumerate(rows, top + 1):
        sheet.text(row, 0, name, "label")
        sheet.number(row, 1, own, kind, "bold")
        sheet.number(row, 2, other, kind)
        sheet.text(row, 4, meaning, "meaning")
    return top + 1 + len(rows)


def _without(sheet: Sheet, top: int, alone: Result) -> None:
    """The same figures without the council, in the column that is free."""
    sheet.number(top, 3, float(alone.equity[-1]), "money")
    for row, name in enumerate(NAMES, top + 1):
        sheet.number(row, 3, alone.metrics.get(name), KINDS[name])


_FINAL: Final = "Equity at the last close. Buy and hold: all bought at the first close, no leverage, no costs."


def _evidence(sheet: Sheet, top: int, evidence: Evidence) -> int:
    for at, name in enumerate(("Evidence", "Value or middle", "5% end", "95% end", "What it means")):
        sheet.text(top, at, name, "header")
    rows = _proofs(evidence)
    for row, (name, value, between, kind, meaning) in enumerate(rows, top + 1):
        sheet.text(row, 0, name, "label")
        sheet.number(row, 1, between.middle if between is not None else value, kind, "bold")
        sheet.number(row, 2, None if between is None else between.low, kind)
        sheet.number(row, 3, None if between is None else between.high, kind)
        sheet.text(row, 4, meaning, "meaning")
    row = top + 1 + len(rows)
    checks = (
        ("Look-ahead check", evidence.look_ahead, "Sound: cut off the future and every earlier decision stands."),
        ("Warm-up check", evidence.warm_up, "Sound: more history before the first bar changes nothing."),
        ("Second opinion (vectorbt)", evidence.second_opinion, "Agrees where it can express the same fills."),
    )
    for name, found, sound in checks:
        sheet.text(row, 0, name, "label")
        sheet.text(row, 1, "sound" if found is None else "FAILED", "bold", align="right")
        sheet.text(row, 4, sound if found is None else found, "meaning")
        row += 1
    return row


def _proofs(e: Evidence) -> tuple[Proof, ...]:
    return (
        ("Parameter sets tried", e.trials, None, "count", "On these bars so far."),
        ("Sharpe ratio by luck", e.expected_best, None, "ratio", "Of the best of so many worthless sets."),
        ("Probabilistic Sharpe ratio", e.probable, None, "percent", "Probability that it is above zero."),
        ("Deflated Sharpe ratio", e.deflated, None, "percent", "Probability that it is above luck's."),
        ("Overfitting probability", e.overfit, None, "percent", "How often the best of one half fails in the other."),
        ("Choices that lose", e.overfit_loss, None, "percent", "How often the best of one half loses in the other."),
        ("Out-of-sample Sharpe ratio", e.out_of_sample, None, "ratio", "On bars on which nothing was chosen."),
        ("Out-of-sample trades", e.out_trades, None, "count", "Closed on those bars."),
        ("Total return", None, e.total_return, "percent", "Of 90% of histories redrawn from its trades."),
        ("Max drawdown", None, e.max_drawdown, "percent", "The same. Expect the upper end some day."),
        ("Expectancy, R", None, e.expectancy_r, "ratio", "The same. An interval around zero is no edge."),
        ("Gross profit USDT", e.gross, None, "money", "Before fees, funding and slippage."),
        ("Fees USDT", e.fees, None, "money", "Paid."),
        ("Funding USDT", e.funding, None, "money", "Paid; negative when received."),
        ("Slippage USDT", e.slippage, None, "money", "What moving the exit prices cost."),
        ("Costs of the gross profit", e.cost_share, None, "percent", "Undefined without a gross profit."),
    )  # fmt: skip


def _warnings(report: Report) -> list[str]:
    result, found = report.result, []
    if report.made_up:
        found.append("MADE-UP CANDLES: this market does not exist, and nothing here speaks of a real one.")
    if result.open_position is not None:
        found.append("A position is still open after the last bar: it counts in the equity, not as a trade.")
    if report.walk is not None:
        found.append("A position that is open at the end of a fold counts in the curve at that close, not as a trade.")
    if result.unrated:
        found.append(f"{result.unrated:,} of {result.settlements:,} funding settlements had no rate of their own.")
    return found


def statistics(book: Book, report: Report) -> None:
    """vectorbt's table of the same fills, in its own words."""
    sheet = book.sheet("Statistics", landscape=False)
    names, values = zip(*report.statistics, strict=True)
    end = sheet.listed(
        0,
        [
            Column(name="vectorbt", values=names, kind="text", width=34),
            Column(name="Value", values=values, kind="text", width=30),
        ],
    )
    note = "A second opinion on the same fills by another program; its names, units and definitions are its own."
    sheet.text(end + 1, 0, note, "note")


def assumptions(book: Book, report: Report) -> None:
    """Everything that the figures depend on."""
    sheet = book.sheet("Assumptions", landscape=False)
    for at, wide in enumerate((34, 68, 64)):
        sheet.page.set_column(at, at, wide)
    sheet.page.freeze_panes(1, 1)
    sheet.page.repeat_rows(0)
    for at, name in enumerate(("Assumption", "Value", "What it means")):
        sheet.text(0, at, name, "header")
    row = 1
    for heading, rows in _groups(report):
        sheet.text(row, 0, heading, "heading")
        for row, (name, value, meaning) in enumerate(rows, row + 1):  # noqa: B020 - the rows go on below one another
            sheet.text(row, 0, name, "label")
            if isinstance(value, str):
                sheet.text(row, 1, value)
            else:
                sheet.number(row, 1, value, "number", align="left")
            sheet.text(row, 2, meaning, "note")
        row += 2
    sheet.text(row, 0, "Not modelled", "heading")
    sheet.lines(row + 1, NOT_MODELLED)


Assumed = tuple[str, Any, str]


def _groups(report: Report) -> Iterable[tuple[str, list[Assumed]]]:
    """Headings with (name, value, meaning) each."""
    params = report.result.params
    yield "Data", _data(report)
    own = strategies().get(report.result.strategy)
    sets: list[tuple[str, Any]] = [
        (f"Strategy {report.result.strategy}", None if own is None else own.parameters),
        ("Rules of the trade", TradeRules),
        ("Account", AccountTerms),
        ("Instrument", InstrumentTerms),
    ]
    known: set[str] = set()
    for heading, cls in sets:
        docs = {} if cls is None else {each.name: each.metadata["doc"] for each in dataclasses.fields(cls)}
        known |= docs.keys()
        yield heading, [(name, params[name], doc) for name, doc in docs.items() if name in params]
    if report.beside is not None:
        docs = {each.name: each.metadata["doc"] for each in dataclasses.fields(Limits)}
        limits = limits_of(report.study).as_dict()
        yield "Limits of the account, with the council", [(name, limits[name], doc) for name, doc in docs.items()]
    rest = [(name, value, "") for name, value in params.items() if name not in known]
    if rest:
        yield "Other parameters", rest
    yield "Signals of this run", [(name, value, _GATES[name]) for name, value in _counts(report).items()]
    yield "Versions", [(name, version, "") for name, version in report.versions]


_GATES: Final = {
    "edges": "Signals that counted: flat, nothing resting, outside the cooldown.",
    "knives": "Rejected by the anti-knife guard.",
    "skipped": "Could not be sized.",
    "placed": "Entries placed.",
    "filled": "Filled.",
    "expired": "Cancelled after their time.",
    "ran_away": "Cancelled because the price ran away.",
    "limits": "Rejected by the other guards: limits of the account, the stop's distance, a price that had gone.",
    "vetoed": "Rejected by the council.",
}


def _counts(report: Report) -> Mapping[str, int]:
    gates = dataclasses.asdict(report.result.gates)
    if report.beside is None:
        return gates
    effect = effect_of(report.beside)
    return {**gates, "limits": effect.guarded - gates["knives"] - gates["skipped"], "vetoed": effect.vetoed}


def _data(report: Report) -> list[Assumed]:
    result, study = report.result, report.study
    first, last = (f"{utc(each):%Y-%m-%d %H:%M} UTC" for each in first_and_last(result))
    source = "a series of the exchange" if result.funded else "the constant funding_rate"
    return [
        ("Symbol", study.symbol, ""),
        ("Bar, minutes", bar_ms(result) / 60_000, ""),
        ("Bars", len(result.series), ""),
        ("First bar opens", first, ""),
        ("Last bar closes", last, ""),
        ("Candles", "made up" if report.made_up else "recorded", "Made-up candles are for trying the program out."),
        ("Fingerprint of the candles", report.data_fingerprint, "Equal fingerprints, equal candles."),
        ("Fingerprint of the parameters", report.params_fingerprint, ""),
        ("SHA-256 of the candle file", str(result.candles.get("sha256") or ""), ""),
        ("Funding", source, "At each settlement (00, 08, 16 UTC), on the bar's opening price."),
        ("Settlements paid or received", result.settlements, ""),
        ("Of these without a rate of their own", result.unrated, "They were charged the constant funding_rate."),
        ("Objective", study.objective, "What a search ranks by."),
    ]
