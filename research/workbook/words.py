"""What a metric is called in the workbook, how it is shown, and what it means in plain words."""

from __future__ import annotations

from typing import Final

from research.workbook.book import Kind

NAMES: Final[dict[str, str]] = {
    "total_return": "Total return",
    "sharpe": "Sharpe ratio",
    "sortino": "Sortino ratio",
    "max_drawdown": "Max drawdown",
    "calmar": "Calmar ratio",
    "win_rate": "Win rate",
    "profit_factor": "Profit factor",
    "expectancy_r": "Expectancy, R",
    "trades": "Trades",
    "exposure": "Exposure",
    "fees": "Fees USDT",
    "funding": "Funding USDT",
}
KINDS: Final[dict[str, Kind]] = {
    "total_return": "percent",
    "sharpe": "ratio",
    "sortino": "ratio",
    "max_drawdown": "percent",
    "calmar": "ratio",
    "win_rate": "percent",
    "profit_factor": "ratio",
    "expectancy_r": "ratio",
    "trades": "count",
    "exposure": "percent",
    "fees": "money",
    "funding": "money",
}
MEANINGS: Final[dict[str, str]] = {
    "total_return": "Last equity over the first, less one; costs are paid, an open position counts at the last close.",
    "sharpe": "Mean return per bar over its deviation, scaled to a year. Above 1 is good, above 3 suspicious.",
    "sortino": "The same, but only losses count as risk.",
    "max_drawdown": "The deepest fall of the marked equity from an earlier peak.",
    "calmar": "Return a year over the deepest fall.",
    "win_rate": "Share of closed trades that earned something after costs.",
    "profit_factor": "What the winners earned for each USDT that the losers lost.",
    "expectancy_r": "Mean result of a trade in units of what it risked between entry and stop.",
    "trades": "Closed trades. Below 100 nothing can be said with confidence.",
    "exposure": "Share of bars that close with a position.",
    "fees": "Trading fees paid, an open position's included.",
    "funding": "Funding paid on perpetuals; negative when received.",
}
NOT_MODELLED: Final = (
    "Partial fills, the place in the queue, the depth of the book: a limit order fills whole beyond its price.",
    "Delay between a bar's close and the order, outages of the exchange, changes of its rules or fees.",
    "Liquidation: an entry whose stop would lie too near to it is skipped.",
    "The way of the price within a bar: a stop counts before a take profit.",
    "Other positions on the same account, interest on the balance, taxes.",
)
