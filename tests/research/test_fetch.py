"""Fetching: from the wire face through a bad line, and from a stand-in that lacks bars; then what is read back."""

from __future__ import annotations

import math
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from research.candles import load_candles
from research.fetch import Fetched, candles_for, fetch
from research.synthetic import synthetic, write_candles
from storage.archive import COLUMNS, CandleArchive, series_of
from tests.journeys.program import Place, in_process
from tests.stand_ins.proxy import Fault, Kind, Proxy
from tests.trading.exchange_bybit.standin import Reply, StandIn, failure, result, standing_in
from tests.wire.harness import free_port
from trading.errors import BadInput, ConclaveError, Rejected, Transient
from trading.exchange.bybit.history import BybitHistory
from trading.exchange.bybit.rest import BybitRest
from trading.laboratory import Progress
from trading.model import CandleSeries

KLINE, FUNDING = "/v5/market/kline", "/v5/market/funding/history"
MINUTES, BAR, DAY = 15, 15 * 60_000, 86_400_000
HISTORY = 12_500  # closed bars at the exchange; the next one is in progress
MARKETS = {symbol: synthetic(symbol, seed=seed, bars=12_600, interval_minutes=MINUTES) for symbol, seed in
           (("BTCUSDT", 2), ("ETHUSDT", 3))}  # fmt: skip
DAYS = 125  # 12,000 bars


def same(one: CandleSeries, other: CandleSeries) -> bool:
    """Bit by bit."""
    return all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in COLUMNS)


def closed(bars: int, symbol: str = "BTCUSDT") -> CandleSeries:
    """The last closed bars of the exchange."""
    return MARKETS[symbol].between(HISTORY - bars, HISTORY)


def without(series: CandleSeries, rows: Sequence[int]) -> CandleSeries:
    """The series with holes."""
    return series_of(series.symbol, MINUTES, {name: np.delete(getattr(series, name), rows) for name in COLUMNS})


def silent(_: Progress) -> None:
    """Nobody looks."""


@asynccontextmanager
async def history_at(url: str, patience: float = 45.0) -> AsyncIterator[BybitHistory]:
    """The adapter on an address."""
    source = BybitHistory(BybitRest(url), url, patience=patience)
    try:
        yield source
    finally:
        source.close()


async def fetched(
    url: str,
    archive: CandleArchive,
    *,
    symbol: str = "BTCUSDT",
    days: int = DAYS,
    tell: Callable[[Progress], None] = silent,
    patience: float = 45.0,
) -> Fetched:
    """One download over the wire."""
    async with history_at(url, patience) as source:
        return await fetch(source, archive, symbol, MINUTES, days, tell)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The paper exchange's wire face with two symbols; a bar takes 15 minutes, so the market stands still."""
    folder, at = tmp_path_factory.mktemp("exchange"), free_port()
    files = [str(write_candles(series, folder / f"{symbol}.parquet")) for symbol, series in MARKETS.items()]
    words = ("--candles", *files, "--history", f"{HISTORY}", "--speed", "1", "--port", f"{at}")
    with Place(folder=folder).start("exchange", *words) as exchange:
        exchange.until(lambda: "Exchange:" in exchange.out, 30, "exchange")
        yield at


@pytest.fixture
def line(port: int) -> Iterator[Proxy]:
    """A line to it."""
    with Proxy(port) as proxy:
        yield proxy


@pytest.fixture
def archive(tmp_path: Path) -> CandleArchive:
    """An empty archive."""
    return CandleArchive(tmp_path / "data")


@pytest.fixture
def place(tmp_path: Path, line: Proxy) -> Place:
    """A folder for the command line, on the line to the exchange."""
    return Place(folder=tmp_path, env={"BYBIT_REST_URL": line.rest})


# ---- over the wire -------------------------------------------------------------------------------


async def test_more_than_ten_thousand_bars(line: Proxy, archive: CandleArchive) -> None:
    """Every closed bar exactly, the one in progress not; a request for each page, and one for where the market is."""
    shown: list[Progress] = []
    done = await fetched(line.rest, archive, tell=shown.append)
    assert same(archive.candles("BTCUSDT", MINUTES), closed(12_000))
    assert (done.bars, done.new, done.late) == (12_000, 12_000, False)
    assert (done.first, done.last) == (int(closed(12_000).timestamp[0]), int(closed(1).timestamp[0]))
    assert line.seen().count(KLINE) == 1 + 12
    candles = [each for each in shown if each.stage.startswith("candles")]
    assert [each.done for each in candles] == sorted(each.done for each in candles)
    assert (candles[-1].done, candles[-1].total) == (12_000, 12_000)
    assert all(each.total == 12_000 for each in candles)
    assert all(each.rate and each.rate > 0 for each in candles if 0 < each.done < 12_000)
    assert archive.source("BTCUSDT", MINUTES) == line.rest
    file = load_candles(done.path, known_symbols=("BTCUSDT", "ETHUSDT"))
    assert same(file.series, closed(12_000))


async def test_funding_comes_along(line: Proxy, archive: CandleArchive) -> None:
    """Every settlement of the bars, over more than one page, its rate a decimal; later only what may be new."""
    done = await fetched(line.rest, archive)
    stored = archive.funding("BTCUSDT")
    due = [at for at in range(done.first, done.last + 1, BAR) if at % (DAY // 3) == 0]
    assert list(stored.rates) == due
    assert len(due) == done.settlements == done.new_settlements > 200
    assert set(stored.rates.values()) == {Decimal("0.0001")}
    asked = line.seen().count(FUNDING)
    assert asked <= math.ceil(len(due) / 200) + 1
    again = await fetched(line.rest, archive)
    assert line.seen().count(FUNDING) == asked + 1
    assert (again.settlements, again.new_settlements) == (len(due), 0)


async def test_what_is_there_is_not_asked_for(line: Proxy, archive: CandleArchive) -> None:
    """One question, where the market is, and the file is not touched; more days ask for the older bars only."""
    await fetched(line.rest, archive, days=100)
    before, file = line.seen().count(KLINE), archive.path("BTCUSDT", MINUTES).stat()
    done = await fetched(line.rest, archive, days=100)
    assert (done.bars, done.new) == (9600, 0)
    assert line.seen().count(KLINE) == before + 1
    assert archive.path("BTCUSDT", MINUTES).stat() == file
    await fetched(line.rest, archive, days=110)
    assert line.seen().count(KLINE) == before + 1 + 2
    assert same(archive.candles("BTCUSDT", MINUTES), closed(10_560))


async def test_holes_and_both_ends_are_filled(line: Proxy, archive: CandleArchive) -> None:
    """Newer bars, older ones and three holes: a page each, and the whole is the exchange's."""
    there = without(closed(11_900).between(0, 11_800), [*range(2000, 2900), 5000, *range(7000, 7003)])
    archive.add(there)
    done = await fetched(line.rest, archive)
    assert same(archive.candles("BTCUSDT", MINUTES), closed(12_000))
    assert done.new == 100 + 100 + 900 + 1 + 3
    assert line.seen().count(KLINE) == 1 + 5


async def test_two_symbols_lie_apart(line: Proxy, archive: CandleArchive) -> None:
    """Each its own bars."""
    for symbol in MARKETS:
        await fetched(line.rest, archive, symbol=symbol, days=30)
    for symbol in MARKETS:
        assert same(archive.candles(symbol, MINUTES), closed(2880, symbol))


async def test_a_market_that_is_younger(line: Proxy, archive: CandleArchive) -> None:
    """More days than the exchange has: all there are, and that these are all is told."""
    shown: list[Progress] = []
    done = await fetched(line.rest, archive, days=400, tell=shown.append)
    assert (done.bars, done.late) == (HISTORY, True)
    assert same(archive.candles("BTCUSDT", MINUTES), closed(HISTORY))
    last = [each for each in shown if each.stage.startswith("candles")][-1]
    assert (last.done, last.total) == (HISTORY, HISTORY)


async def test_funding_of_the_last_bar_belongs_to_it(server: StandIn, archive: CandleArchive) -> None:
    """A bar of a day holds three settlements; the one at the opening of the next bar is not its own."""
    start, day = 20_000 * DAY, 3
    rows = [[str(start + at * DAY), "1", "1", "1", "1", "1", "1"] for at in range(day + 1)]
    due = list(range(start, start + day * DAY + 1, DAY // 3))
    told = [{"symbol": "BTCUSDT", "fundingRate": "0.0002", "fundingRateTimestamp": str(at)} for at in due]
    late = told.pop(-2)

    def settled(params: dict[str, Any]) -> Reply:
        first, last = int(params["startTime"]), int(params["endTime"])
        return result({"list": [each for each in told if first <= int(each["fundingRateTimestamp"]) <= last]})

    server.always |= {KLINE: lambda params: result({"list": rows[::-1][: int(params["limit"])]}), FUNDING: settled}
    async with history_at(server.rest) as source:
        await fetch(source, archive, "BTCUSDT", 1440, day, silent)
        assert list(archive.funding("BTCUSDT").rates) == due[:-2]
        told.append(late)  # a rate that is published late is not lost
        await fetch(source, archive, "BTCUSDT", 1440, day, silent)
    assert list(archive.funding("BTCUSDT").rates) == due[:-1]


# ---- a bad line ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Fault(Kind.RET_CODE, path=KLINE, times=3, ret_code=10006, reset_ms=700),
        Fault(Kind.RET_CODE, path=FUNDING, times=2, ret_code=10006, reset_ms=-5000),
        Fault(Kind.RET_CODE, path=KLINE, times=2, ret_code=10016),
        Fault(Kind.STATUS, path=KLINE, times=8, status=503),
        Fault(Kind.STATUS, path=KLINE, times=2, status=429),
        Fault(Kind.HTML, path=KLINE, times=2),
        Fault(Kind.TRUNCATE, path=KLINE, times=2),
        Fault(Kind.DROP_REPLY, path=FUNDING, times=2),
        Fault(Kind.DELAY, path=KLINE, times=1, seconds=5.5),
    ],
    ids=lambda fault: f"{fault.kind} {fault.ret_code if fault.kind is Kind.RET_CODE else fault.status} x{fault.times}",
)
async def test_trouble_that_passes_is_waited_out(line: Proxy, archive: CandleArchive, fault: Fault) -> None:
    """Rate limits, overload, broken answers, a slow one: nothing is lost and nothing is told."""
    begun: list[int] = []

    def tell(progress: Progress) -> None:
        if progress.done >= 4000 and not begun:
            begun.append(line.fault(fault))

    await fetched(line.rest, archive, tell=tell)
    assert same(archive.candles("BTCUSDT", MINUTES), closed(12_000))
    funding = archive.funding("BTCUSDT")
    assert len(funding.rates) == 375
    assert funding.missing(int(closed(12_000).timestamp[0]), max(funding.rates)) == []
    assert line.seen().hits[fault.kind] == fault.times


async def test_a_line_that_breaks_in_the_middle(line: Proxy, archive: CandleArchive) -> None:
    """One clear error says what is stored; the same call then asks only for the rest."""

    def cut(progress: Progress) -> None:
        if progress.done == 5000:
            line.fault(Fault(Kind.REFUSE))

    with pytest.raises(Transient, match=r"cannot be reached.*; 5000 bars of BTCUSDT are stored, the same command"):
        await fetched(line.rest, archive, tell=cut, patience=1.0)
    assert same(archive.candles("BTCUSDT", MINUTES), closed(5000))
    line.heal()
    before = line.seen().count(KLINE)
    done = await fetched(line.rest, archive)
    assert same(archive.candles("BTCUSDT", MINUTES), closed(12_000))
    assert done.new == 7000
    assert line.seen().count(KLINE) - before == 1 + 8  # seven pages and a bar, for a known bar is asked for along


async def test_a_ban_is_not_waited_out(line: Proxy, archive: CandleArchive) -> None:
    """HTTP 403 bars the address for ten minutes, and every further request prolongs it: not one is sent."""

    def ban(progress: Progress) -> None:
        if progress.done == 3000:
            line.fault(Fault(Kind.STATUS, status=403))

    with pytest.raises(Transient, match=r"HTTP 403.*nothing is sent before .* UTC; 3000 bars"):
        await fetched(line.rest, archive, tell=ban)
    assert line.seen().hits[Kind.STATUS] == 1


async def test_an_exchange_that_is_not_there_is_told_at_once(archive: CandleArchive) -> None:
    """The first question is not repeated for long: the address may be wrong."""
    with pytest.raises(Transient, match=r"127\.0\.0\.1:9: the exchange cannot be reached"):
        await fetched("http://127.0.0.1:9", archive)
    assert not archive.folder.exists()


# ---- an exchange with flaws ----------------------------------------------------------------------


class Tape:
    """Klines by Bybit's rules over any bars: the newest of a window, newest first, the one in progress with them."""

    def __init__(self, server: StandIn, series: CandleSeries) -> None:
        self.rows = self._of(series)
        self.lacks: list[set[int]] = []  # what each of the next answers leaves out
        server.always[KLINE] = self.kline
        server.always[FUNDING] = result({"list": []})

    @staticmethod
    def _of(series: CandleSeries) -> dict[int, list[str]]:
        columns = [getattr(series, name).tolist() for name in COLUMNS]
        return {row[0]: [*(repr(value) for value in row), "0"] for row in zip(*columns, strict=True)}

    def kline(self, params: dict[str, Any]) -> Reply:
        """One answer."""
        start, end = int(params.get("start", 0)), int(params.get("end", 2**62))
        lacks = self.lacks.pop(0) if self.lacks and "start" in params else set()
        inside = sorted((at for at in self.rows if start <= at <= end and at not in lacks), reverse=True)
        return result({"list": [self.rows[at] for at in inside[: int(params.get("limit", 200))]]})


@pytest.fixture
async def server() -> AsyncIterator[StandIn]:
    """The stand-in."""
    async with standing_in() as one:
        yield one


@pytest.fixture
def tape(server: StandIn) -> Tape:
    """3,001 bars, of which the last is in progress."""
    return Tape(server, MARKETS["BTCUSDT"].between(0, 3001))


def opening(row: int) -> int:
    """Of a bar of the tape."""
    return int(MARKETS["BTCUSDT"].timestamp[row])


async def test_bars_that_were_left_out_once_are_asked_for_again(
    server: StandIn, tape: Tape, archive: CandleArchive
) -> None:
    """An answer with holes: the second question fills them."""
    tape.lacks = [set(), {opening(1500), opening(1501), opening(1700)}]
    await fetched(server.rest, archive, days=30)
    assert same(archive.candles("BTCUSDT", MINUTES), MARKETS["BTCUSDT"].between(120, 3000))


async def test_a_gap_is_refused_by_name(server: StandIn, tape: Tape, archive: CandleArchive) -> None:
    """Which bars, what to do; the bars around it stay, and what came after it can be used."""
    for row in (1500, 1501, 1700):
        del tape.rows[opening(row)]
    with pytest.raises(Rejected) as caught:
        await fetched(server.rest, archive, days=30)
    said = str(caught.value)
    assert "3 bars are missing or impossible: 2024-01-16 15:00 to 2024-01-16 15:15, 2024-01-18 17:00 UTC" in said
    assert "asked for twice: fetch again later" in said
    assert "use what came after: --days 13" in said
    assert same(archive.candles("BTCUSDT", MINUTES), without(MARKETS["BTCUSDT"].between(120, 3000), [1380, 1381, 1580]))
    done = await fetched(server.rest, archive, days=13)
    assert done.new == 0
    assert len(candles_for(archive, "BTCUSDT", MINUTES, 13)) == 13 * 96
    with pytest.raises(BadInput, match=r"impossible: 2024-01-18 17:00 UTC; .* --days 13, or again: main.py fetch"):
        candles_for(archive, "BTCUSDT", MINUTES, 14)
    tape.rows |= Tape(server, MARKETS["BTCUSDT"].between(0, 3001)).rows  # they come after all
    server.always[KLINE] = tape.kline
    assert (await fetched(server.rest, archive, days=30)).new == 3


async def test_many_gaps_are_counted(server: StandIn, tape: Tape, archive: CandleArchive) -> None:
    """Three are named, the line stays one line."""
    for row in range(1000, 2000, 100):
        del tape.rows[opening(row)]
    with pytest.raises(Rejected, match=r"10 bars are missing or impossible: (\S+ \S+, ){2}\S+ \S+ UTC and 7 more gaps"):
        await fetched(server.rest, archive, days=30)


async def test_the_bar_in_progress_is_never_stored(server: StandIn, tape: Tape, archive: CandleArchive) -> None:
    """Not while it grows; once the next one has opened, as it ended."""
    await fetched(server.rest, archive, days=10)
    assert archive.candles("BTCUSDT", MINUTES).timestamp[-1] == opening(2999)
    tape.rows[opening(3000)] = [str(opening(3000)), "1", "4", "1", "2", "7", "0"]
    await fetched(server.rest, archive, days=10)
    assert archive.candles("BTCUSDT", MINUTES).timestamp[-1] == opening(2999)
    tape.rows[opening(3000)] = [str(opening(3000)), "1", "4", "1", "3.25", "8", "0"]
    tape.rows[opening(3001)] = [str(opening(3001)), "3", "4", "1", "2", "0", "0"]
    done = await fetched(server.rest, archive, days=10)
    stored = archive.candles("BTCUSDT", MINUTES)
    assert (done.new, done.last, stored.close[-1]) == (1, opening(3000), 3.25)


async def test_a_bar_that_was_settled_late_is_put_right(server: StandIn, tape: Tape, archive: CandleArchive) -> None:
    """The newest stored bar is asked for along with newer ones, and the exchange has the last word on it."""
    await fetched(server.rest, archive, days=10)
    tape.rows[opening(2999)][5] = "123.5"
    tape.rows |= Tape(server, MARKETS["BTCUSDT"].between(3001, 3003)).rows
    server.always[KLINE] = tape.kline
    await fetched(server.rest, archive, days=10)
    stored = archive.candles("BTCUSDT", MINUTES)
    assert stored.volume[np.searchsorted(stored.timestamp, opening(2999))] == 123.5


async def test_another_market_is_not_mixed_in(server: StandIn, tape: Tape, archive: CandleArchive) -> None:
    """Bars of the paper exchange in the archive, prices of another one at the address: refused, nothing changed."""
    other = synthetic("BTCUSDT", seed=99, bars=3000, interval_minutes=MINUTES).between(500, 2900)
    assert other.timestamp[0] == opening(500)
    archive.add(other)
    with pytest.raises(BadInput, match=r"BTCUSDT-15.parquet holds other prices than http.*: move the file away"):
        await fetched(server.rest, archive, days=30)
    assert same(archive.candles("BTCUSDT", MINUTES), other)
    assert tape.rows


async def test_what_was_not_asked_for_is_left_out(server: StandIn, tape: Tape, archive: CandleArchive) -> None:
    """An exchange that answers with bars outside of the window does not confuse the paging."""

    def wide(params: dict[str, Any]) -> Reply:
        params = {**params, **({"start": int(params["start"]) - 5 * BAR} if "start" in params else {})}
        return tape.kline(params)

    server.always[KLINE] = wide
    await fetched(server.rest, archive, days=10)
    assert same(archive.candles("BTCUSDT", MINUTES), MARKETS["BTCUSDT"].between(2040, 3000))


async def test_an_impossible_bar_is_refused(server: StandIn, tape: Tape, archive: CandleArchive) -> None:
    """Named as a gap is, and not stored; an answer with nothing else in it is no answer."""
    tape.rows[opening(2500)][2] = "0.5"  # a high below the low
    with pytest.raises(Rejected, match="1 bar is missing or impossible: 2024-01-27 01:00 UTC, asked for twice"):
        await fetched(server.rest, archive, days=10)
    assert same(archive.candles("BTCUSDT", MINUTES), without(MARKETS["BTCUSDT"].between(2040, 3000), [460]))
    tape.rows = {at: [row[0], "nan", *row[2:]] for at, row in tape.rows.items()}
    with pytest.raises(Transient, match=r"candle of .* is impossible"):
        await fetched(server.rest, archive, days=10)


@pytest.mark.parametrize(
    "reply", [failure(10001, "Not supported symbols"), result({"list": []})], ids=["10001", "none"]
)
async def test_a_symbol_the_exchange_does_not_know(server: StandIn, archive: CandleArchive, reply: Reply) -> None:
    """Refused in either way of saying no, and no file is made."""
    server.always[KLINE] = reply
    with pytest.raises(BadInput, match=r"XYZUSDT.*check the symbol"):
        await fetched(server.rest, archive, symbol="XYZUSDT")
    assert not archive.folder.exists()


# ---- reading back --------------------------------------------------------------------------------


def test_the_last_days_of_the_archive(archive: CandleArchive) -> None:
    """As many whole days as are asked for, up to the newest bar; all with None."""
    archive.add(closed(3000))
    assert same(candles_for(archive, "BTCUSDT", MINUTES, 10), closed(960))
    assert same(candles_for(archive, "BTCUSDT", MINUTES, 31), closed(2976))
    assert same(candles_for(archive, "BTCUSDT", MINUTES, None), closed(3000))
    assert candles_for(archive, "BTCUSDT", MINUTES, 1).interval == timedelta(minutes=MINUTES)


@pytest.mark.parametrize("bars", [0, 1])
def test_nothing_there_says_how_to_get_it(archive: CandleArchive, bars: int) -> None:
    """The command to type."""
    archive.add(closed(bars))
    wanted = r"no 15-minute candles of BTCUSDT yet: main.py fetch BTCUSDT --interval 15 --days 30"
    with pytest.raises(BadInput, match=wanted):
        candles_for(archive, "BTCUSDT", MINUTES, 30)


def test_too_little_says_how_much_there_is(archive: CandleArchive) -> None:
    """How many days, from when to when."""
    archive.add(closed(1000))
    with pytest.raises(BadInput, match=r"30 days of BTCUSDT .* only 10\.4 days, .* UTC: main.py fetch .* for 10 days"):
        candles_for(archive, "BTCUSDT", MINUTES, 30)


# ---- the command ---------------------------------------------------------------------------------


def test_the_command_says_what_lies_where(place: Place, line: Proxy) -> None:
    """One line on stdout, progress on stderr; a second time nothing is new."""
    done = place.run("fetch", "BTCUSDT", "--interval", "15", "--days", f"{DAYS}")
    assert (done.code, len(done.out.splitlines())) == (0, 1), done.err
    assert f"{place.data}/candles/BTCUSDT-15.parquet: 12000 bars, 2024-01-06 05:00 to " in done.out
    assert "12000 of them new; BTCUSDT-funding.parquet: 375 settlements, 375 of them new" in done.out
    assert "candles BTCUSDT 15: 12,000 of 12,000" in done.err
    again = place.run("fetch", "BTCUSDT", "--interval", "15", "--days", f"{DAYS}")
    assert ", 0 of them new; " in again.out
    assert same(CandleArchive(place.data).candles("BTCUSDT", 15), closed(12_000))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("XYZUSDT", "--interval", "15"), "the exchange has no XYZUSDT at 15 minutes"),
        (("btcusdt",), "'btcusdt' is no symbol"),
        (("../../BTCUSDT",), "is no symbol"),
        (("BTCUSDT", "--interval", "7"), "--interval 7 is none of the exchange's: one of 1, 3, 5, 15"),
        (("BTCUSDT", "--interval", "5"), "Invalid period!"),
        (("BTCUSDT", "--days", "0"), "--days 0 is not possible"),
        (("BTCUSDT", "--days", "x"), "--days"),
        ((), "SYMBOL"),
    ],
)
def test_wrong_words_are_refused_in_one_line(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], why: str
) -> None:
    """Exit code 2; `Invalid period` is what an exchange of 15-minute bars says of shorter ones."""
    monkeypatch.setenv("BYBIT_REST_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    done = in_process(["fetch", *words])
    assert (done.code, done.out, len(done.said)) == (2, "", 1)
    assert why in done.err


def test_an_exchange_that_is_away_is_exit_1(place: Place, line: Proxy) -> None:
    """One clear line."""
    line.fault(Fault(Kind.REFUSE))
    done = place.run("fetch", "BTCUSDT")
    assert (done.code, done.out, len(done.said)) == (1, "", 1)
    assert done.said[0].startswith(f"error: {line.rest}: the exchange cannot be reached")


def test_feed_rest_url_is_where_prices_come_from(place: Place, line: Proxy) -> None:
    """Without BYBIT_REST_URL."""
    elsewhere = Place(folder=place.folder, env={"FEED_REST_URL": line.rest})
    assert elsewhere.run("fetch", "ETHUSDT", "--days", "10").code == 0
    assert line.seen().count(KLINE) > 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_what_was_fetched_outlives_the_process(place: Place, line: Proxy, how: signal.Signals) -> None:
    """Killed in the middle of a slow download, asked to stop or not: the pages stay, and only the rest is asked for."""
    line.fault(Fault(Kind.DELAY, path=KLINE, seconds=0.15))
    archive = CandleArchive(place.data)
    with place.start("fetch", "BTCUSDT", "--interval", "15", "--days", f"{DAYS}") as running:
        running.until(lambda: len(archive.candles("BTCUSDT", 15)) >= 4000, 20, "four pages")
        running.process.send_signal(how)
        running.process.wait(10)
        if how is not signal.SIGKILL:
            assert running.process.returncode == 1
            assert "error: stopped: what was fetched is stored" in running.err
    there = len(archive.candles("BTCUSDT", 15))
    assert 4000 <= there < 12_000
    assert same(archive.candles("BTCUSDT", 15), closed(there))
    line.heal()
    before = line.seen().count(KLINE)
    assert place.run("fetch", "BTCUSDT", "--interval", "15", "--days", f"{DAYS}").code == 0
    assert line.seen().count(KLINE) - before <= 1 + math.ceil((12_001 - there) / 1000)
    assert same(archive.candles("BTCUSDT", 15), closed(12_000))


async def test_a_full_disk_is_told_as_such(server: StandIn, tape: Tape, tmp_path: Path) -> None:
    """Not blamed on the exchange."""
    (tmp_path / "data").write_text("")
    with pytest.raises(ConclaveError, match=r"data/candles.*(cannot be written|cannot be read).*DATA_DIR"):
        await fetched(server.rest, CandleArchive(tmp_path / "data"), days=10)
    assert tape.rows
