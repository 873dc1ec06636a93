"""What an answer of the exchange, or the lack of one, means for the caller: pure, and told in one line for a person.

A write is `Rejected` only for a return code on the reviewed list below, for which Bybit is known to have made
nothing; it is `Transient` when it surely was not executed, and done when things were already as asked. Everything
else has an unknown outcome, whatever the library calls it. A read that failed has had no effect: it is `Transient`
unless its code is on the list. No message carries the key, the secret or a signature; the texts of the codes about
keys are not passed on at all, since 10004 echoes the string that was signed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from trading.errors import ConclaveError, OutcomeUnknown, Rejected, Transient

OK: Final = 0
CLOCK_OFF: Final = 10002
TOO_MANY: Final = 10006
UNKNOWN_SYMBOL: Final = 10001
NO_SUCH_ORDER: Final = 110001
DUPLICATE_LINK_ID: Final = 110072
HTTP_FORBIDDEN: Final = 403

# Asked for what is already so: stop not modified, leverage, position mode, margin mode not modified.
ALREADY_SO: Final = frozenset({34040, 110043, 110025, 110026})

# About the key or the account. The exchange's text may echo what was signed: ours is told instead.
KEY_REFUSALS: Final[Mapping[int, str]] = {
    10003: "the key is not valid here: check BYBIT_KEY, and that it belongs to the chosen EXCHANGE",
    10004: "the signature is wrong: check BYBIT_SECRET",
    10005: "the key lacks a permission: it needs orders and positions of contracts",
    10007: "the key was not accepted: check BYBIT_KEY and BYBIT_SECRET",
    10008: "the account is banned: ask Bybit",
    10009: "this region is not served by Bybit",
    10010: "this IP address is not bound to the key: bind it on Bybit's site",
    10024: "Bybit's compliance rules forbid this: see the account on Bybit's site",
    10027: "trading is banned for this account: ask Bybit",
    10028: "only a unified account can do this: upgrade it on Bybit's site",
    10029: "the symbol is not on the key's white list",
    33004: "the key has expired: make a new one and put it into BYBIT_KEY and BYBIT_SECRET",
}

# Reviewed: with each of these no order was made and nothing was changed (facts: section 3.3, "create refused").
REFUSALS: Final = frozenset(
    {
        UNKNOWN_SYMBOL,  # a parameter is wrong; also an unknown symbol, a stop on the wrong side
        NO_SUCH_ORDER,
        DUPLICATE_LINK_ID,  # this request made none, because an earlier one did: `place` asks for it
        110003,  # price out of range
        *(110004, 110006, 110007, 110012, 110014, 110044, 110045, 110051, 110052, 110053),  # not enough money
        110008,  # the order has completed
        110009,  # too many stop orders
        110010,  # the order was cancelled
        110011,  # would liquidate at once
        110013,  # leverage not allowed
        110017,  # reduce-only and nothing to reduce
        *(110020, 110021),  # too many orders, open interest limit
        110023,  # the symbol is reduce-only
        *(110040, 110046),  # would liquidate
        *(110057, 110058, 110059, 110060, 110061),  # constraints of attached stops
        *(110063, 110066, 110074),  # settling, not tradable, not live
        110090,  # beyond the position limit
        *(110092, 110093),  # the trigger has been passed
        110094,  # below the least order value
        *(110120, 110121),  # price below or above the limit
    }
)

TEXT_LIMIT: Final = 200
_LONG_HEX = re.compile(r"[0-9a-fA-F]{32,}")


class Throttled(Transient):
    """Too many requests (10006); not executed. `reset_ms`: when the exchange takes more, if it said so."""

    def __init__(self, message: str, *, reset_ms: int | None) -> None:
        super().__init__(message)
        self.reset_ms = reset_ms


class ClockOff(Transient):
    """Our clock and the exchange's are too far apart (10002); not executed."""


class Barred(Transient):
    """Nothing was sent and for a while nothing will be: the exchange has banned this IP address, or we have ended."""


def of_code(
    code: int, text: str, *, write: bool, reset_ms: int | None = None, hide: Sequence[str] = ()
) -> ConclaveError | None:
    """The failure that a return code stands for; None when it is none, because things are as they were asked to be."""
    if code in ALREADY_SO:
        return None
    if code in KEY_REFUSALS:
        return Rejected(f"{KEY_REFUSALS[code]} (Bybit {code})", code=code)
    said = f"{one_line(text, hide=hide) or 'no reason given'} (Bybit {code})"
    if code == TOO_MANY:
        return Throttled(f"too many requests, not executed (Bybit {code})", reset_ms=reset_ms)
    if code == CLOCK_OFF:
        return ClockOff(f"this machine's clock is off: set it by NTP (Bybit {code})")
    if code in REFUSALS:
        return Rejected(said, code=code)
    return _unsure(said, write=write)


def of_status(status: int, *, write: bool) -> ConclaveError:
    """The failure that an HTTP status stands for. pybit calls an answer that is no JSON a 409."""
    if status == 409:
        return _unsure("the exchange's answer cannot be read: it may be under maintenance", write=write)
    return _unsure(f"the exchange answered with HTTP {status}", write=write)


def of_library(error: BaseException, *, write: bool) -> ConclaveError:
    """The failure of a request that broke on its way. Only the kind of error is told: its text may hold the request."""
    return _unsure(f"the exchange cannot be reached or broke off ({type(error).__name__})", write=write)


def result_of(envelope: object, *, write: bool) -> dict[str, Any] | ConclaveError:
    """The `result` of an answer that claims success; strict, since pybit takes any JSON without a code for one."""
    if isinstance(envelope, dict) and envelope.get("retCode") == OK and type(envelope["retCode"]) is int:
        result = envelope.get("result", {})
        if isinstance(result, dict):
            return result
    return _unsure("the exchange's answer is not what was expected", write=write)


def one_line(text: object, *, hide: Sequence[str] = ()) -> str:
    """A text of the exchange, fit for a person: one line, not long, without what must stay secret."""
    said = str(text)
    for secret in hide:
        if secret:
            said = said.replace(secret, "…")
    said = _LONG_HEX.sub("…", " ".join("".join(c if c.isprintable() else " " for c in said).split()))
    return said if len(said) <= TEXT_LIMIT else said[: TEXT_LIMIT - 1] + "…"


def _unsure(said: str, *, write: bool) -> ConclaveError:
    return OutcomeUnknown(said) if write else Transient(said)
