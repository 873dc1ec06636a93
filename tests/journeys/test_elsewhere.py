"""An exchange somewhere else: the program trades there, waits for it, and refuses a key that is not taken there."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path

from tests.journeys.program import Place, Running, headline

SECRET = "hunter2hunter2"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def exchange(folder: Path, port: int) -> Running:
    """The paper exchange as a process of its own, on the synthetic market at the demo's pace."""
    folder.mkdir(exist_ok=True)
    return Place(folder=folder).start("exchange", "--port", str(port))


def trader(folder: Path, port: int, **more: str) -> Place:
    """A folder for a program that is told where the exchange is."""
    folder.mkdir(exist_ok=True)
    return Place(folder=folder, env={"BYBIT_REST_URL": f"http://127.0.0.1:{port}", **more})


def verdicts(running: Running) -> list[str]:
    """The first lines of the council's cards."""
    lines = [headline(message) for message in running.messages()]
    return [line for line in lines if re.search(r"APPROVED|REJECTED", line)]


def test_it_trades_on_an_exchange_elsewhere(tmp_path: Path) -> None:
    """Verdicts come, no exchange of its own is started, and leaving is clean; the account is found again."""
    port = free_port()
    place = trader(tmp_path / "bot", port)
    with exchange(tmp_path / "exchange", port):
        with place.start("run", "--no-dashboard") as running:
            running.until(lambda: verdicts(running), 60, "verdict")
            assert not list(place.data.glob("exchange-*.db"))
            before = running.messages()[-1]["message_id"]
            assert running.leave()[0] == 0
            assert running.err.count("Traceback") == 0
        with place.start("run", "--no-dashboard") as running:
            running.until(lambda: running.messages(before), 30, "message of the second life")
            assert "PAPER" in running.ask("/status")[0]
            assert running.leave(signal.SIGTERM)[0] == 0


def test_it_waits_for_an_exchange_that_is_not_there_yet(tmp_path: Path) -> None:
    """It says so once and stays; once the exchange is there it trades, with nobody's help."""
    port = free_port()
    with trader(tmp_path / "bot", port).start("run", "--no-dashboard") as running:
        running.until(lambda: "no entries until it answers" in running.err, 20, "word that it waits")
        with exchange(tmp_path / "exchange", port):
            running.until(lambda: verdicts(running), 60, "verdict")
            assert running.err.count("no entries until it answers") == 1
            assert running.leave()[0] == 0


def test_the_chat_answers_while_the_exchange_is_away(tmp_path: Path) -> None:
    """It says what is wrong, answers questions, and a pause that is asked for then holds when the exchange is there."""
    port = free_port()
    with trader(tmp_path / "bot", port).start("run", "--no-dashboard") as running:
        running.until(lambda: any("cannot be reached" in str(m["text"]) for m in running.messages()), 30, "alert")
        assert "PAPER" in running.ask("/status")[0]
        assert "Pausing" in running.ask("/pause")[0]
        with exchange(tmp_path / "exchange", port):
            heard = len(running.messages())
            started = r"PAPER.*(start|carr|back)"

            def back() -> bool:
                return any(re.search(started, headline(m)) for m in running.messages()[heard:])

            running.until(back, 30, "word that it has started")
            assert "aused" in running.ask("/status")[0]
            told = [m for m in running.messages() if "cannot be reached" in str(m["text"])]
            assert len(told) <= 2  # the alert, and what the first start found
            assert running.leave()[0] == 0


def test_it_can_be_left_while_it_waits(tmp_path: Path) -> None:
    """Ctrl-C ends it with 0, soon."""
    with trader(tmp_path / "bot", free_port()).start("run", "--no-dashboard") as running:
        running.until(lambda: "no entries until it answers" in running.err, 20, "word that it waits")
        code, seconds = running.leave()
        assert (code, running.err.count("Traceback")) == (0, 0)
        assert seconds < 10


def test_a_key_that_the_exchange_does_not_take_is_refused(tmp_path: Path) -> None:
    """78, with one line that names the variable and says nothing of the key."""
    port = free_port()
    with exchange(tmp_path / "exchange", port) as running:
        running.until(lambda: "Exchange: http" in running.out, 30, "exchange")
        done = trader(tmp_path / "bot", port, BYBIT_KEY=SECRET, BYBIT_SECRET=SECRET).run("run", "--no-dashboard")
    assert done.code == 78, done.err
    errors = [line for line in done.said if line.startswith("error: ")]
    assert len(errors) == 1
    assert "BYBIT_KEY" in errors[0]
    assert SECRET not in done.err + done.out
    assert "Traceback" not in done.err


def test_two_exchanges_cannot_have_one_port(tmp_path: Path) -> None:
    """The second says which port it is, and leaves with 2."""
    port = free_port()
    with exchange(tmp_path / "one", port) as running:
        running.until(lambda: "Exchange: http" in running.out, 30, "exchange")
        done = Place(folder=tmp_path).run("exchange", "--port", str(port))
    assert done.code == 2
    assert f"--port {port}" in done.err
    assert "Traceback" not in done.err
