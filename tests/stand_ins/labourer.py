"""A process behind a `research.worker.Worker` that does what a test tells it: the first part of a request says what."""

from __future__ import annotations

import ctypes
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from research.worker import Answer, Tell, serve
from trading.errors import BadInput, Transient

NICE = 7


def answer(request: list[bytes], tell: Tell) -> Sequence[bytes]:
    """`request[0]` is a JSON list: a word and its arguments."""
    word, *given = json.loads(request[0])
    if word == "count":
        words, pause = given
        for number in range(words):
            tell(str(number).encode())
            time.sleep(pause)
    elif word == "make":
        return [b"\x07" * given[0]]
    elif word == "sleep":
        time.sleep(given[0])
    elif word == "seize":  # as compiled code does that does not let go of the interpreter
        print("what a library prints is no answer")  # noqa: T201
        seconds, mark = given
        Path(mark).touch()
        ctypes.PyDLL(None).sleep(seconds)
    elif word == "environment":
        return [os.environ.get(name, "").encode() for name in given]
    else:
        failed(word)
    return request[1:]


def failed(word: str) -> None:
    """The ways in which there is no answer."""
    if word == "die":
        os._exit(3)
    if word == "refuse":
        raise BadInput("choose otherwise")
    if word == "later":
        raise Transient("not now")
    if word == "fail":
        raise ZeroDivisionError("by\nnothing")


def prepare() -> Answer:
    """Nothing is heavy here."""
    print("what a library prints while it is imported is no answer either")  # noqa: T201
    return answer


if __name__ == "__main__":
    serve(prepare, nice=NICE)
