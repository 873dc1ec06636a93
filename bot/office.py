"""Everything that serves people around one trader: the conversation, the clock's jobs, and how the program is.

    office = Office(building, account=…, trader=…, …)
    await office.start()
    await office.drain()      # every message so far has been sent
    await office.stop()       # within two seconds

A `Building` is what the process has once, whichever account is traded: the database, the bot's token and its people,
the painter of charts, the log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, tzinfo
from pathlib import Path

from bot.access import AllowList, Role
from bot.cards import PUSHED, Look
from bot.commands import COMMANDS
from bot.conversation import Conversation
from bot.courier import Pace
from bot.grading import RememberingGrader
from bot.jobs import Jobs
from bot.ports import Adviser, CouncilModes, Desk, Prices, Trader
from bot.scheduler import Chores, DailyReport, Scheduler
from bot.settings import TradingConfig
from bot.studies import Studies
from bot.telegram import Redaction
from bot.tuning import Tuning
from bot.vitals import Gauges, LogRing, LoopLag, ProgramVitals
from storage.council import CouncilRecords
from storage.database import Database
from storage.equity import Days, EquitySamples
from storage.housekeeping import Housekeeping
from storage.inbox import InboxStore
from storage.journal import SqlJournal
from storage.outbox import Outbox
from storage.queries import Records
from storage.tickets import Tickets
from trading.grades import Grader
from trading.laboratory import Laboratory
from trading.pictures import Painter
from trading.ports import Clock

Row = tuple[str, bool, str]
_REFRESH_SECONDS = 15.0
_SUNDAY = 6
_SEARCH_HOUR = time(3)


@dataclass(frozen=True, kw_only=True)
class Building:
    """What the process has once. `api_url` None is Telegram itself; `paced` keeps to Telegram's rates.

    `file` is the database's own, None where it is no file; `painter_state` says whether charts can be drawn.
    """

    database: Database
    file: Path | None
    folder: Path
    token: str
    api_url: str | None
    paced: bool
    allowed: AllowList
    painter: Painter
    painter_state: Callable[[], tuple[bool, str]]
    laboratory: Laboratory
    grader: Grader
    log: LogRing
    redact: Redaction
    zone: tzinfo
    wall: Callable[[], datetime]
    lag: LoopLag = field(default_factory=LoopLag)


class Office:
    """One trader's. `real_time`: market time is the wall's; `made_up`: no exchange anywhere knows these prices;
    `illustrated`: approved decisions get a chart.

    `overlay` gives the settings that were changed over `config`; `streams` rows of the exchange's connections.
    `council_modes` says which councils there can be, `advise` asks the one there is. Once a
    week the laboratory looks for something better, where the market is a real one and its time the wall's.
    """

    def __init__(
        self,
        building: Building,
        *,
        account: str,
        badge: str,
        config: TradingConfig,
        overlay: Callable[[], Mapping[str, float]],
        journal: SqlJournal,
        trader: Trader,
        prices: Prices,
        laboratory: Laboratory,
        clock: Clock,
        streams: Callable[[], Sequence[Row]],
        council_modes: CouncilModes,
        advise: Adviser,
        fingerprint: str,
        real_time: bool,
        real_money: bool,
        made_up: bool,
        illustrated: bool,
    ) -> None:
        db = building.database
        look = Look(
            badge=badge,
            zone=building.zone,
            theme=config.chat.theme,
            push={**PUSHED, **config.chat.push},
            real_money=real_money,
            made_up=made_up,
        )
        outbox, records, tickets = Outbox(db, account), Records(db, account), Tickets(db, account)
        samples = EquitySamples(db, account)
        recipients = building.allowed.at_least(Role.OPERATOR)
        self._streams = streams
        self._lag = building.lag
        chores = Chores(
            db=db,
            account=account,
            trader=trader,
            outbox=outbox,
            tickets=tickets,
            samples=samples,
            housekeeping=Housekeeping(db, building.file),
            look=look,
            clock=clock,
            wall=building.wall,
            recipients=recipients,
            folder=building.folder,
        )
        report = DailyReport(
            days=Days(db, account),
            records=records,
            samples=samples,
            trader=trader,
            outbox=outbox,
            painter=building.painter,
            look=look,
            recipients=recipients,
            wall=building.wall,
            at=time(config.chat.report_hour),
        )
        self.scheduler = Scheduler(chores, report, real_time=real_time)
        self.vitals = ProgramVitals(
            gauges=Gauges(
                status=trader.status,
                poll_age=lambda: self.conversation.telegram.silence,
                exchange=streams,
                painter=building.painter_state,
                jobs=self.scheduler.jobs,
            ),
            db=db,
            account=account,
            file=building.file,
            folder=building.folder,
            lag=building.lag,
            log=building.log,
            zone=building.zone,
            wall=building.wall,
            monotonic=clock.monotonic,
            real_time=real_time,
            fingerprint=fingerprint,
        )
        studies = Studies(config, overlay, trader.status)
        self.jobs = Jobs(
            laboratory=laboratory,
            studies=studies,
            outbox=outbox,
            tickets=tickets,
            look=look,
            clock=clock,
            wall=building.wall,
            recipients=recipients,
            owners=building.allowed.at_least(Role.OWNER),
        )
        if real_time and not made_up:
            self.scheduler.weekly("re-optimisation", _SUNDAY, _SEARCH_HOUR, building.zone, self.jobs.reoptimise)
        self.scheduler.every("vitals", _REFRESH_SECONDS, self.vitals.refresh, first=0)
        desk = Desk(
            trader=trader,
            records=records,
            tickets=tickets,
            samples=samples,
            prices=prices,
            painter=building.painter,
            tunable=Tuning(config, overlay),
            vitals=self.vitals,
            look=look,
            initial_equity=lambda: float(trader.status().initial_equity),
            studies=studies,
            laboratory=laboratory,
            jobs=self.jobs,
            council=CouncilRecords(db, account),
            grader=RememberingGrader(building.grader),
            council_modes=council_modes,
            advise=advise,
            commands=COMMANDS,
        )
        self.conversation = Conversation(
            token=building.token,
            api_url=building.api_url,
            allowed=building.allowed,
            journal=journal,
            outbox=outbox,
            inbox=InboxStore(db, building.token.partition(":")[0]),
            desk=desk,
            clock=clock,
            pace=Pace() if building.paced else None,
            illustrated=illustrated,
        )

    async def start(self) -> None:
        """Opens for people; never waits for Telegram."""
        self._lag.start()
        await self.jobs.start()
        await self.conversation.start()
        self.scheduler.start()

    async def drain(self) -> None:
        """Returns once every event journaled so far has been sent to everybody who gets it."""
        await self.conversation.drain()

    async def stop(self) -> None:
        """Closes; what was not sent waits in the outbox."""
        await self.scheduler.stop()
        await self.jobs.stop()
        await self.conversation.stop()
        self._lag.stop()

    def connections(self) -> list[Row]:
        """The exchange's connections and the chat's, each with its age in words."""
        silence = self.conversation.telegram.silence
        chat: Row = ("chat", silence is not None, "not connected" if silence is None else f"{silence:.0f}s ago")
        return [*self._streams(), chat]
