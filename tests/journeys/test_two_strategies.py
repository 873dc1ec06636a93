"""Two symbols, two strategies, one account: `run` through the wire and the chat gives the trades of `replay`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.journeys.program import Place
from tests.journeys.test_candles_through_chat import LIVELY, both, lay_out, replayed, run, the_object, told_once
from tests.structure import ROOT

OWN = {
    "name": "mean_reversion",
    "bb_period": 10,
    "bb_std": 1.0,
    "adx_period": 5,
    "adx_max": 60.0,
    "atr_period": 5,
    "sl_atr_multiplier": 1.5,
    "knife_lookback": 5,
}


def lay_out_configuration(folder: Path) -> None:
    """The program's own configuration, with a lively trend strategy and another one for ETHUSDT."""
    whole = json.loads((ROOT / "config.json").read_text(encoding="utf-8"))
    whole["strategies"] = {"ETHUSDT": OWN}
    for name, value in LIVELY.items():
        group = next(each for each in ("strategy", "entry", "risk") if name in whole[each])
        whole[group][name] = value
    (folder / "config.json").write_text(json.dumps(whole), encoding="utf-8")


@pytest.mark.parametrize("council", ["off"])
def test_two_strategies_on_one_account(council: str, tmp_path: Path) -> None:
    """The live path's rolling windows and the replay's whole series: each symbol under its own strategy."""
    place = Place(folder=tmp_path)
    lay_out_configuration(place.folder)
    one, other = lay_out(place, "one.csv"), lay_out(place, "other.csv.gz", seed=6, start=300.0)
    argv = ("--candles", f"BTCUSDT={one}", "--candles", f"ETHUSDT={other}", "--council", council)
    expected = replayed(place, *argv)
    assert (expected["params"]["ema_period"], expected["params"]["ETHUSDT.adx_max"]) == (20, 60.0)
    traded = {symbol: sum(t["symbol"] == symbol for t in expected["trades"]) for symbol in ("BTCUSDT", "ETHUSDT")}
    assert council == "rules" or min(traded.values()) > 15, traded
    assert the_object(run(place, *argv)) == expected
    shown, kept = both(place)
    assert len(kept.exits) == len(expected["trades"])
    assert kept.verdicts
    told_once(shown, kept)
