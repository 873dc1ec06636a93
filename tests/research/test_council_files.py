"""A grade's chart and workbook: what stands on them, read back, and made beside the bot's process."""

from __future__ import annotations

import asyncio
import io
import itertools
import math
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import openpyxl  # type: ignore[import-untyped]
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from openpyxl.worksheet.worksheet import Worksheet  # type: ignore[import-untyped]
from PIL import Image

from research.charts import draw, figure
from research.charts.council import CouncilPicture, wilson
from research.charts.sheet import PALETTES
from research.grade import curves, grade
from research.grader import StudioGrader, named
from research.studio import Studio
from research.workbook.council import write_grade
from tests.research.councils import AGENTS, ballot, bare, candidate, full
from tests.structure import ROOT
from trading.errors import BadInput, Rejected
from trading.grades import Grade, Grader, Judged
from trading.model import utc
from trading.pictures import Theme

THEMES: tuple[Theme, ...] = ("dark", "light")
TITLE = "strict council, BTC ETH 4h"
ODD = "🚀 比特币 $x^2$ =1+1 \\frac{1}{2} " * 4


def many_others(count: int) -> list[Judged]:
    """Councils beyond what a chart has room for."""
    others = {f"another council number {at}": at / 10 for at in range(7)}
    return [replace(row, others=others) for row in full(count=count)]


CASES: dict[str, list[Judged]] = {
    "helps": full("useful"),
    "hurts": full("harmful", 1),
    "insufficient": full("random", 2),
    "few": full("random", 3, 30),
    "no ballots": bare("useful", 4, 200),
    "one": [candidate(0)],
    "none ended": [candidate(at, r=None, ended=False, ballots=(ballot("quant", 1, 0.3),)) for at in range(3)],
    "all alike": [candidate(at, r=-1.0) for at in range(20)],
    "much": [replace(row, r=None if row.r is None else row.r * 1e7) for row in full(count=100)],
    "many others": many_others(100),
    "strange agents": [
        candidate(at, r=at - 5.0, ballots=tuple(ballot(f"{ODD}{n}", 1, 0.1 * n) for n in range(5))) for at in range(12)
    ],
}


@cache
def found(case: str) -> Grade:
    return grade(CASES[case])


def picture(case: str, title: str = TITLE) -> CouncilPicture:
    return CouncilPicture(title=title, grade=found(case), curves=curves(CASES[case]))


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def texts(drawn: Figure) -> list[Text]:
    return [each for each in drawn.findobj(Text) if each.get_visible() and each.get_text()]


def words(case: str) -> list[str]:
    return [each.get_text() for each in texts(figure(picture(case), "dark"))]


# ---- the chart ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("case", CASES)
def test_a_chart_is_a_png_for_a_phone(case: str, theme: Theme) -> None:
    """1080 pixels wide, no higher than Telegram passes on unscaled, mostly background."""
    content = draw(picture(case), theme)
    image = opened(content)
    assert (image.format, image.width) == ("PNG", 1080)
    assert 300 <= image.height <= 1280
    assert len(content) < 500_000


def test_a_long_title_costs_the_curves_some_height() -> None:
    """Two lines of title leave the whole as high as it was."""
    assert opened(draw(picture("helps", ODD), "dark")).height == 1280


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_cut_off_or_written_over_something_else(case: str) -> None:
    """All that is written lies on the sheet, and apart from each other."""
    for title in (TITLE, ODD):
        drawn = figure(picture(case, title), "light")
        canvas = FigureCanvasAgg(drawn)
        canvas.draw()  # type: ignore[no-untyped-call]
        places = [(each, Bbox.from_bounds(*each.get_window_extent().bounds)) for each in texts(drawn)]
        wide, high = canvas.get_width_height()
        for text, box in places:
            assert 0 <= box.x0 <= box.x1 <= wide, text
            assert 0 <= box.y0 <= box.y1 <= high, text
        for (one, first), (other, second) in itertools.combinations(places, 2):
            across = min(first.x1, second.x1) - max(first.x0, second.x0)
            up = min(first.y1, second.y1) - max(first.y0, second.y0)
            assert across <= 1 or up <= 6, (one, other)


def test_the_word_stands_in_the_title_and_its_reason_below() -> None:
    """With the figures that it rests on."""
    for case, word in (("helps", "HELPS"), ("hurts", "HURTS"), ("insufficient", "INSUFFICIENT EVIDENCE")):
        shown = words(case)
        assert f"{word}: {TITLE}" in shown
        assert found(case).reason in " ".join(shown)
        assert f"{found(case).ended:,}" in shown


def test_curves_bars_and_panels_are_named() -> None:
    """The council, none, rules, chance; avoided and missed; every agent with its skill."""
    shown, known = words("helps"), found("helps")
    for text in ("strict", "no council", "rules", "95% of random vetoes", "Losses avoided", "Gains missed"):
        assert text in shown
    assert f"+{known.avoided:,.0f} R" in shown
    assert f"-{known.missed:,.0f} R" in shown
    for agent, name in zip(known.agents, ("Quant", "Strategist", "Risk Manager"), strict=True):
        assert name in shown
        assert f"skill {agent.skill:+.1%}" in shown


def test_what_has_not_ended_shows_no_curve() -> None:
    """And no panel for nobody."""
    assert "Losses avoided" not in words("none ended")
    assert "Losses avoided" in words("no ballots")
    assert not any("Stated" in text for text in words("no ballots"))


def test_the_themes_differ_and_a_chart_is_the_same_every_time() -> None:
    """Their backgrounds are those of every other chart."""
    for theme in THEMES:
        content = draw(picture("helps"), theme)
        assert content == draw(picture("helps"), theme)
        back = tuple(int(PALETTES[theme].back[at : at + 2], 16) for at in (1, 3, 5))
        assert opened(content).convert("RGB").getpixel((3, 3)) == back


def test_the_interval_of_a_share() -> None:
    """Wilson's, as the textbooks have it: never outside 0 to 1, wide for few."""
    assert wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


# ---- the workbook -------------------------------------------------------------------------------------------------


@cache
def book(case: str) -> Any:
    return openpyxl.load_workbook(io.BytesIO(write_grade(found(case), CASES[case], TITLE)))


def column(sheet: Worksheet, name: str, top: int = 1) -> list[Any]:
    """The values below a header, down to the first empty row."""
    at = next(cell.column for cell in sheet[top] if cell.value == name)
    rows = itertools.takewhile(lambda row: sheet.cell(row, 1).value is not None, range(top + 1, sheet.max_row + 1))
    return [sheet.cell(row, at).value for row in rows]


def beside(sheet: Worksheet, label: str) -> Any:
    return next(sheet.cell(row, 2).value for row in range(1, sheet.max_row + 1) if sheet.cell(row, 1).value == label)


def top_of(sheet: Worksheet, first: str, after: int = 1) -> int:
    return next(row for row in range(after, sheet.max_row + 1) if sheet.cell(row, 1).value == first)


@pytest.mark.parametrize("case", CASES)
def test_every_sheet_is_there(case: str) -> None:
    """Whatever the record holds; nothing is a formula or a link."""
    made = book(case)
    assert made.sheetnames == ["Summary", "Candidates", "Agents", "Costs"]
    for sheet in made.worksheets:
        for row in sheet.iter_rows():
            for cell in row:
                assert cell.data_type != "f"
                assert cell.hyperlink is None


def test_the_summary_begins_with_the_word_and_its_reason() -> None:
    """Then the arms and the figures."""
    sheet, known = book("helps")["Summary"], found("helps")
    assert (sheet["A1"].value, sheet["A4"].value, sheet["A5"].value) == (TITLE, "HELPS", known.reason)
    shown = book("insufficient")["Summary"]["A4"].value
    assert shown == f"INSUFFICIENT EVIDENCE ({found('insufficient').needs})"
    assert shown.endswith(" needed)")
    assert beside(sheet, "Losses avoided, R") == pytest.approx(known.avoided)
    assert beside(sheet, "Gains missed, R") == pytest.approx(known.missed)
    assert beside(sheet, "Base rate") == pytest.approx(known.base_rate)
    assert beside(sheet, "Needed") is None
    assert beside(sheet, "Cost of a month USD") == pytest.approx(known.cost_per_month)
    assert len(sheet._charts) == 1


def test_every_arm_stands_in_its_row() -> None:
    """With its interval; what is undefined is an empty cell."""
    sheet, known = book("helps")["Summary"], found("helps")
    top = top_of(sheet, "Arm")
    assert column(sheet, "Approved", top) == [arm.approved for arm in known.arms]
    assert column(sheet, "Total R", top) == pytest.approx([arm.total for arm in known.arms])
    wanted = [None if arm.mean_vetoed is None else pytest.approx(arm.mean_vetoed) for arm in known.arms]
    assert column(sheet, "Mean R vetoed", top) == wanted
    ends = [None if arm.interval is None else pytest.approx(arm.interval.low) for arm in known.arms]
    assert column(sheet, "95% from", top) == ends


def test_every_candidate_stands_in_its_row() -> None:
    """In order of time; running totals end where the arms do; times are UTC without a zone."""
    sheet, rows, known = book("helps")["Candidates"], CASES["helps"], found("helps")
    assert column(sheet, "Verdict") == [row.verdict_id for row in rows]
    first = column(sheet, "Decided UTC")[0]
    assert isinstance(first, datetime)
    assert abs(first - utc(rows[0].at).replace(tzinfo=None)).total_seconds() < 0.01
    assert column(sheet, "R at full size") == [None if row.r is None else pytest.approx(row.r) for row in rows]
    assert column(sheet, "Running total R")[-1] == pytest.approx(known.arms[0].total)
    assert column(sheet, "Running total without council R")[-1] == pytest.approx(known.arms[1].total)
    assert column(sheet, "Size by rules") == pytest.approx([row.others["rules"] for row in rows])
    outcomes = column(sheet, "Outcome")
    assert (outcomes.count("never filled"), outcomes.count("waiting")) == (known.unfilled, known.waiting)
    assert column(sheet, "Risk Manager status") == [row.ballots[2].status for row in rows]
    assert column(sheet, "Quant chance to win") == [
        None if row.ballots[0].p_win is None else pytest.approx(row.ballots[0].p_win) for row in rows
    ]


def test_agents_with_their_scores_and_bins() -> None:
    """As the grade has them."""
    sheet, known = book("helps")["Agents"], found("helps")
    assert column(sheet, "Agent") == ["Quant", "Strategist", "Risk Manager"]
    assert column(sheet, "Skill") == pytest.approx([agent.skill for agent in known.agents])
    assert column(sheet, "INVALID") == [agent.statuses["INVALID"] for agent in known.agents]
    assert column(sheet, "Voted against") == [agent.votes["against"] for agent in known.agents]
    top = top_of(sheet, "Agent", 3)
    bins = [each for agent in known.agents for each in agent.bins]
    assert column(sheet, "Answers", top) == [each.count for each in bins]
    assert column(sheet, "Came true", top) == pytest.approx([each.won for each in bins])


def test_costs_add_up() -> None:
    """By agent and by month."""
    sheet, known = book("helps")["Costs"], found("helps")
    by_agent = column(sheet, "Cost USD")
    assert math.fsum(by_agent[:-1]) == pytest.approx(by_agent[-1]) == pytest.approx(known.cost_usd)
    top = top_of(sheet, "Month")
    assert math.fsum(column(sheet, "All USD", top)) == pytest.approx(known.cost_usd)
    assert sum(column(sheet, "Candidates", top)) == known.candidates
    rates = [agent.statuses["TIMEOUT"] / agent.asked for agent in known.agents]
    assert column(sheet, "Timed out")[:3] == pytest.approx(rates)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("soffice") is None, reason="LibreOffice is not installed")
def test_another_program_opens_it(tmp_path: Path) -> None:
    """And prints it."""
    path = tmp_path / "council.xlsx"
    path.write_bytes(write_grade(found("helps"), CASES["helps"], TITLE))
    profile = f"-env:UserInstallation=file://{tmp_path}/profile"
    command = ["soffice", profile, "--headless", "--convert-to", "pdf", "--outdir", str(tmp_path), str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    assert (tmp_path / "council.pdf").stat().st_size > 20_000


# ---- away from the event loop -------------------------------------------------------------------------------------


@pytest.fixture
async def studio() -> AsyncIterator[Studio]:
    made = Studio()
    yield made
    await made.close()


async def test_a_grade_comes_with_its_files(studio: Studio) -> None:
    """The same grade as here, by the process that draws, which goes on drawing."""
    grader: Grader = StudioGrader(studio)
    rows = CASES["helps"]
    made = await grader.grade(rows, TITLE, "light")
    assert made.grade == found("helps")
    assert opened(made.chart).size == opened(draw(picture("helps"), "light")).size
    assert openpyxl.load_workbook(io.BytesIO(made.workbook)).sheetnames[0] == "Summary"
    assert made.workbook_name == "strict-council-btc-eth-4h.xlsx"
    pid = studio.pid
    assert (await grader.grade(rows[:5], TITLE, "dark")).grade.candidates == 5
    assert studio.pid == pid


async def test_what_cannot_be_graded_is_said_and_harms_nobody(studio: Studio) -> None:
    """No candidate, a broken record, and one that is no record at all."""
    grader = StudioGrader(studio)
    with pytest.raises(BadInput, match="no candidate"):
        await grader.grade([], TITLE, "dark")
    with pytest.raises(BadInput, match="weight outside"):
        await grader.grade([candidate(0, weight=2.0)], TITLE, "dark")
    with pytest.raises(Rejected):
        await studio.grade([pickle.dumps(["no record"])], TITLE, "dark")
    assert (await grader.grade([candidate(0)], TITLE, "dark")).grade.ended == 1


async def test_the_event_loop_goes_on_meanwhile(studio: Studio) -> None:
    """2,000 candidates are packed in pieces: no single step of it takes long."""
    rows = full(count=2_000)
    longest, last = 0.0, time.thread_time()
    task = asyncio.create_task(StudioGrader(studio).grade(rows, TITLE, "dark"))
    while not task.done():
        await asyncio.sleep(0)
        now = time.thread_time()
        longest, last = max(longest, now - last), now
    assert (await task).grade.candidates == 2_000
    assert longest < 0.02


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Rules, BTCUSDT 4h", "rules-btcusdt-4h.xlsx"),
        ("比特币", "council.xlsx"),
        ("../../etc/passwd", "etc-passwd.xlsx"),
    ],
)
def test_a_file_is_named_for_what_it_holds(title: str, name: str) -> None:
    """Whatever the title is, the name is one that every system takes."""
    assert named(title) == name
    assert len(named("a b" * 200)) <= 65


def test_the_bot_imports_none_of_it() -> None:
    """A grader in the bot's process brings no library for charts or Excel with it, and no grading."""
    code = "import research.grader, sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "research.studio" in loaded
    assert not {"matplotlib", "xlsxwriter", "pandas", "research.charts", "research.grade", "research.render"} & loaded


def test_the_agents_of_the_samples_are_those_of_the_council() -> None:
    """What is drawn here is what will be drawn."""
    assert [agent.agent for agent in found("helps").agents] == list(AGENTS)
