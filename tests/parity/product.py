"""The program, asked only through its command line: `replay --json`, in this process."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.parity.series import Bars, write_candles, write_funding


def run(argv: list[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `main.main(argv)`."""
    import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main.main(argv)
        except SystemExit as stopped:  # argparse
            code = stopped.code if isinstance(stopped.code, int) else 1
    return code, out.getvalue(), err.getvalue()


def replay_arguments(
    candles: Path,
    params: Mapping[str, float],
    *,
    funding: Path | None = None,
    interval_minutes: int | None = None,
    strategy: str | None = None,
) -> list[str]:
    """The arguments that name the files and every given parameter."""
    argv = ["replay", "--candles", str(candles), "--council", "off", "--json"]
    if funding is not None:
        argv += ["--funding", str(funding)]
    if interval_minutes is not None:
        argv += ["--interval", str(interval_minutes)]
    if strategy is not None:
        argv += ["--strategy", strategy]
    for name, value in params.items():
        argv += ["--set", f"{name}={value!r}"]
    return argv


def replay_file(
    candles: Path,
    params: Mapping[str, float],
    *,
    funding: Path | None = None,
    interval_minutes: int | None = None,
    strategy: str | None = None,
) -> dict[str, Any]:
    """The object `replay --json` prints for a candle file; exit code 0 and one object, or the test fails."""
    code, out, err = run(
        replay_arguments(candles, params, funding=funding, interval_minutes=interval_minutes, strategy=strategy)
    )
    assert code == 0, f"exit code {code}: {err[-2000:]}"
    result = json.loads(out)
    assert isinstance(result, dict)
    return result


def product(
    bars: Bars,
    params: Mapping[str, float],
    *,
    interval_ms: int,
    funding: Mapping[int, float] | None = None,
    suffix: str = ".parquet",
    strategy: str | None = None,
) -> dict[str, Any]:
    """What `plain.simulate` is asked, asked of the program: the bars go through a candle file."""
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        candles = write_candles(Path(folder) / f"BTCUSDT-parity{suffix}", bars)
        rates = None if funding is None else write_funding(Path(folder) / "funding.csv.gz", dict(funding))
        return replay_file(
            candles, params, funding=rates, interval_minutes=interval_ms // 60_000, strategy=strategy
        )


def refused(argv: list[str]) -> str:
    """The one clear line of a refusal: exit code 2 and nothing on stdout."""
    code, out, err = run(argv)
    assert code == 2, f"exit code {code}, not 2: {err[-2000:]}"
    assert out == ""
    return err
