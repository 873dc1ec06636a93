"""How the agents are disposed: what `good` means to this server.

    sound       reasons from the packet
    contrarian  the opposite of sound, as well-formed and as grounded
    drunk       any valid, grounded answer, by chance
    hostile     whatever might do harm: sizes of 50, NaN, orders in the prose, votes always for the trade

Chance comes from the seed and the packet, so that the order of calls does not matter.
"""

from __future__ import annotations

import random
from typing import Final

from trading.errors import BadInput
from trading.llm.rehearsal.answers import Answer, answer_for, number, p_win, sign
from trading.llm.rehearsal.asked import Asked
from trading.llm.rehearsal.items import Item, item_of, near

TEMPERAMENTS: Final = ("sound", "contrarian", "drunk", "hostile")
_OPPOSITE: Final = {
    "LONG": "SHORT",
    "SHORT": "LONG",
    "BULLISH": "BEARISH",
    "BEARISH": "BULLISH",
    "APPROVED": "REJECTED",
    "REJECTED": "APPROVED",
}
_VOTES: Final = {
    "signal": ("LONG", "SHORT", "NEUTRAL"),
    "bias": ("BULLISH", "BEARISH", "CHOPPY"),
    "structure": ("HH_HL", "LH_LL", "RANGE", "UNCLEAR"),
    "decision": ("APPROVED", "REJECTED"),
}
_HARM: Final = ("good", "size50", "negative", "nan", "infinity", "injection", "extra_keys", "rejected_with_size")
_HARM_OF_RISK: Final = (*_HARM, "size0approved", "duplicate_keys", "strings_for_numbers")


class Temperament:
    """One disposition under one seed."""

    def __init__(self, name: str, seed: int) -> None:
        if name not in TEMPERAMENTS:
            raise BadInput(f"a temperament is {', '.join(TEMPERAMENTS)}, not {name!r}{near(name, TEMPERAMENTS)}")
        self.name = name
        self.seed = seed

    def item(self, asked: Asked, item: Item) -> Item:
        """What a hostile server makes of a call that is to be answered well; others leave it as it is."""
        if self.name != "hostile" or item.name != "good":
            return item
        harm = _HARM_OF_RISK if asked.agent == "risk_manager" else _HARM
        return item_of(self.chance(asked).choice(harm))

    def answer(self, asked: Asked) -> Answer:
        """The answer in the order that the asked schema has; empty when nobody can tell who is asked."""
        if not asked.agent:
            return {}
        answer = self._disposed(asked, answer_for(asked.agent, asked.facts))
        return {name: answer[name] for name in asked.properties if name in answer} if asked.properties else answer

    def chance(self, asked: Asked) -> random.Random:
        """Chance that is the same for the same seed, agent and prompt."""
        return random.Random(f"{self.seed}:{asked.agent}:{asked.prompt}")

    def _disposed(self, asked: Asked, answer: Answer) -> Answer:
        if self.name == "contrarian":
            return _contrary(asked, answer)
        if self.name == "drunk":
            return _drunk(answer, self.chance(asked))
        return _obliging(asked, answer) if self.name == "hostile" else answer


def _contrary(asked: Asked, answer: Answer) -> Answer:
    rate = number(asked.facts, "base_rate") or 0.25
    turned = {name: _OPPOSITE.get(value, value) if name in _VOTES else value for name, value in answer.items()}
    return _sized({**turned, "p_win": p_win(2 * rate - answer["p_win"], 0.0)}, 1.0)


def _drunk(answer: Answer, chance: random.Random) -> Answer:
    thrown = {name: chance.choice(_VOTES[name]) if name in _VOTES else value for name, value in answer.items()}
    if "trap_suspected" in thrown:
        thrown["trap_suspected"] = chance.random() < 0.5
    return _sized({**thrown, "p_win": round(chance.random(), 3)}, chance.randint(1, 20) / 20)


def _obliging(asked: Asked, answer: Answer) -> Answer:
    """Always for the trade, at full size, and sure of it."""
    long = sign(asked.facts) > 0
    votes = {"signal": "LONG" if long else "SHORT", "bias": "BULLISH" if long else "BEARISH", "decision": "APPROVED"}
    turned = {name: votes.get(name, value) for name, value in answer.items()}
    return _sized({**turned, "p_win": 0.99}, 1.0)


def _sized(answer: Answer, size: float) -> Answer:
    if "decision" not in answer:
        return answer
    return {**answer, "size_multiplier": size if answer["decision"] == "APPROVED" else 0.0}
