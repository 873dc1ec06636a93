"""`make evidence`: what the shipped defaults earned on recorded prices, as a table and two pictures, into the docs.

Needs the recorded candles (CONCLAVE_TEST_DATA). The laboratory makes every number; this file only asks and writes down.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from bot.settings import read_config
from research.candles import CandleFile, load_candles, load_funding
from research.grid import axes_of
from research.render import render
from research.results import Report
from research.sources import taken
from research.study import do, finding
from tests.structure import ROOT
from trading.laboratory import Finding, Kind, Progress, Study
from trading.pictures import Theme

BTC_HOURS = "binance-perp/BTCUSDT-1h-20190908-20260517.parquet"
ETH_HOURS = "binance-perp/ETHUSDT-1h-20191127-20260517.parquet"
BTC_QUARTERS = "binance-perp/BTCUSDT-15m-20230101-20260517.parquet"
BTC_FUNDING = "funding/BTCUSDT-binance-20190910-20260517.csv.gz"
GRID = ("ema_period=100:300:50", "adx_min=15,20,25", "sl_atr_multiplier=2:6:1")
FOLDS = 5
MARKS = ("<!-- evidence: begin, made by make evidence -->", "<!-- evidence: end -->")


@dataclass(frozen=True, kw_only=True)
class Question:
    """One row of the table."""

    file: str
    interval: int
    kind: Kind
    funding: str | None = None

    @property
    def symbol(self) -> str:
        """The market."""
        return Path(self.file).name.split("-")[0]


QUESTIONS = (
    Question(file=BTC_HOURS, interval=240, kind="walkforward", funding=BTC_FUNDING),
    Question(file=BTC_HOURS, interval=240, kind="backtest", funding=BTC_FUNDING),
    Question(file=ETH_HOURS, interval=240, kind="walkforward"),
    Question(file=ETH_HOURS, interval=240, kind="backtest"),
    Question(file=BTC_QUARTERS, interval=15, kind="walkforward", funding=BTC_FUNDING),
    Question(file=BTC_QUARTERS, interval=15, kind="backtest", funding=BTC_FUNDING),
)
PICTURES = {QUESTIONS[0]: "walkforward-dark"}
SEARCH = Question(file=BTC_HOURS, interval=240, kind="optimize", funding=BTC_FUNDING)
HEAD = (
    "| market | bars | what | net | a year | hold | max. drawdown | Sharpe | trades | costs of gross | verdict |",
    "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
)


def asked(data: Path, question: Question) -> Report:
    """The study with the shipped configuration."""
    config = read_config(ROOT / "config.json")
    file = recorded(data / question.file, question.interval, tuple(config.instruments))
    funding: Mapping[int, Decimal] | None = load_funding(data / question.funding) if question.funding else None
    values = config.params(question.symbol)
    strategy = config.choice(question.symbol).name
    study = Study(
        kind=question.kind,
        symbol=question.symbol,
        interval=question.interval,
        days=None,
        strategy=strategy,
        values=values,
        grid=() if question.kind == "backtest" else axes_of(GRID, strategy, values),
        folds=FOLDS if question.kind == "walkforward" else 0,
    )
    with tempfile.TemporaryDirectory() as folder:
        return do(
            study,
            file,
            funding,
            made_up=False,
            trials=study.chosen_from,
            tell=silent,
            folder=Path(folder),
            jobs=os.cpu_count() or 1,
        )


def recorded(path: Path, interval: int, known: tuple[str, ...]) -> CandleFile:
    """A file in bars of the length that is asked for."""
    return taken(load_candles(path, known_symbols=known), interval, None)


def silent(_: Progress) -> None:
    """Nobody is watching."""


def row(question: Question, report: Report) -> str:
    """One line of the table."""
    found = finding(report)
    bar = f"{question.interval // 60} h" if question.interval >= 60 else f"{question.interval} min"
    cells = (
        f"{question.symbol} {_year(found.first)}–{_year(found.last)}",
        f"{bar}, {found.bars:,}",
        "defaults, in sample" if question.kind == "backtest" else f"walk-forward, {FOLDS} folds, out of sample",
        f"{found.metrics['total_return'] or 0:+.1%}",
        f"{_yearly(found):+.1%}",
        f"{found.hold_return:+.1%}",
        f"−{found.metrics['max_drawdown'] or 0:.1%}",
        _figure(found.metrics["sharpe"]),
        f"{found.metrics['trades']:,}",
        f"{(found.fees + found.funding + found.slippage) / found.gross:.0%}" if found.gross > 0 else "no gross profit",
        f"**{found.verdict.word}**: {found.verdict.reasons[0]}",
    )
    return f"| {' | '.join(cells)} |"


def _year(ms: int) -> int:
    return 1970 + ms // 31_556_952_000


def _yearly(found: Finding) -> float:
    years = found.bars * found.study.interval / (365 * 1440)
    return float((1 + (found.metrics["total_return"] or 0)) ** (1 / years) - 1)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def drawn(report: Report, name: str) -> None:
    """The chart as the chat shows it, in the theme that the name ends with."""
    theme: Theme = "dark" if name.endswith("dark") else "light"
    chart, _ = render(report, theme)
    (ROOT / "docs" / "pictures" / f"{name}.png").write_bytes(chart)


def written(path: Path, table: Sequence[str]) -> bool:
    """Put the table between the marks of a page; False when the page has none."""
    text = path.read_text(encoding="utf-8")
    begin, end = MARKS
    changed, count = re.subn(
        f"{re.escape(begin)}.*?{re.escape(end)}", "\n".join((begin, *table, end)), text, flags=re.DOTALL
    )
    path.write_text(changed, encoding="utf-8")
    return count == 1


def main() -> int:
    """Ask everything and write it down; 2 without the recorded candles."""
    data = os.environ.get("CONCLAVE_TEST_DATA")
    if not data:
        print("CONCLAVE_TEST_DATA is not set: name the folder with recorded candles", file=sys.stderr)
        return 2
    table = [*HEAD]
    for question in QUESTIONS:
        report = asked(Path(data), question)
        table.append(row(question, report))
        print(table[-1], flush=True)
        if question in PICTURES:
            drawn(report, PICTURES[question])
    drawn(asked(Path(data), SEARCH), "optimize-light")
    found = [written(ROOT / page, table) for page in ("README.md", "docs/evidence.md")]
    return 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main())
