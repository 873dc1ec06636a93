"""A market upside down must turn every vote around: the test for a preferred direction, over any model.

`mirrored_facts` turns a packet as if its candles had been reflected about the last close and the other side had been
proposed: signed numbers change their sign, RSI is counted from 100 and %B from 1, what is above goes below, bullish
becomes bearish. What has no direction (volatility, volume, the account, the cost of funding to the proposed side)
stays. Turned twice, a packet is itself again.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from trading.council.packet import (
    DECIMALS,
    AccountInR,
    AnswerFacts,
    CandleFacts,
    Packet,
    ProposalFacts,
    QuantPacket,
    RiskPacket,
    StrategistPacket,
)
from trading.council.patterns import LAST, NAMES
from trading.council.prompting import PACKETS, packet_keys
from trading.council.questions import AgentModel, Panel, Prompt, Question
from trading.council.reading import read, schema_of
from trading.council.schemas import (
    Answer,
    Fact,
    Facts,
    QuantAnswer,
    Reply,
    RiskManagerAnswer,
    Status,
    StrategistAnswer,
)
from trading.council.twins import QuantTwin, RiskManagerTwin, StrategistTwin

_OPPOSITES: Final = (
    ("long", "short"),
    ("LONG", "SHORT"),
    ("BULLISH", "BEARISH"),
    ("HH", "LL"),
    ("HL", "LH"),
    ("HH_HL", "LH_LL"),
)
_WORDS: Final[Mapping[str, str]] = {one: other for pair in _OPPOSITES for one, other in (pair, pair[::-1])}
# Enums seen from the proposed side (`macro_trend`) have none of these words.
_SWAPPED_KEYS: Final = (
    ("_high_atr", "_low_atr"),
    ("_upper_wick_ratio", "_lower_wick_ratio"),
    ("support_atr", "resistance_atr"),
    ("hammer_", "shooting_star_"),
    ("bullish_", "bearish_"),
    ("waterfall", "parabolic"),
)
_SIGNED: Final = frozenset(
    {
        "rsi_slope",
        "ema_divergence_atr",
        "ema_divergence_slope",
        "trend_distance_atr",
        "return_1_atr",
        "return_3_atr",
        "return_12_atr",
        *(f"candle_{age}_{price}_atr" for age in range(LAST) for price in ("open", "high", "low", "close")),
        *(f"candle_{age}_body_ratio" for age in range(LAST)),
    }
)
_MIDDLES: Final[Mapping[str, float]] = {"rsi": 100.0, "percent_b": 1.0}  # counted from the other end


def mirrored_facts(facts: Facts) -> Facts:
    """The facts of the same market upside down, in the same order; its own inverse."""
    return {key: _turned(key, facts[_partner(key)]) for key in facts}


def mirrored_packet(packet: Packet) -> Packet:
    """The packet of the same market upside down, with the other side proposed."""
    return packet_from_facts(agent_of(packet), mirrored_facts(packet.facts()))


def agent_of(packet: Packet) -> str:
    """Whose packet it is."""
    return next(agent for agent, kind in PACKETS.items() if isinstance(packet, kind))


def _partner(key: str) -> str:
    """Where the mirrored value of a key comes from."""
    for one, other in _SWAPPED_KEYS:
        if one in key:
            return key.replace(one, other)
        if other in key:
            return key.replace(other, one)
    return key


def _turned(key: str, value: Fact) -> Fact:
    if isinstance(value, str):
        return _WORDS.get(value, value)
    if value is None or isinstance(value, bool):
        return value
    if key in _MIDDLES:
        return round(_MIDDLES[key] - value, DECIMALS)
    return -value + 0.0 if key in _SIGNED else value  # no negative zero


def packet_from_facts(agent: str, facts: Facts) -> Packet:
    """The packet whose `facts()` these are. `ValueError` when a key is missing or unknown, or a word is none of its."""
    if set(facts) != set(packet_keys(agent)):
        wrong = ", ".join(sorted(set(facts) ^ set(packet_keys(agent))))
        raise ValueError(f"not a packet of the {agent}: {wrong}")
    proposal = ProposalFacts(**_fields(ProposalFacts, facts))
    if agent == "quant":
        return QuantPacket(proposal=proposal, **_fields(QuantPacket, facts))
    if agent == "strategist":
        return StrategistPacket(
            proposal=proposal,
            candles=tuple(_candle(facts, age) for age in range(LAST)),
            patterns={name: _age(facts[f"{name}_bars_ago"]) for name in NAMES},
            swings=tuple(_word(facts[f"swing_{age}"]) for age in range(4)),
            **_fields(StrategistPacket, facts),
        )
    return RiskPacket(
        proposal=proposal,
        answers=AnswerFacts(**_fields(AnswerFacts, facts)),
        account=AccountInR(**_fields(AccountInR, facts)),
        **_fields(RiskPacket, facts),
    )


def _fields(part: type[Any], facts: Facts) -> dict[str, Any]:
    """The flat fields of a part of a packet, words as the enums that they are."""
    hints = typing.get_type_hints(part)
    flat = [spec.name for spec in dataclasses.fields(part) if spec.name in facts]
    return {name: _member(hints[name], facts[name]) for name in flat}


def _member(hint: Any, value: Fact) -> Any:
    if not isinstance(value, str):
        return value
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    enums = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum)]
    if not enums:
        raise ValueError(f"{value!r} is no number")
    return enums[0](value)


def _candle(facts: Facts, age: int) -> CandleFacts:
    names = [spec.name for spec in dataclasses.fields(CandleFacts)]
    return CandleFacts(**{name: _number(facts[f"candle_{age}_{name}"]) for name in names})


def _number(value: Fact) -> float | None:
    if isinstance(value, str | bool):
        raise ValueError(f"{value!r} is no number")
    return value


def _age(value: Fact) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise ValueError(f"{value!r} is no number of bars")
    return value


def _word(value: Fact) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{value!r} is no word")
    return value


Ask = Callable[[str, Packet], Awaitable[Reply[Any]]]
"""Asks the agent of that name about a packet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unturned:
    """A vote that did not turn: what was said of the packet, and of its mirror image."""

    agent: str
    packet: Packet
    said: str
    mirrored: str
    wanted: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorReport:
    """`asked` packets, of which `turned` gave exactly the opposite vote upside down.

    `unanswered` are sentences, one for each packet that had no answer one way or the other. `p_win_drift` is the mean
    difference of the stated probabilities, which should be none; None when nothing was answered.
    """

    asked: int
    turned: int
    unturned: tuple[Unturned, ...]
    unanswered: tuple[str, ...]
    p_win_drift: float | None

    @property
    def clean(self) -> bool:
        """Every packet was answered and every vote turned."""
        return self.asked == self.turned > 0


async def mirror_votes(ask: Ask, packets: Iterable[Packet]) -> MirrorReport:
    """Ask about each packet and about its mirror image, one after the other, and compare the votes.

    The vote is the Quant's signal, the Strategist's bias, the Risk Manager's decision with its size: the first two
    must be the opposite one (NEUTRAL and CHOPPY their own), the last one the same.
    """
    pairs = [(packet, await _both(ask, packet)) for packet in packets]
    unanswered = [words for packet, replies in pairs if (words := _unanswered(packet, *replies))]
    unturned = [stuck for packet, replies in pairs if (stuck := _unturned(packet, *replies))]
    drifts = [abs(a.answer.p_win - b.answer.p_win) for _, (a, b) in pairs if a.answer and b.answer]
    return MirrorReport(
        asked=len(pairs),
        turned=len(pairs) - len(unanswered) - len(unturned),
        unturned=tuple(unturned),
        unanswered=tuple(unanswered),
        p_win_drift=sum(drifts) / len(drifts) if drifts else None,
    )


async def _both(ask: Ask, packet: Packet) -> tuple[Reply[Any], Reply[Any]]:
    agent = agent_of(packet)
    return await ask(agent, packet), await ask(agent, mirrored_packet(packet))


def _unanswered(packet: Packet, plain: Reply[Any], image: Reply[Any]) -> str:
    """Who did not answer and why; empty when both answers are there."""
    failed = [reply for reply in (plain, image) if reply.answer is None]
    return f"{agent_of(packet)}: {failed[0].status}, {failed[0].problem or 'no reason given'}" if failed else ""


def _unturned(packet: Packet, plain: Reply[Any], image: Reply[Any]) -> Unturned | None:
    if plain.answer is None or image.answer is None:
        return None
    mirrored, wanted = vote_of(image.answer), turned_vote(plain.answer)
    if mirrored == wanted:
        return None
    said = vote_of(plain.answer)
    return Unturned(agent=agent_of(packet), packet=packet, said=said, mirrored=mirrored, wanted=wanted)


def vote_of(answer: Answer) -> str:
    """What an agent says of the trade, in a word; with its size for the Risk Manager."""
    match answer:
        case QuantAnswer():
            return str(answer.signal)
        case StrategistAnswer():
            return str(answer.bias)
        case RiskManagerAnswer():
            return f"{answer.decision} {answer.size_multiplier:g}"
    raise TypeError(f"{type(answer).__name__} is no vote")


def turned_vote(answer: Answer) -> str:
    """What the same agent has to say of the mirror image."""
    vote = vote_of(answer)
    return _WORDS.get(vote, vote)


async def ask_twins(agent: str, packet: Packet) -> Reply[Any]:
    """The rules twins, for `mirror_votes`."""
    match packet:
        case QuantPacket():
            return QuantTwin().answer(packet)
        case StrategistPacket():
            return StrategistTwin().answer(packet)
        case RiskPacket():
            return RiskManagerTwin().answer(packet)
    raise TypeError(f"the {agent} has no such packet: {type(packet).__name__}")


def ask_panel(panel: Panel, models: Mapping[str, AgentModel], prompts: Mapping[str, Prompt], seconds: float) -> Ask:
    """Any panel of models, for `mirror_votes`; `seconds` for each question."""

    async def ask(agent: str, packet: Packet) -> Reply[Any]:
        facts = packet.facts()
        question = Question(
            model=models[agent], prompt=prompts[agent], schema=schema_of(agent), packet=packet.json(), facts=facts
        )
        outcome = await panel.ask(question, seconds)
        if outcome.status is not Status.OK:
            return Reply(status=outcome.status, problem=outcome.problem)
        found = read(agent, outcome.text, facts)
        if found.answer is None:
            return Reply(status=Status.INVALID, problem="; ".join(found.problems))
        return Reply(status=Status.OK, answer=found.answer)

    return ask
