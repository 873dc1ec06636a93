"""Research in the chat: a question becomes work that tells how far it is, then a chart, a verdict and a workbook."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from bot.buttons import button as made
from bot.cards import Look
from bot.conversation import wall_clock
from bot.jobs import EVERY, PATIENCE
from bot.office import Building, Office
from bot.phone import DEFAULT_TOKEN
from bot.ports import Errand
from bot.scheduler import EveryWeek
from bot.settings import StrategyChoice, TradingConfig
from bot.studies import MOST_COMBINATIONS, USUAL_DAYS, Studies, usual_grid
from bot.telegram import Redaction
from bot.text import CAPTION_LIMIT, plain
from bot.views.research import (
    Working,
    apply_card,
    compare_view,
    failed_view,
    finding_view,
    finished_view,
    params_view,
    progress_view,
    proposal_view,
    quiet_view,
    rollback_card,
    runs_view,
)
from bot.vitals import LogRing
from storage.database import open_database
from storage.journal import SqlJournal
from tests.bot.laboratory import CHART, ENDED, SmallLaboratory, a_finding, an_effect
from tests.bot.phone.driver import Json
from tests.bot.stage import (
    ALLOWED,
    NOON,
    OPERATOR,
    OWNER,
    VIEWER,
    Reader,
    RealClock,
    SmallAdviser,
    SmallGrader,
    SmallPainter,
    SmallPrices,
    SmallTrader,
    Stage,
    a_status,
    running_phone,
    small_modes,
    staged,
)
from tests.bot.test_steer import button, pressed, said
from tests.bot.test_views import NASTY, WORDS, accepted
from trading.errors import BadInput, Transient
from trading.events import ChangeSettings, SettingsChanged
from trading.laboratory import CouncilEffect, Finding, Found, Progress, Study, Verdict
from trading.strategy import strategies

LOOK = Look(badge="PAPER")
CONFIG = TradingConfig()


class HandClock(RealClock):
    """Time passes when a test says so; whoever sleeps wakes up then."""

    def __init__(self) -> None:
        self.time = 0.0
        self.sleeping: list[tuple[float, asyncio.Event]] = []
        self.changed = asyncio.Condition()

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        awake = asyncio.Event()
        self.sleeping.append((self.time + seconds, awake))
        async with self.changed:
            self.changed.notify_all()
        await awake.wait()

    async def asleep(self, count: int = 1) -> None:
        """Returns once so many wait for time to pass."""
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(lambda: len(self.sleeping) >= count)

    async def advance(self, seconds: float) -> None:
        """Let time pass for everybody who waits for it by then."""
        self.time += seconds
        due = [awake for at, awake in self.sleeping if at <= self.time]
        self.sleeping = [(at, awake) for at, awake in self.sleeping if at > self.time]
        for awake in due:
            awake.set()


def the_studies(settings: dict[str, float] | None = None, config: TradingConfig = CONFIG, **status: Any) -> Studies:
    return Studies(config, lambda: settings or {}, lambda: a_status(**({"symbols": ("BTCUSDT", "ETHUSDT")} | status)))


async def photo_of(reader: Reader, asked: int) -> Json:
    """The answer to a message once it is a picture."""
    found: Json = await reader.until(
        lambda shown: next((each for each in shown if each["reply_to"] == asked and each["photo"]), None)
    )
    return found


async def workbook_of(reader: Reader, photo: Json) -> Json:
    found: Json = await reader.until(
        lambda shown: next((each for each in shown if each["reply_to"] == photo["message_id"]), None)
    )
    return found


async def reads(reader: Reader, message_id: int, words: str) -> Json:
    """A message once it holds the words."""

    def wanted(shown: list[Json]) -> Json | None:
        each = next((each for each in shown if each["message_id"] == message_id), None)
        return each if each is not None and words in (each["text"] or each["caption"] or "") else None

    found: Json = await reader.until(wanted)
    return found


def labels(message: Json) -> list[str]:
    return [each["text"] for row in message["buttons"] for each in row]


# What is asked


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", ("BTCUSDT", 240, USUAL_DAYS)),
        ("BTC 15 365", ("BTCUSDT", 15, 365)),
        ("365 15 btc", ("BTCUSDT", 15, 365)),
        ("eth 4h 2y", ("ETHUSDT", 240, 730)),
        ("2y ETHUSDT 1h", ("ETHUSDT", 60, 730)),
        ("30", ("BTCUSDT", 30, USUAL_DAYS)),
        ("400", ("BTCUSDT", 240, 400)),
        ("30d", ("BTCUSDT", 240, 30)),
        ("1d 2y", ("BTCUSDT", 1440, 730)),
        ("15m all", ("BTCUSDT", 15, None)),
        ("interval=1h days=90 symbol=eth", ("ETHUSDT", 60, 90)),
        ("6mo 30", ("BTCUSDT", 30, 180)),
    ],
)
def test_words_in_any_order_make_a_study(words: str, expected: tuple[str, int, int | None]) -> None:
    """What is not named is what trades now."""
    study = the_studies({"adx_min": 22.0}).asked("backtest", words.split())
    assert (study.symbol, study.interval, study.days) == expected
    assert study.values == {**CONFIG.params(study.symbol), "adx_min": 22.0}
    assert (study.strategy, study.grid, study.folds) == ("ema_trend", (), 0)


def test_named_values_lie_over_those_that_trade() -> None:
    """Of strategy, rules, account and instrument; whole numbers stay whole."""
    study = the_studies().asked("backtest", ["adx_min=25", "ema_period=100", "leverage=3", "tick_size=0.5"])
    changed = {name: value for name, value in study.values.items() if value != CONFIG.params("BTCUSDT")[name]}
    assert changed == {"adx_min": 25.0, "ema_period": 100, "leverage": 3.0, "tick_size": 0.5}
    assert repr(study.values["ema_period"]) == "100"


def test_lists_and_ranges_make_a_grid_and_single_values_do_not() -> None:
    """Exact decimal steps, the end included; folds and the objective are words like any other."""
    words = "adx_min=15:30:5 ema_period=100,150 bb_std=1.8:2.2:0.1 rsi_period=10 objective=calmar folds=6"
    study = the_studies().asked("walkforward", words.split())
    assert dict(study.grid) == {
        "adx_min": (15.0, 20.0, 25.0, 30.0),
        "ema_period": (100, 150),
        "bb_std": (1.8, 1.9, 2.0, 2.1, 2.2),
    }
    assert (study.values["rsi_period"], study.objective, study.folds) == (10, "calmar", 6)
    assert study.combinations == 40


def test_a_search_without_a_grid_looks_around_what_trades() -> None:
    """Every axis holds the value that trades; it works for every strategy there is."""
    study = the_studies({"ema_period": 120.0}).asked("optimize", [])
    assert 100 <= study.combinations <= 200
    for name, values in study.grid:
        assert study.values[name] in values
    for name, kind in strategies().items():
        grid = usual_grid(name, kind.parameters().as_dict())
        assert len(grid) == 3
        for axis, values in grid:
            for value in values:
                kind.parameters(**{axis: value})


def test_another_strategy_begins_with_its_own_defaults() -> None:
    """Money and trade rules are those that trade."""
    for name, kind in strategies().items():
        study = the_studies({"risk_per_trade": 0.02}).asked("backtest", [f"strategy={name}"])
        assert study.strategy == name
        assert study.values["risk_per_trade"] == 0.02
        assert {key: study.values[key] for key in kind.parameters.names()} == kind.parameters().as_dict()
        assert the_studies().asked("backtest", [name]).strategy == name


@pytest.mark.parametrize(
    ("kind", "words", "refusal"),
    [
        ("backtest", "BTX", "did you mean BTC?"),
        ("backtest", "7m", "no bar length: one of 1m"),
        ("backtest", "15m 1h", "two bar lengths"),
        ("backtest", "90d 2y", "two spans"),
        ("backtest", "99y", "no span: from 1 to"),
        ("backtest", "BTC ETH", "two market names"),
        ("backtest", "adx_mn=25", "did you mean adx_min?"),
        ("backtest", "adx_min=x", "needs a number, like adx_min=20"),
        ("backtest", "adx_min=", "write name=value"),
        ("backtest", "adx_min=,", "needs a number"),
        ("backtest", "adx_min=1 adx_min=2", "given twice"),
        ("backtest", "adx_min=20,25", "/optimize adx_min=20,25 tries them all"),
        ("backtest", "ema_period=0", "ema_period must be"),
        ("backtest", "ema_period=10.5", "whole number"),
        ("backtest", "risk_per_trade=5", "fraction of 1"),
        ("backtest", "strategy=ema_trnd", "did you mean ema_trend?"),
        ("backtest", "folds=5", "/walkforward folds=5"),
        ("backtest", "council=ruls", "council is one of off, rules (did you mean rules?)"),
        ("backtest", "council=strict", "models are not asked about the past"),
        ("backtest", "counsil=rules", "did you mean council?"),
        ("backtest", "council", "did you mean COUNCIL=RULES?"),
        ("backtest", "council=rules council=off", "two council names"),
        ("optimize", "council=rules", "/optimize has no council: /backtest council=rules tries what it finds"),
        ("walkforward", "council=rules", "/walkforward has no council"),
        ("walkforward", "folds=1", "from 2 to"),
        ("optimize", "objective=sharp", "did you mean sharpe?"),
        ("optimize", "adx_min=30:10:5", "no value"),
        ("optimize", "adx_min=1:2", "start:stop:step"),
        ("optimize", "adx_min=1:2:0", "no value"),
        ("optimize", "adx_min=1:900:1 rsi_period=2:900:1 bb_std=1,2,3", f"takes {MOST_COMBINATIONS:,}"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_what_to_write(kind: Any, words: str, refusal: str) -> None:
    """Names the word and never the whole message."""
    with pytest.raises(BadInput) as refused:
        the_studies().asked(kind, words.split())
    assert refusal in str(refused.value)
    assert "\n" not in str(refused.value)


@given(st.lists(WORDS | st.sampled_from(("adx_min=", "=", "1e9", "a=1:2:3", "9" * 30)), max_size=6))
def test_whatever_is_written_is_a_study_or_a_refusal(words: list[str]) -> None:
    """Nothing else ever comes out."""
    with contextlib.suppress(BadInput):
        assert the_studies().asked("optimize", words).combinations <= MOST_COMBINATIONS


def test_a_run_is_a_base_for_the_next_study() -> None:
    """Its symbol, bars, values and grid, but for what is named."""
    studies = the_studies()
    base = studies.asked("optimize", ["eth", "1h", "2y", "adx_min=20,25", "rsi_period=10"])
    again = studies.asked("optimize", [], base)
    assert again == base
    forward = studies.asked("walkforward", ["90d"], base)
    assert (forward.symbol, forward.interval, forward.days, forward.grid) == ("ETHUSDT", 60, 90, base.grid)
    assert forward.folds > 0
    plain_one = studies.asked("backtest", ["adx_min=30"], base)
    assert (plain_one.grid, plain_one.values["adx_min"], plain_one.values["rsi_period"]) == ((), 30.0, 10)


def test_a_backtest_has_a_council_when_it_is_asked_for() -> None:
    """Under the limits as they are now; a run that had one is the same question again, and a search has none."""
    studies = the_studies({"losing_streak": 6, "adx_min": 22.0})
    off = studies.asked("backtest", ["btc", "15m"])
    assert (off.council, off.limits) == ("off", {})
    assert studies.asked("backtest", ["btc", "15m", "council=off"]) == off
    study = studies.asked("backtest", ["council=RULES", "15m", "btc"])
    assert (study.council, study.values, study.grid) == ("rules", off.values, ())
    assert study.limits == {**CONFIG.limits.as_dict(), "losing_streak": 6}
    later = the_studies({"losing_streak": 2})
    assert later.asked("backtest", [], study) == study
    assert later.asked("backtest", ["council=off"], study).council == "off"
    assert later.asked("walkforward", [], study).council == "off"
    assert later.asked("backtest", ["council=rules"], off).limits["losing_streak"] == 2


def test_what_a_run_proposes_is_strategy_rules_and_what_was_searched() -> None:
    """Money terms that were assumed are left alone, what cannot be set is named, another strategy proposes nothing."""
    studies = the_studies({"risk_per_trade": 0.005})
    study = studies.asked("optimize", ["adx_min=20,25", "leverage=2,3", "risk_per_trade=0.02", "rsi_period=10"])
    finding = a_finding(study, chosen={"adx_min": 25.0, "leverage": 3.0})
    assert studies.proposed(finding) == {"adx_min": 25.0, "rsi_period": 10}
    assert studies.fixed(finding) == {"leverage": 3.0}
    assert studies.proposed(a_finding(studies.asked("backtest", []))) == {}
    assert studies.proposed(a_finding(dataclasses.replace(study, strategy="another"))) == {}


def test_a_market_with_a_strategy_of_its_own_is_studied_by_it() -> None:
    """And what a run of it proposes is that market's alone."""
    other = next(name for name in strategies() if name != "ema_trend")
    config = dataclasses.replace(
        CONFIG, symbols=("BTCUSDT", "ETHUSDT"), strategies={"ETHUSDT": StrategyChoice().renamed(other)}
    )
    studies = the_studies(config=config)
    assert [studies.asked("backtest", [coin]).strategy for coin in ("btc", "eth")] == ["ema_trend", other]
    name, values = studies.asked("optimize", ["eth"]).grid[0]
    best = a_finding(studies.asked("optimize", ["eth"]), chosen={name: values[0], "trail_lag_r": 0.5})
    assert studies.proposed(best) == {f"ETHUSDT.{name}": values[0], "trail_lag_r": 0.5}
    assert studies.proposed(a_finding(studies.asked("backtest", ["eth", "ema_trend"]))) == {}


# The whole way, on the phone


async def test_a_backtest_ends_as_a_picture_with_its_workbook_as_reply(tmp_path: Path) -> None:
    """In one message from the first progress to the verdict: the message that was edited is the picture."""
    clock, lab = HandClock(), SmallLaboratory(held=True)
    async with staged(tmp_path, laboratory=lab, work_clock=clock) as stage:
        asked = await stage.owner.say("/backtest BTC 15 365 adx_min=25")
        work = await lab.begun()
        await clock.asleep()
        await clock.advance(PATIENCE)
        first = await stage.owner.reply_to(asked)
        assert first["text"].startswith("PAPER Backtest  BTCUSDT 15m  365d")
        assert labels(first) == ["Cancel"]
        await clock.asleep()
        work.tell(Progress(stage="simulating", done=17_520, total=35_040, rate=2000.0, remaining=9.0))
        await clock.advance(EVERY)
        half = await reads(stage.owner, first["message_id"], "50%")
        assert "simulating: 17,520 of 35,040" in half["text"]
        assert "4s so far, about 9s left, 2,000/s" in half["text"]
        work.go.set()
        photo = await photo_of(stage.owner, asked)
        assert photo["message_id"] == first["message_id"]
        lines = photo["caption"].split("\n")
        assert lines[0] == "PAPER Backtest #88  BTCUSDT 15m  365d on made-up prices"
        assert lines[1] == "NOT PROVEN: 41 trades (<100), out-of-sample Sharpe 0.3"
        book = await workbook_of(stage.owner, photo)
        assert book["document_name"] == "run-88.xlsx"
        assert labels(photo) == ["Apply…", "Walk-forward", "Again"]
        assert work.study.values["adx_min"] == 25.0
        assert stage.jobs.under_way() == []
        await stage.conversation.drain()
        assert len(await stage.owner.look()) == 2
        assert stage.trader.asked == []


async def test_a_backtest_with_a_council_shows_both_results(tmp_path: Path) -> None:
    """In the caption, in the list, and on the card that would take it over."""
    async with staged(tmp_path) as stage:
        photo = await photo_of(stage.owner, await stage.owner.say("/backtest BTC 15 365 council=rules adx_min=25"))
        lines = photo["caption"].split("\n")
        assert lines[0] == "PAPER Backtest #88  BTCUSDT 15m  365d  council=rules on made-up prices"
        assert lines[3].startswith("With the rules council ")
        assert lines[3].endswith(", DD -7.9%, 41 trades")
        assert lines[4] == "Without -13.0%, DD -17.0%, 88 trades"
        assert lines[5] == "Of 101 candidates 48 vetoed, 9 shrunk, 12 stopped by guards"
        listed = (await said(stage.owner, "/backtests"))["text"]
        assert "88 c BTC" in listed
        assert "c the same with a council" in listed
        card = (await said(stage.owner, "/apply 88"))["text"]
        assert "Found with the rules council; /apply leaves /mode as it is." in card
        assert "In the run: net" in card  # what trades now was not tried with a council
        await photo_of(stage.owner, await stage.owner.say("/backtest BTC 4h council=rules"))
        await photo_of(stage.owner, await stage.owner.say("/backtest BTC 4h council=rules adx_min=25"))
        assert "What trades now: net" in (await said(stage.owner, "/apply 90"))["text"]


async def test_work_that_was_begun_once_is_not_begun_again(tmp_path: Path) -> None:
    """The command may come again after a crash: its update is the work's name."""
    lab = SmallLaboratory(held=True)
    async with staged(tmp_path, laboratory=lab, start=False) as stage:
        for _ in range(2):
            await stage.jobs.begin("update:1", the_studies().asked("backtest", []), an_errand())
            (work,) = stage.jobs.under_way()
            assert (work.nonce, work.before, work.by) == ("update:1", 0, "owner 1")
        await lab.begun()
        assert len(lab.works) == 1
        await stage.jobs.stop()
        assert lab.works[0].ended == "cancelled"


async def test_a_known_answer_comes_as_a_picture_at_once(tmp_path: Path) -> None:
    """No progress, and it does not wait behind what is being done."""
    lab = SmallLaboratory()
    async with staged(tmp_path, laboratory=lab) as stage:
        await photo_of(stage.owner, await stage.owner.say("/backtest"))
        lab.held = True
        await stage.owner.say("/optimize")
        await lab.begun(2)
        photo = await photo_of(stage.owner, await stage.owner.say("/backtest"))
        assert "(cached)" in photo["caption"]
        assert photo["edit_date"] is None


async def test_a_message_is_edited_at_most_every_three_seconds_and_only_when_it_differs(tmp_path: Path) -> None:
    """However often the work tells of itself."""
    clock, lab = HandClock(), SmallLaboratory(held=True)
    async with staged(tmp_path, laboratory=lab, work_clock=clock, start=False) as stage:
        shown: list[tuple[float, str]] = []
        await stage.jobs.begin("n", the_studies().asked("optimize", []), an_errand())
        work = await lab.begun()

        async def noted() -> None:
            waiting = await stage.outbox.next()
            assert waiting is not None
            shown.append((clock.time, waiting.text))
            await stage.outbox.sent(waiting.id, 7, waiting.revision)

        await clock.asleep()
        for tenth in range(200):
            work.tell(Progress(stage="searching", done=tenth, total=200))
            await clock.advance(0.1)
            await clock.asleep()
            if await stage.outbox.pending():
                await noted()
        moments = [at for at, _ in shown]
        assert moments[0] == pytest.approx(PATIENCE, abs=0.11)
        assert all(later - earlier >= EVERY - 1e-6 for earlier, later in pairwise(moments))
        assert len(shown) >= 6
        assert len({text for _, text in shown}) == len(shown)
        assert "125 sets: ema_period 100, 150, 200, 250, 300" in shown[0][1]
        await stage.jobs.stop()


def an_errand() -> Errand:
    return Errand(key="k", chat_id=OWNER, reply_to=None, by="owner 1")


async def test_the_second_waits_and_says_so_and_neither_blocks_a_command(tmp_path: Path) -> None:
    """One study at a time; the list shows both, and anybody who may start one may end one from there."""
    clock, lab = HandClock(), SmallLaboratory(held=True)
    async with staged(tmp_path, laboratory=lab, work_clock=clock) as stage:
        one = await stage.owner.say("/backtest")
        await lab.begun()
        two = await stage.owner.say("/optimize")
        await clock.asleep(2)
        await clock.advance(PATIENCE)
        assert "starting" in (await stage.owner.reply_to(one))["text"]
        assert "waiting: 1 before this one" in (await stage.owner.reply_to(two))["text"]
        assert "0 open" in (await said(stage.owner, "/status"))["text"]
        operator = stage.others(OPERATOR)
        listed = await said(operator, "/backtests")
        assert "2 under way" in listed["text"]
        assert labels(listed) == ["Cancel backtest BTC", "Cancel optimisation BTC"]
        assert not labels(await said(stage.others(VIEWER), "/backtests"))
        await operator.human.tap(listed["message_id"], listed["buttons"][0][0]["data"], user_id=OPERATOR)
        ended = await reads(stage.owner, (await stage.owner.reply_to(one))["message_id"], "CANCELLED")
        assert "CANCELLED by operator 2" in ended["text"]
        assert labels(ended) == ["Start again"]
        assert "Cancelled" in (await operator.message("Cancelled"))["text"]
        work = await lab.begun(2)
        assert lab.works[0].ended == "cancelled"
        work.go.set()
        assert "Optimisation #88" in (await photo_of(stage.owner, two))["caption"]


async def test_cancel_ends_the_work_and_starts_again_by_a_button(tmp_path: Path) -> None:
    """Its own message says who; a second tap finds nothing."""
    clock, lab = HandClock(), SmallLaboratory(held=True)
    async with staged(tmp_path, laboratory=lab, work_clock=clock) as stage:
        asked = await stage.owner.say("/backtest eth")
        await lab.begun()
        await clock.asleep()
        await clock.advance(PATIENCE)
        shown = await stage.owner.reply_to(asked)
        listed = await said(stage.owner, "/backtests")
        ended = await pressed(stage, stage.owner, shown, button(shown, "Cancel"))
        assert "CANCELLED by owner 1 after 1s" in ended["text"]
        assert lab.works[0].ended == "cancelled"
        await stage.owner.human.tap(listed["message_id"], button(listed, "Cancel"))
        assert "over already" in (await stage.owner.message("over already"))["text"]
        lab.held = False
        await stage.owner.human.tap(shown["message_id"], button(ended, "Start again"))
        photo = await photo_of(stage.owner, shown["message_id"])
        assert "ETHUSDT" in photo["caption"]


async def test_what_a_restart_interrupted_says_so_and_can_be_started_again(tmp_path: Path) -> None:
    """In its own message, also when it had not shown one yet; a finished one is left alone."""
    async with running_phone() as phone:
        lab, clock = SmallLaboratory(), HandClock()
        async with staged(tmp_path, phone=phone, laboratory=lab, work_clock=clock) as stage:
            done = await photo_of(stage.owner, await stage.owner.say("/backtest eth"))
            lab.held = True
            asked = await stage.owner.say("/backtest")
            await lab.begun(2)
            await clock.asleep()
            await clock.advance(PATIENCE)
            shown = await stage.owner.reply_to(asked)
            early = await stage.owner.say("/backtest 15m")
            await clock.asleep(2)
        async with staged(tmp_path, phone=phone, laboratory=SmallLaboratory()) as stage:
            after = await reads(stage.owner, shown["message_id"], "INTERRUPTED by a restart")
            assert "INTERRUPTED" in (await stage.owner.reply_to(early))["text"]
            assert "Backtest #88" in (await reads(stage.owner, done["message_id"], "#88"))["caption"]
            await stage.owner.human.tap(shown["message_id"], button(after, "Start again"))
            assert "Backtest #88" in (await photo_of(stage.owner, shown["message_id"]))["caption"]
        async with staged(tmp_path, phone=phone, laboratory=SmallLaboratory()) as stage:
            await stage.owner.reply_to(await stage.owner.say("/status"))
            assert sum("INTERRUPTED" in (each["text"] or "") for each in await stage.owner.look()) == 2


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BadInput("there are no candles of BTCUSDT: main.py fetch BTCUSDT <b>"), "no candles of BTCUSDT"),
        (Transient("4 studies wait already"), "This may pass"),
    ],
)
async def test_a_failure_ends_the_message_with_its_reason(tmp_path: Path, error: Any, words: str) -> None:
    """And offers to start it again."""
    lab = SmallLaboratory()
    lab.fails = error
    async with staged(tmp_path, laboratory=lab) as stage:
        shown = await said(stage.owner, "/backtest")
        assert "FAILED" in shown["text"]
        assert words in shown["text"]
        assert labels(shown) == ["Start again"]


async def test_an_optimisation_is_pushed_to_the_others_once(tmp_path: Path) -> None:
    """The one who asked has it already; a cached answer is no news; `off` is silence."""
    for push, expected in (("on", 1), ("off", 0)):
        look = Look(badge="PAPER", push={"optimisation": push})  # type: ignore[dict-item]
        folder = tmp_path / push
        folder.mkdir()
        async with staged(folder, laboratory=SmallLaboratory(), look=look) as stage:
            operator = stage.others(OPERATOR)
            for _ in range(2):
                await photo_of(stage.owner, await stage.owner.say("/optimize adx_min=20,25"))
            await stage.conversation.drain()
            news = [each["text"] for each in await operator.look()]
            assert len(news) == expected
            assert all(text.startswith("PAPER Optimisation #88") and "by owner 1 is done" in text for text in news)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("/backtest nonsense", "no market, bar length, span or name=value"),
        ("/backtest #7", "there is no run #7: /backtests lists"),
        ("/backtests", "No run yet"),
        ("/backtests 99", "takes a number from 1 to 30"),
        ("/compare", "takes two numbers of runs"),
        ("/compare 1 2", "there is no run 1"),
        ("/compare x 2", "there is no run x"),
        ("/apply", "takes the number of a run"),
        ("/apply 5", "there is no run 5"),
        ("/apply five", "there is no run five"),
        ("/rollback", "there is nothing to go back to"),
        ("/params", "ema_trend trades, nothing changed in the chat"),
    ],
)
async def test_what_cannot_be_is_answered_in_one_sentence(tmp_path: Path, text: str, answer: str) -> None:
    """Nothing is started, nothing is asked of the trader."""
    async with staged(tmp_path) as stage:
        assert answer in (await said(stage.owner, text))["text"]
        assert stage.trader.asked == []


async def test_a_viewer_looks_and_starts_nothing(tmp_path: Path) -> None:
    """Starting takes the machine's time: operators; taking over and going back: the owner."""
    async with staged(tmp_path) as stage:
        viewer, operator = stage.others(VIEWER), stage.others(OPERATOR)
        for text in ("/backtest", "/optimize", "/walkforward"):
            assert "for the operator" in (await said(viewer, text))["text"]
        for text in ("/apply 88", "/rollback"):
            assert "for the owner" in (await said(operator, text))["text"]
        assert "ema_trend" in (await said(viewer, "/params"))["text"]
        await photo_of(operator, await operator.say("/backtest"))
        assert "1 run" in (await said(viewer, "/backtests"))["text"]


# Taking over a run, and going back


async def test_a_run_is_taken_over_by_the_owners_tap_and_taken_back_by_another(tmp_path: Path) -> None:
    """The card says the verdict first, then old → new and the effect; the journal knows from which run."""
    async with staged(tmp_path) as stage:
        await photo_of(stage.owner, await stage.owner.say("/backtest 4h"))
        await photo_of(stage.owner, await stage.owner.say("/backtest 15m adx_min=25 rsi_period=10 leverage=2"))
        card = await said(stage.owner, "/apply 89")
        lines = card["text"].split("\n")
        assert lines[0] == "PAPER Apply #89? NOT PROVEN: 41 trades (<100), out-of-sample Sharpe 0.3"
        assert "adx_min: 20 → 25" in lines
        assert "rsi_period: 14 → 10" in lines
        assert "leverage" not in card["text"]
        assert "In the run: net" in card["text"]
        assert "Found on bars of 15m; bars of 4h are traded" in card["text"]
        assert stage.trader.asked == []
        await pressed(stage, stage.owner, card, button(card, "Apply"))
        told = await stage.owner.message("SETTINGS CHANGED by owner 1 (run 89): ")
        assert "rsi_period 14 → 10" in told["text"]
        changed = await settings_of(stage)
        assert [(each.values, each.source) for each in changed] == [({"rsi_period": 10, "adx_min": 25.0}, "run 89")]
        shown = await said(stage.owner, "/params")
        assert "2 parameters changed in the chat" in shown["text"]
        assert "by owner 1, 21 Jul 12:00, run 89" in shown["text"]
        back = await said(stage.owner, "/rollback")
        assert back["text"].startswith("PAPER Back to before run #89?")
        assert "adx_min: 25 → 20" in back["text"]
        await pressed(stage, stage.owner, back, button(back, "Go back"))
        await stage.owner.message("(rollback 89)")
        assert [each.source for each in await settings_of(stage)] == ["run 89", "rollback 89"]
        assert "nothing to go back to" in (await said(stage.owner, "/rollback"))["text"]
        assert [type(each) for each in stage.trader.asked] == [ChangeSettings] * 2


async def settings_of(stage: Stage) -> list[SettingsChanged]:
    events = [each.event for each in await stage.journal.read(0)]
    return [each for each in events if isinstance(each, SettingsChanged)]


async def test_a_card_is_void_when_what_it_shows_has_changed(tmp_path: Path) -> None:
    """And the effect stands against a run of what trades on the same bars, where there is one."""
    async with staged(tmp_path) as stage:
        await photo_of(stage.owner, await stage.owner.say("/backtest"))
        await photo_of(stage.owner, await stage.owner.say("/optimize adx_min=25,30"))
        assert "that is what trades already" in (await said(stage.owner, "/apply 88"))["text"]
        card = await said(stage.owner, "/apply #89")
        assert "What trades now: net" in card["text"]
        assert "With the change: net" in card["text"]
        stage.trader.settings["adx_min"] = 22.0
        after = await pressed(stage, stage.owner, card, button(card, "Apply"))
        assert "Not done: adx_min has been changed since" in after["text"]
        assert stage.trader.asked == []


async def test_a_rollback_goes_back_step_by_step(tmp_path: Path) -> None:
    """Two runs taken over are taken back in turn; values that were set by hand since are shown as they are."""
    async with staged(tmp_path) as stage:
        for number, value in ((88, 25), (89, 30)):
            await photo_of(stage.owner, await stage.owner.say(f"/backtest adx_min={value}"))
            card = await said(stage.owner, f"/apply {number}")
            await pressed(stage, stage.owner, card, button(card, "Apply"))
            await stage.owner.message(f"(run {number})")
        for number, line in ((89, "adx_min: 30 → 25"), (88, "adx_min: 25 → 20")):
            card = await said(stage.owner, "/rollback")
            assert line in card["text"]
            await pressed(stage, stage.owner, card, button(card, "Go back"))
            await stage.owner.message(f"(rollback {number})")
        assert stage.trader.settings["adx_min"] == 20.0


async def test_two_runs_are_compared_and_a_result_leads_on(tmp_path: Path) -> None:
    """From the buttons under a picture: compare, walk-forward, again."""
    async with staged(tmp_path) as stage:
        await photo_of(stage.owner, await stage.owner.say("/backtest"))
        photo = await photo_of(stage.owner, await stage.owner.say("/optimize adx_min=20,25 ema_period=100,200"))
        assert "Best of 4 sets: adx_min" in photo["caption"]
        await stage.owner.human.tap(photo["message_id"], button(photo, "Compare with #88"))
        compared = await stage.owner.message("#89 against #88")
        assert "Sharpe" in compared["text"]
        await stage.owner.human.tap(photo["message_id"], button(photo, "Walk-forward"))
        forward = await stage.owner.message("Walk-forward #90")
        assert "5 folds of 4 sets, the last chose adx_min" in forward["caption"]
        await stage.owner.human.tap(photo["message_id"], button(photo, "Again"))
        known = await stage.owner.message("(cached)")
        assert "Optimisation #89" in known["caption"]
        assert "3 runs" in (await said(stage.owner, "/backtests"))["text"]


# Once a week


def test_a_week_has_one_sunday_in_every_zone() -> None:
    """Also where summer time begins or ends on it."""
    for zone in ("UTC", "Europe/Berlin", "America/Santiago", "Pacific/Kiritimati"):
        trigger, now, fired = EveryWeek(6, time(3), ZoneInfo(zone)), datetime(2026, 1, 1, tzinfo=UTC), None
        moments = []
        for _ in range(60):
            fired = trigger.get_next_fire_time(fired, now)
            moments.append(fired.astimezone(ZoneInfo(zone)))
        assert {each.weekday() for each in moments} == {6}
        gaps = {later.date() - earlier.date() for earlier, later in pairwise(moments)}
        assert gaps == {timedelta(days=7)}


class Knowing(SmallLaboratory):
    """Every search finds something better, every backtest is poor."""

    def _best(self, study: Study) -> Finding:
        found = super()._best(study)
        sharpe = 2.0 if study.kind == "optimize" else 0.1
        chosen = {"adx_min": 25.0} if study.kind == "optimize" else {}
        return dataclasses.replace(found, metrics={**found.metrics, "sharpe": sharpe}, chosen=chosen)


async def test_the_weekly_search_proposes_what_is_proven_and_never_applies(tmp_path: Path) -> None:
    """The diff with a button for the owner alone; the tap asks once more."""
    async with staged(tmp_path, laboratory=Knowing(word="PROVEN")) as stage:
        await stage.jobs.reoptimise()
        found = await stage.owner.until(lambda shown: next((each for each in shown if each["photo"]), None))
        lines = found["caption"].split("\n")
        assert lines[0] == "PAPER Weekly re-optimisation BTC: something better on made-up prices"
        assert lines[1].startswith("PROVEN: ")
        assert "adx_min: 20 → 25" in found["caption"]
        assert "What trades now: net" in found["caption"]
        theirs = await stage.others(OPERATOR).until(lambda shown: next((each for each in shown if each["photo"]), None))
        assert (labels(found), labels(theirs)) == (["Apply…", "Compare"], [])
        assert stage.trader.asked == []
        await stage.owner.human.tap(found["message_id"], button(found, "Apply"))
        assert "Apply #89? PROVEN" in (await stage.owner.message("Apply #89?"))["text"]
        assert stage.trader.asked == []


@pytest.mark.parametrize(
    ("laboratory", "words"),
    [(Knowing(word="NOT PROVEN"), "nothing better. #89"), (SmallLaboratory(word="LOSES"), "is LOSES")],
    ids=["not proven", "loses"],
)
async def test_a_weekly_search_without_a_better_one_is_one_quiet_line(
    tmp_path: Path, laboratory: SmallLaboratory, words: str
) -> None:
    """Once for a week, however often it runs."""
    async with staged(tmp_path, laboratory=laboratory) as stage:
        for _ in range(2):
            await stage.jobs.reoptimise()
            assert words in (await stage.owner.message("Weekly re-optimisation BTC"))["text"]
        await stage.conversation.drain()
        assert len(await stage.owner.look()) == 1


@pytest.mark.parametrize(("real_time", "made_up"), [(True, False), (True, True), (False, True), (False, False)])
async def test_a_week_is_only_searched_where_market_and_time_are_real(
    tmp_path: Path, real_time: bool, made_up: bool
) -> None:
    """The demo's market runs faster than the wall, and nothing can be learned from prices that somebody made up."""
    db = await open_database(tmp_path / "test.db")
    journal = SqlJournal(db, "test", clock=wall_clock)
    building = Building(
        database=db,
        file=None,
        folder=tmp_path,
        token=DEFAULT_TOKEN,
        api_url="http://127.0.0.1:9",
        paced=False,
        allowed=ALLOWED,
        painter=SmallPainter(),
        painter_state=lambda: (True, "ready"),
        laboratory=SmallLaboratory(),
        grader=SmallGrader(),
        log=LogRing(str),
        redact=Redaction([]),
        zone=UTC,
        wall=wall_clock,
    )
    office = Office(
        building,
        account="test",
        badge="PAPER",
        config=CONFIG,
        overlay=dict,
        journal=journal,
        trader=SmallTrader(journal),
        prices=SmallPrices(),
        laboratory=building.laboratory,
        clock=RealClock(),
        streams=list,
        council_modes=small_modes,
        advise=SmallAdviser(),
        fingerprint="f",
        real_time=real_time,
        real_money=False,
        made_up=made_up,
        illustrated=False,
    )
    names = [job.name for job in office.scheduler.jobs()]
    assert ("re-optimisation" in names) is (real_time and not made_up)
    await office.conversation.telegram.close()
    await db.close()


async def test_a_weekly_search_that_fails_says_so_and_one_that_is_off_does_nothing(tmp_path: Path) -> None:
    """The reason in the same quiet line."""
    lab = SmallLaboratory()
    lab.fails = BadInput("there are no candles")
    async with staged(tmp_path, laboratory=lab) as stage:
        await stage.jobs.reoptimise()
        assert "not done: there are no candles" in (await stage.owner.message("Weekly"))["text"]
    lab = SmallLaboratory()
    (tmp_path / "off").mkdir()
    look = Look(badge="PAPER", push={"optimisation": "off"})
    async with staged(tmp_path / "off", laboratory=lab, look=look) as stage:
        await stage.jobs.reoptimise()
        assert lab.works == []


# What is shown


def test_the_caption_is_the_specifications() -> None:
    """Badge first, the verdict before any figure; every figure as it is in the finding."""
    finding = a_finding(dataclasses.replace(the_studies().asked("backtest", ["15", "365"])), cached=True)
    assert plain(finding_view(88, finding, LOOK)).split("\n") == [
        "PAPER Backtest #88  BTCUSDT 15m  365d",
        "NOT PROVEN: 41 trades (<100), out-of-sample Sharpe 0.3",
        "Net +6.2% vs hold +18.4%   MaxDD -7.9%",
        "Fees+funding+slip -4.1%   PF 1.12  win 46%",
        "Sharpe 0.41, out-of-sample 0.30   41 trades, +0.05R each",
        "21 Jul 2025 to 21 Jul 2026, 35,040 bars",
        "cfg a91f.. data 7c02..  12.4s (cached)",
    ]


def test_an_account_that_its_limits_have_shut_says_so() -> None:
    """Since when, and by which; with one that never opened as well."""
    study = the_studies().asked("backtest", ["council=rules"])
    shut = an_effect(last_entry=ENDED, shut="drawdown is 20.1%")
    assert "\nNo entry since 21 Jul 2026: drawdown is 20.1%\n" in finding_view(1, a_finding(study, effect=shut), LOOK)
    never = an_effect(candidates=1, shut="ATR 4 & 5", metrics={})
    text = finding_view(1, a_finding(study, effect=never), LOOK)
    assert "Of 1 candidate 48 vetoed" in text
    assert "No entry at all: ATR 4 &amp; 5" in text
    assert "Without –, DD –, – trades" in text


def test_how_often_luck_was_tried_is_said() -> None:
    """Also of a single backtest, when a search has seen the same bars before."""
    studies = the_studies()
    backtest, search = studies.asked("backtest", []), studies.asked("optimize", ["adx_min=20,25"])
    assert "tried" not in finding_view(1, a_finding(backtest), LOOK)
    assert "1,250 sets tried on these bars in all" in finding_view(1, a_finding(backtest, trials=1250), LOOK)
    best = a_finding(search, trials=2, chosen={"adx_min": 25.0})
    assert "Best of 2 sets: adx_min 25\n" in finding_view(1, best, LOOK)
    assert "Searched adx_min 20, 25" in finding_view(1, best, LOOK)
    assert "1,250 sets tried" in finding_view(1, dataclasses.replace(best, trials=1250), LOOK)


def test_what_is_undefined_is_a_dash() -> None:
    """Never a zero, never `nan`."""
    nothing: dict[str, Any] = dict.fromkeys(("sharpe", "profit_factor", "win_rate", "expectancy_r", "max_drawdown"))
    study = dataclasses.replace(the_studies().asked("backtest", []), values={})
    finding = a_finding(study, metrics=nothing | {"trades": 0, "total_return": 0.0}, out_of_sample=None)
    text = plain(finding_view(1, finding, LOOK))
    assert "Net +0.0% vs hold +18.4%   MaxDD –" in text
    assert "Fees+funding+slip –   PF –  win –" in text
    assert "Sharpe –   0 trades, –R each" in text
    assert "nan" not in text.lower().replace("finance", "")


AXES = st.tuples(WORDS, st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=9).map(tuple))
HOSTILE_STUDY = st.builds(
    Study,
    kind=st.sampled_from(("backtest", "optimize", "walkforward")),
    symbol=WORDS,
    interval=st.integers(1, 10**6),
    days=st.none() | st.integers(1, 10**6),
    strategy=WORDS,
    values=st.dictionaries(WORDS, st.floats(allow_nan=False), max_size=20),
    grid=st.lists(AXES, max_size=9).map(tuple),
    folds=st.integers(0, 99),
    council=WORDS,
)
FLOATS = st.floats() | st.sampled_from((0.0, -0.0, 1e300, -1e300))
HOSTILE = st.builds(
    a_finding,
    HOSTILE_STUDY,
    verdict=st.builds(
        Verdict,
        word=st.sampled_from(("PROVEN", "NOT PROVEN", "LOSES")),
        reasons=st.lists(WORDS, min_size=1, max_size=9).map(tuple),
    ),
    metrics=st.dictionaries(
        st.sampled_from(("total_return", "sharpe", "profit_factor", "win_rate", "trades", "max_drawdown", "exposure")),
        st.none() | FLOATS,
    ),
    hold_return=FLOATS,
    fees=FLOATS,
    funding=FLOATS,
    slippage=FLOATS,
    out_of_sample=st.none() | FLOATS,
    trials=st.integers(0, 10**12),
    params_fingerprint=WORDS,
    data_fingerprint=WORDS,
    made_up=st.booleans(),
    seconds=st.floats(0, 1e9),
    chosen=st.dictionaries(WORDS, st.floats(-1e12, 1e12), max_size=9),
    effect=st.none()
    | st.builds(
        CouncilEffect,
        metrics=st.dictionaries(st.sampled_from(("total_return", "max_drawdown", "trades")), st.none() | FLOATS),
        candidates=st.integers(0, 10**9),
        guarded=st.integers(0, 10**9),
        vetoed=st.integers(0, 10**9),
        shrunk=st.integers(0, 10**9),
        last_entry=st.none() | st.integers(0, ENDED),
        shut=WORDS,
    ),
)
LOOKS = st.builds(Look, badge=WORDS)


@given(HOSTILE, HOSTILE, LOOKS, st.sampled_from(NASTY))
@hypothesis(max_examples=150)
def test_nothing_from_outside_breaks_a_message(finding: Finding, other: Finding, look: Look, words: str) -> None:
    """Every view as the phone takes it: markup that parses, captions that fit, no table wider than the screen."""
    found = Found(run=2**31, finding=finding, chart=CHART, workbook=b"", workbook_name=words)
    change = SettingsChanged(at=NOON, values={words: 1.0}, old={words: 2.0}, by=words, command="c", source=words)
    changes = {words: 1.5, "adx_min": 25.0}
    accepted(finding_view(2**31, finding, look), CAPTION_LIMIT)
    accepted(proposal_view(found, other, changes, look), CAPTION_LIMIT)
    far = Progress(stage=words, done=10**12, total=7, rate=1e12, remaining=float("inf"))
    working = [Working(study=finding.study, by=words, before=each, elapsed=1e6) for each in range(2)]
    texts = [
        finished_view(found, words, look),
        quiet_view(words, words, None, look),
        quiet_view(words, "", found, look),
        failed_view(finding.study, words, True, look),
        progress_view(finding.study, far, 1e9, 0, look),
        progress_view(finding.study, None, 0.0, 3, look),
        runs_view([(2**31, ENDED, finding), (1, ENDED, other)] * 15, working, look),
        compare_view((2**31, finding), (7, other), look),
        params_view(words, changes, changes, [change] * 12, look),
        "\n".join(apply_card(2**31, finding, changes, {}, [], other, look)),
        "\n".join(rollback_card(change, changes, {}, look)),
    ]
    for text in texts:
        accepted(text)


def test_buttons_hold_ids_and_fit() -> None:
    """64 bytes are enough for the longest of them."""
    nonce = f"update:{2**63}"
    for words in (("abandon", nonce, "list"), ("again", nonce), ("compare", 2**53, 2**53), ("backtest", f"#{2**53}")):
        assert made("x", *words)
