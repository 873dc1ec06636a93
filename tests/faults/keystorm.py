"""A process that asks the council's models about candidate after candidate, many at a time, as the program would.

Its folder holds config.json and the database; keys and addresses come from the environment. Every question's end is a
line of JSON on stdout. `python -m tests.faults.keystorm PROVIDER QUESTIONS SECONDS AT_ONCE`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
import time
from collections.abc import Iterator, Mapping

import main
from bot.settings import read_config, read_settings
from storage.database import open_database
from tests.trading.council.candidates import STRATEGY, Session, brief_at, edges, session, synthetic
from trading.council.prompting import load_prompts
from trading.council.questions import AgentModel, Question
from trading.council.reading import schema_of
from trading.council.schemas import Status
from trading.llm.models import Models
from trading.strategy import evaluate

CANDIDATES = 40
BREATH = 0.25  # seconds between two questions of one asker while nobody has a key
BEAT = 0.01


def sessions() -> list[Session]:
    """Candidates of the made-up market, as they stood before the twins."""
    series = synthetic(4000)
    signals = evaluate(STRATEGY, series)
    return [session(brief_at(series, signals, row)) for row in edges(series, signals, CANDIDATES)]


def questions(agents: Mapping[str, AgentModel], provider: str) -> Iterator[Question]:
    """Every agent of the provider about every candidate, over and over."""
    prompts = load_prompts()
    packets = [
        (agent, getattr(held, f"{agent.partition('_')[0]}_packet"))
        for held in sessions()
        for agent, model in agents.items()
        if model.provider == provider
    ]
    made = [
        Question(
            model=agents[agent],
            prompt=prompts[agent],
            schema=schema_of(agent),
            packet=packet.json(),
            facts=packet.facts(),
        )
        for agent, packet in packets
    ]
    return itertools.cycle(made)


def tell(what: dict[str, object]) -> None:
    """One line."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


class Lag:
    """The longest time for which the loop could not be had, in seconds."""

    def __init__(self) -> None:
        self.worst = 0.0

    async def measure(self) -> None:
        """Until cancelled."""
        while True:
            before = time.perf_counter()
            await asyncio.sleep(BEAT)
            self.worst = max(self.worst, time.perf_counter() - before - BEAT)


async def ask_all(models: Models, asked: Iterator[Question], seconds: float, at_once: int) -> None:
    """So many askers, each with one question after the other."""
    lag = Lag()
    beating = asyncio.create_task(lag.measure())

    async def asker() -> None:
        for question in asked:
            began = time.monotonic()
            outcome = await models.ask(question, seconds)
            took = round(time.monotonic() - began, 3)
            told = {"status": outcome.status, "problem": outcome.problem, "alerts": outcome.alerts}
            longest = max((call.latency_ms for call in outcome.calls if call.code), default=0)
            tell({**told, "seconds": took, "longest": longest / 1000, "lag": round(lag.worst, 3)})
            if outcome.status is Status.QUOTA:
                await asyncio.sleep(BREATH)

    await asyncio.gather(*(asker() for _ in range(at_once)))
    beating.cancel()


async def storm(provider: str, count: int, seconds: float, at_once: int) -> None:
    """Plug the models together as the program does, and ask."""
    settings, config = read_settings(), read_config(main.config_file())
    async with contextlib.AsyncExitStack() as stack:
        database = await open_database(main.database_of(settings))
        stack.push_async_callback(database.close)
        models = await main.open_models(config, settings, stack, database)
        assert models is not None, "no key was found"
        await ask_all(models, itertools.islice(questions(config.council.agents, provider), count), seconds, at_once)
        for report in models.report():
            tell({"key": report.tail, "state": report.state, "seconds": report.seconds})


if __name__ == "__main__":
    main.start_logging("DEBUG")
    asyncio.run(storm(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))
