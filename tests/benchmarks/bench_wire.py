"""The wire: how many orders a second it takes, how soon they are acknowledged, and how soon a close becomes an order.

`orders` sends through the adapter to `main.py exchange` in a process of its own. `decisions` runs exchange, adapter,
journal and trader in one process, as `run` does, and takes the time from the moment at which a close is published to
the moment at which the order that it caused arrives at the venue: stream, confirmation by REST, strategy, guards, the
intent's commit and the request itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import main
from bot.settings import read_settings
from storage.database import open_database
from storage.journal import SqlJournal
from tests.benchmarks import Figure, benchmark
from tests.benchmarks.bench_replay import candles, synthetic
from tests.structure import ROOT
from trading import risk
from trading.exchange.bybit.clock import HeardClock
from trading.exchange.bybit.endpoints import endpoints_of
from trading.exchange.bybit.exchange import BybitExchange
from trading.exchange.bybit.rest import BybitRest
from trading.model import Proposal, Side, utc
from trading.portfolio import Book
from trading.risk import Sized
from trading.trader import QueueInbox

ORDERS = 400
LIVELY = ("ema_period=30", "adx_min=0", "knife_atr=100", "entry_ttl_bars=1", "rsi_long_max=100", "rsi_short_min=0")
BARS = 4000


def percentiles(name: str, seconds: list[float], note: str) -> Iterator[Figure]:
    """The middle one and the slow end, in milliseconds."""
    for share in (50, 99):
        value = float(np.percentile(seconds, share)) * 1000
        yield Figure(name=f"{name} p{share}", value=value, unit="ms", note=note)


# ---- orders --------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def elsewhere(folder: Path) -> AsyncIterator[str]:
    """The address of a paper exchange in a process of its own, whose market stands still."""
    synthetic(200).to_parquet(folder / "BTCUSDT-15m.parquet")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["exchange", "--candles", "BTCUSDT-15m.parquet", "--history", "100", "--speed", "0", "--port", str(port)]
    process = subprocess.Popen([sys.executable, ROOT / "main.py", *words], cwd=folder, stdout=subprocess.PIPE)
    try:
        await asyncio.to_thread(process.stdout.readline)  # type: ignore[union-attr]
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate()


def resting(number: int, price: Decimal) -> Any:
    """A small entry far below the market."""
    proposal = Proposal(
        symbol="BTCUSDT",
        side=Side.LONG,
        signal_time=utc(0),
        interval=timedelta(minutes=15),
        close=float(price),
        entry=price,
        stop=price - 100,
        take_profit=None,
        take_profit_r=0.0,
        r_distance=100.0,
    )
    return risk.approve_entry(proposal, Sized(qty=Decimal("0.001"), risk_usdt=Decimal(1)), f"bench-{number}")


async def timed_orders(folder: Path) -> tuple[list[float], list[float], float]:
    """Seconds until each order was acknowledged and cancelled, one after the other; and orders a second of eight."""
    async with elsewhere(folder) as url:
        inbox, endpoints = QueueInbox(), endpoints_of("paper", url)
        rest = BybitRest(url, key="paper", secret="paper")
        about: dict[str, Any] = {"symbols": ("BTCUSDT",), "interval": timedelta(minutes=15), "clock": HeardClock()}
        broker = BybitExchange(rest, endpoints, inbox=inbox, key="paper", secret="paper", **about)
        price = (await broker.last_price("BTCUSDT") * Decimal("0.8")).quantize(Decimal("0.1"))
        acks, ends = [], []
        for number in range(ORDERS):
            began = time.perf_counter()
            await broker.place(resting(number, price))
            acks.append(time.perf_counter() - began)
            began = time.perf_counter()
            await broker.cancel("BTCUSDT", f"bench-{number}")
            ends.append(time.perf_counter() - began)
        began = time.perf_counter()
        await asyncio.gather(*(several(broker, price, first) for first in range(ORDERS, 2 * ORDERS, 100)))
        rate = ORDERS / (time.perf_counter() - began)
        rest.close()
        return acks, ends, rate


async def several(broker: BybitExchange, price: Decimal, first: int) -> None:
    """A hundred orders in a row."""
    for number in range(first, first + 100):
        await broker.place(resting(number, price))


@benchmark
def orders() -> Iterator[Figure]:
    """Through the adapter, pybit and the wire, to a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        acks, ends, rate = asyncio.run(timed_orders(Path(name)))
    note = f"{ORDERS} orders, one after the other"
    yield from percentiles("order sent to acknowledged", acks, note)
    yield from percentiles("cancel sent to known ended", ends, note)
    yield Figure(name="orders, one after the other", value=ORDERS / sum(acks), unit="/s", note="one connection")
    yield Figure(name="orders, four at a time", value=rate, unit="/s", note=f"{ORDERS} orders")


# ---- decisions -----------------------------------------------------------------------------------


class Stopwatch:
    """When the last close was published, and how long after it each order arrived."""

    def __init__(self, paper: Any) -> None:
        self.seconds: list[float] = []
        self.closes: list[float] = []
        self._closed = 0.0
        deliver, place = paper._market.deliver, paper._venue.place

        def delivered(told: Any) -> None:
            self._closed = time.perf_counter()
            self.closes.append(self._closed)
            deliver(told)

        def placed(asked: Any) -> Any:
            self.seconds.append(time.perf_counter() - self._closed)
            return place(asked)

        paper._market.deliver, paper._venue.place = delivered, placed


async def timed_decisions(folder: Path, file: Path) -> Stopwatch:
    """A whole replay over the wire."""
    words = ["run", "--candles", str(file), "--council", "off"]
    words += [part for setting in LIVELY for part in ("--set", setting)]
    settings = read_settings(folder / "none").model_copy(update={"data_dir": folder})
    plan = main.make_plan(main.build_parser().parse_args(words), settings)
    async with contextlib.AsyncExitStack() as stack:
        paper = main.make_paper(plan, settings, 0.0, port=0)
        stack.push_async_callback(paper.stop)
        await paper.start()
        watch = Stopwatch(paper)
        link = main.open_link(plan, settings, paper, stack)
        database = await open_database(folder / "bench.db")
        stack.push_async_callback(database.close)
        if link.pace is not None:
            await link.pace.start()
        await link.exchange.start()
        journal = SqlJournal(database, "bench", clock=main.wall_time)
        book = Book.opening(Decimal(10_000))
        seat = main.Seat(account="bench", badge="BENCH", journal=journal, book=book, sequence=0, commit_behind=True)
        source, _, _ = await main.warmed_up(plan, link.floor, book)
        trader = main.make_trader(main.make_desk(plan, link.floor, seat, source, plan.instruments), link.floor, seat)
        await trader.start(link.clock.now())
        market = asyncio.create_task(paper.run())
        await trader.run()
        await market
        return watch


@benchmark
def decisions() -> Iterator[Figure]:
    """From a published close to the order at the venue, in one process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole, label = candles(folder)
        file = folder / "BTCUSDT-15m-part.parquet"
        pd.read_parquet(whole).iloc[:BARS].to_parquet(file)
        watch = asyncio.run(timed_decisions(folder, file))
    note = f"{len(watch.seconds)} orders in {BARS:,} bars of {label}"
    yield from percentiles("close published to order at the venue", watch.seconds, note)
    steps = np.diff(watch.closes)
    yield from percentiles("close to close at speed 0", steps.tolist(), f"{BARS:,} bars over the wire")
    yield Figure(name="bars over the wire", value=len(steps) / float(steps.sum()), unit="bars/s", note="council off")
