"""The program, its exchange as a process of its own, and the line between them; and three witnesses of what happened.

`Exchange.books` asks the exchange itself, through pybit and past the line; `Bot` asks the bot's database, its chat
and its streams; the proxy has seen what was sent.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sqlite3
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import requests
from pybit.exceptions import FailedRequestError, InvalidRequestError  # type: ignore[import-untyped]
from pybit.unified_trading import HTTP  # type: ignore[import-untyped]

from research.candles import load_candles
from tests.faults.markets import BAR, SYMBOL, words
from tests.journeys.chatlog import Log, bot, extra, read, recorded, session
from tests.journeys.program import Done, Place, Running, in_process, phone
from tests.stand_ins.proxy import Proxy, Seen

FULL = os.environ.get("CONCLAVE_FULL_WIRE") == "1"
KEY = SECRET = "paper"
WEEK_MS = timedelta(days=7) // timedelta(milliseconds=1)
UNANSWERED = (requests.RequestException, FailedRequestError, InvalidRequestError)
T = TypeVar("T")
Json = dict[str, Any]


def until(condition: Callable[[], T | None], seconds: float, what: str, *, pause: float = 0.01) -> T:
    """The first true answer of a condition; fails by name when the time is up."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"no {what} within {seconds:g} s"
        time.sleep(pause)
    return answer


def figures(**named: object) -> None:
    """Print what was measured; pytest shows it with -s or -rP."""
    sys.stdout.write(" ".join(f"{name}={value}" for name, value in named.items()) + "\n")


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


# ---- the exchange's own word ---------------------------------------------------------------------


class Books:
    """What the exchange says of its account, by its REST interface, asked at most every `pause` seconds.

    The account has one rate limit for everybody: a witness in a hurry would take it from the bot.
    """

    def __init__(self, url: str, *, pause: float) -> None:
        self._pause = pause
        self._asked = 0.0
        self._http = HTTP(api_key=KEY, api_secret=SECRET, timeout=5)
        self._http.endpoint = url
        self._http.client.trust_env = False

    def close(self) -> None:
        """Give up the connection."""
        self._http.client.close()

    def alive(self) -> bool:
        """Does it answer?"""
        with contextlib.suppress(*UNANSWERED):
            return bool(self._http.get_server_time()["retCode"] == 0)
        return False

    def position(self) -> Json | None:
        """The open position."""
        rows = self._rows(self._http.get_positions, symbol=SYMBOL)
        return next((row for row in rows if Decimal(row["size"] or "0")), None)

    def resting(self) -> Json | None:
        """The entry that rests in the book, without a fill so far."""
        rows = self._rows(self._http.get_open_orders, symbol=SYMBOL, openOnly=0)
        fits = (row for row in rows if row["orderLinkId"] and not row["reduceOnly"] and row["orderStatus"] == "New")
        return next(fits, None)

    def bar(self) -> int:
        """When the newest bar has opened; between bars that is the one just closed."""
        minutes = BAR // timedelta(minutes=1)
        return int(self._rows(self._http.get_kline, symbol=SYMBOL, interval=minutes, limit=1)[0][0])

    def orders(self, first: int, last: int) -> list[Json]:
        """Every order of these milliseconds of market time, open or not."""
        history = self._all(self._http.get_order_history, first, last, limit=50)
        still = self._rows(self._http.get_open_orders, symbol=SYMBOL, openOnly=0, limit=50)
        return list({row["orderId"]: row for row in [*history, *still]}.values())

    def executions(self, first: int, last: int) -> list[Json]:
        """Every fill and every funding payment of these milliseconds of market time."""
        return self._all(self._http.get_executions, first, last, limit=100)

    def _all(self, ask: Callable[..., Json], first: int, last: int, **how: Any) -> list[Json]:
        """All pages of all weeks: an answer never spans more than seven days."""
        found: list[Json] = []
        for start in range(first, last, WEEK_MS):
            window = {"startTime": start, "endTime": min(start + WEEK_MS - 1, last)}
            cursor = ""
            while True:
                answer = self._ask(ask, symbol=SYMBOL, cursor=cursor or None, **window, **how)
                found += answer["list"]
                if not (cursor := answer["nextPageCursor"]) or not answer["list"]:
                    break
        return found

    def _rows(self, ask: Callable[..., Json], **what: Any) -> list[Any]:
        rows: list[Any] = self._ask(ask, **what)["list"]
        return rows

    def _ask(self, ask: Callable[..., Json], **what: Any) -> Json:
        time.sleep(max(0.0, self._asked + self._pause - time.monotonic()))
        self._asked = time.monotonic()
        found: Json = ask(category="linear", **what)["result"]
        return found


# ---- the bot's own word --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Bot:
    """The program in its folder; what it wrote down is read from there, whether it runs or not."""

    place: Place

    @property
    def database(self) -> Path:
        return self.place.data / "conclave.db"

    def rows(self, query: str, *values: object) -> list[Any]:
        """Of the account that was written last; nothing while there is no database. `:account` is its name."""
        if not self.database.exists():
            return []
        db = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=5)
        try:
            newest = db.execute("SELECT account FROM journal ORDER BY rowid DESC LIMIT 1").fetchone()
            return [] if newest is None else db.execute(query, (newest[0], *values)).fetchall()
        except sqlite3.OperationalError:  # it is being made
            return []
        finally:
            db.close()

    def events(self, *kinds: str) -> list[tuple[str, Json]]:
        """The journal's events of these kinds, in order."""
        marks = ", ".join("?" * len(kinds))
        query = f"SELECT type, body FROM journal WHERE account = ? AND type IN ({marks}) ORDER BY seq"  # noqa: S608
        return [(kind, json.loads(body)) for kind, body in self.rows(query, *kinds)]

    def closes(self) -> int:
        """How many closes it has dealt with."""
        found = self.rows("SELECT count(*) FROM equity WHERE account = ?")
        return int(found[0][0]) if found else 0

    def filled(self, link: str) -> Decimal:
        """How much of an order it has booked as filled."""
        found = self.rows("SELECT qty FROM executions WHERE account = ? AND NOT funding AND link_id = ?", link)
        return sum((Decimal(str(row[0])) for row in found), Decimal(0))

    def stop(self) -> Decimal | None:
        """Where its books have the stop of the open position."""
        stop: Decimal | None = None
        for kind, body in self.events("OrderFilled", "StopMoved", "TradeClosed"):
            if kind == "OrderFilled" and body["purpose"] == "entry":
                stop = Decimal(body["stop"])
            elif kind == "StopMoved":
                stop = Decimal(body["new"])
            elif kind == "TradeClosed":
                stop = None
        return stop

    def holding(self) -> bool:
        """Has it a position by its own books?"""
        return self.stop() is not None

    def resting(self) -> bool:
        """Has it an accepted entry that nothing has become of, by its own books?"""
        query = "SELECT 1 FROM intents WHERE account = ? AND purpose = 'entry' AND state = 'accepted'"
        return bool(self.rows(query))

    def told(self) -> tuple[Log, Log]:
        """What the phone tells of the account, and what the database holds of it; the program must be gone."""
        with phone(self.place) as only:
            return read(session(only.messages())), recorded(self.database)

    def told_all(self, *, doubles: int = 0) -> None:
        """Every decision, fill and exit has its message; at most so many have a second one."""
        shown, kept = self.told()
        twice = 0
        for told, held in ((shown.verdicts, kept.verdicts), (shown.fills, kept.fills), (shown.exits, kept.exits)):
            too_often, missing = extra(told, held)
            assert dict(missing) == {}, "a message was lost"
            twice += too_often.total()
        assert twice <= doubles, "a kill doubles the message under way at most"


def alerts(running: Running, part: str) -> list[str]:
    """The chat's alerts about the exchange that hold these words."""
    texts = [str(each["text"]) for each in bot(running.messages())]
    return [text for text in texts if "ALERT exchange" in text and part in text]


def the_object(done: Done) -> Json:
    """Exit code 0, exactly one JSON object on stdout, and no traceback."""
    assert done.code == 0, done.err[-3000:]
    assert "Traceback" not in done.err, done.err[-3000:]
    found = json.loads(done.out)
    assert isinstance(found, dict)
    return found


def replayed(*argv: str) -> Json:
    """What `replay` prints for these words, from inside this process: no wire, no ledger, no chat."""
    return the_object(in_process(["replay", "--json", *argv]))


# ---- both and the line ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """An exchange that runs, the line to it, and a place to run the bot in."""

    candles: Path
    settings: tuple[str, ...]
    exchange: Running
    books: Books
    proxy: Proxy
    bot: Bot
    span: tuple[int, int] = field(default=(0, 0))

    def replay(self, *argv: str) -> Json:
        """What the same bars give in memory."""
        return replayed("--candles", str(self.candles), *self.settings, *argv)

    def orders_once(self) -> None:
        """The exchange knows every orderLinkId once, fills no more than was asked, and counts each fill once."""
        orders = [row for row in self.books.orders(*self.span) if row["orderLinkId"]]
        assert orders, "no order reached the exchange"
        twice = [link for link, count in Counter(row["orderLinkId"] for row in orders).items() if count > 1]
        assert twice == []
        fills = [row for row in self.books.executions(*self.span) if row["execType"] != "Funding"]
        assert len({row["execId"] for row in fills}) == len(fills)
        asked = {row["orderId"]: Decimal(row["qty"]) for row in orders}
        filled: defaultdict[str, Decimal] = defaultdict(Decimal)
        for row in fills:
            filled[row["orderId"]] += Decimal(row["execQty"])
        assert [order for order, qty in filled.items() if qty > asked.get(order, qty)] == []

    def accepted_once(self) -> Seen:
        """What the line has seen: no orderLinkId that the exchange took twice."""
        seen = self.proxy.seen()
        times = {link: sum(each.exchange == 0 for each in sent) for link, sent in seen.orders.items()}
        assert [link for link, count in times.items() if count > 1] == []
        return seen


@contextlib.contextmanager
def wire(
    folder: Path, candles: Path, settings: Mapping[str, float], *, speed: float, history: int = 0
) -> Iterator[Wire]:
    """Start the exchange and the line to it; both are gone when the block ends."""
    argv = words(settings)
    port = free_port()
    home = Place(folder=folder / "exchange")
    home.folder.mkdir()
    (folder / "bot").mkdir()
    market = ("--candles", str(candles), "--speed", f"{speed:g}", "--history", str(history))
    file = load_candles(candles, symbol=SYMBOL, interval_minutes=None, known_symbols=(SYMBOL,))
    with (
        home.start("exchange", *market, "--port", str(port), *argv) as exchange,
        contextlib.closing(Books(f"http://127.0.0.1:{port}", pause=0.06 if speed else 0.0)) as books,
        Proxy(port) as proxy,
    ):
        exchange.until(books.alive, 30, "exchange that answers")
        env = {
            "BYBIT_REST_URL": proxy.rest,
            "BYBIT_WS_URL": proxy.ws,
            "BYBIT_KEY": KEY,
            "BYBIT_SECRET": SECRET,
        }
        yield Wire(
            candles=candles,
            settings=argv,
            exchange=exchange,
            books=books,
            proxy=proxy,
            bot=Bot(place=Place(folder=folder / "bot", env=env)),
            span=(file.first, file.last + file.series.interval // timedelta(milliseconds=1)),
        )
        assert exchange.process.poll() is None, f"the exchange has died: {exchange.err[-2000:]}"
        assert "Traceback" not in exchange.err, exchange.err[-3000:]
