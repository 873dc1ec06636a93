"""Everything that can happen to streams and requests, for the sake of what it leaves on stderr. Run as a module."""

from __future__ import annotations

import asyncio
import contextlib

from tests.trading.exchange_bybit.standin import Reply, StandIn, failure, standing_in, until
from trading.errors import ConclaveError
from trading.exchange.bybit.rest import BybitRest
from trading.exchange.bybit.streams import Plan, Stream

TOPICS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "public/linear": (("kline.1.{symbol}", ("BTCUSDT",)),),
    "private": (("order", ()),),
}


async def streams(server: StandIn) -> None:
    """Both streams through deaths, garbage, refusals and an outage."""
    states: list[str] = []
    tasks = []
    for name, topics in TOPICS.items():
        key = "THE-KEY" if name == "private" else ""
        plan = Plan(name=name, url=f"{server.ws}/v5/{name}", topics=topics, key=key, secret=key)
        stream = Stream(plan, on_frame=print, on_up=lambda: states.append("up"), on_down=states.append)
        tasks.append(asyncio.create_task(stream.run()))
    await until(lambda: states.count("up") == 2)
    for text in ("", "garbage", '{"op": "what"}', '{"success": false, "op": "subscribe", "ret_msg": "no"}'):
        await server.tell(text)
    server.reset()
    await until(lambda: len(states) == 6)
    server.reset()
    server.accepts_key = False
    await server.down()
    await asyncio.sleep(1)
    await server.up()
    await until(lambda: states[-1] == "up")
    server.handshake_status = 502
    server.reset()
    await asyncio.sleep(1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def requests(server: StandIn) -> None:
    """Answers of every kind."""
    rest = BybitRest(server.rest, key="THE-KEY", secret="THE-SECRET")
    path = "/v5/order/create"
    for reply in (failure(10004, "error sign!"), failure(10006), Reply(status=500, raw=b""), Reply(raw=b"<html>")):
        server.script[path].append(reply)
    for _ in range(3):
        with contextlib.suppress(ConclaveError):
            await rest.write("place_order", category="linear", symbol="BTCUSDT")
    await server.down()
    with contextlib.suppress(ConclaveError):
        await rest.read("get_tickers", category="linear")
    rest.close()


async def main() -> None:
    """One after the other."""
    async with standing_in() as server:
        await streams(server)
        await requests(server)


asyncio.run(main())
