"""The rules of the house, checked by a machine: imports, environment, structure, lock, names."""

from __future__ import annotations

import ast
import contextlib
import logging
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from importlinter.cli import lint_imports
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bot.settings import Settings, read_settings
from tests import structure
from tests.structure import ROOT

READS_ENVIRONMENT = {"main.py", "bot/settings.py"}
SHARED = "../" + "shared"  # the one place outside the clone that .ci/run may look at


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(tree: ast.Module) -> Iterator[str]:
    """Every module that the file names in an import, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def called(tree: ast.Module) -> Iterator[str]:
    """Every plain name that the file calls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id


def attributes(tree: ast.Module) -> Iterator[str]:
    """Every `name.attribute` in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


def tracked() -> list[Path]:
    """The files that belong to the project: git's list in a repository, else everything that is no cache."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    caches = {".venv", "__pycache__", ".git"}
    return [path for path in ROOT.rglob("*") if path.is_file() and not caches & set(path.parts)]


def lines_with(pattern: str, *, but: frozenset[str] = frozenset()) -> list[str]:
    """`file:line: text` of every line of the project that matches."""
    found = re.compile(pattern)
    hits = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        name = name_of(path)
        if name not in but:
            hits += [f"{name}:{n}: {s}" for n, s in enumerate(text.splitlines(), 1) if found.search(s)]
    return hits


# ---- imports -------------------------------------------------------------------------------------


@contextlib.contextmanager
def loggers_as_they_are() -> Iterator[None]:
    """import-linter configures logging anew and by that silences every logger that exists, for the whole process."""
    loggers = [each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    before = [each.disabled for each in loggers]
    try:
        yield
    finally:
        for each, disabled in zip(loggers, before, strict=True):
            each.disabled = disabled


def test_import_contracts_hold(capsys: pytest.CaptureFixture[str]) -> None:
    """The contracts of pyproject.toml: layers, the pure core, adapters apart, no cycles."""
    with loggers_as_they_are():
        code = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True, no_logo=True)
    assert code == 0, capsys.readouterr().out


def test_no_import_cycles() -> None:
    """No module of the program reaches itself through its imports."""
    assert structure.import_cycles() == ()


def test_nobody_imports_main() -> None:
    """The composition root knows everybody and is known by nobody, by whatever way of importing."""
    guilty = [
        name_of(path)
        for path in structure.product_files()
        if path.name != "main.py" and "main" in imported(structure.parsed(path))
    ]
    assert guilty == []


def test_the_phone_stands_alone() -> None:
    """The embedded Telegram is a service of its own: it imports nothing of the program but itself."""
    ours = {*structure.PACKAGES, "main"}
    guilty = [
        f"{name_of(path)} imports {module}"
        for path in (ROOT / "bot" / "phone").rglob("*.py")
        for module in imported(structure.parsed(path))
        if module.split(".")[0] in ours and module != "bot" and not module.startswith("bot.phone")
    ]
    assert guilty == []


# ---- environment and clocks ----------------------------------------------------------------------


def test_only_settings_and_main_read_the_environment() -> None:
    """A setting enters in one place, where it is validated and described."""
    readers = {"os.environ", "os.environb", "os.getenv", "os.putenv", "dotenv", "pydantic_settings"}
    guilty = []
    for path in structure.product_files():
        tree = structure.parsed(path)
        named = {*imported(tree), *attributes(tree)} & readers
        if named and name_of(path) not in READS_ENVIRONMENT:
            guilty.append(f"{name_of(path)} uses {', '.join(sorted(named))}")
    assert guilty == []


def pure_files() -> list[Path]:
    """The files of the core, as the contract names them."""
    contracts = project()["tool"]["importlinter"]["contracts"]
    modules = next(contract for contract in contracts if contract["id"] == "pure")["source_modules"]
    files: list[Path] = []
    for module in modules:
        path = ROOT / module.replace(".", "/")
        files += path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    return files


def test_the_core_reads_no_clock() -> None:
    """`datetime` is a type there, never a source of the present; files are not opened either."""
    outside = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "open", "input", "print"}
    guilty = []
    for path in pure_files():
        tree = structure.parsed(path)
        named = {*attributes(tree), *called(tree)} & outside
        guilty += [f"{name_of(path)} uses {name}" for name in sorted(named)]
    assert guilty == []


# ---- structure -----------------------------------------------------------------------------------


def test_functions_are_short() -> None:
    """Nine functions in ten fit 25 lines."""
    seen = structure.figures()
    assert seen.p90 <= 25, seen.longest


def test_one_function_shows_the_whole_trade() -> None:
    """`run_cycle` exists and fits one screen of 80 lines."""
    seen = structure.figures()
    assert seen.run_cycle is not None, "trading/cycle.py has no run_cycle"
    assert seen.run_cycle <= 80


def test_the_suite_hardly_mocks() -> None:
    """Ports have real, small implementations; patching stays an exception."""
    seen = structure.figures()
    assert seen.tests > 0
    assert seen.mocks_per_test <= 0.05


# ---- the lock ------------------------------------------------------------------------------------


def locked() -> dict[str, tuple[str, int]]:
    """Canonical name → (version, number of hashes) of requirements.lock."""
    entries: dict[str, tuple[str, int]] = {}
    for block in re.split(r"\n(?=[a-zA-Z0-9])", (ROOT / "requirements.lock").read_text(encoding="utf-8")):
        head = re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", block)
        if head:
            hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}\b", block)
            entries[canonicalize_name(head[1])] = (head[2], len(hashes))
    return entries


def declared() -> list[Requirement]:
    table = project()["project"]
    extras = table["optional-dependencies"]
    return [Requirement(line) for line in sum(extras.values(), start=list(table["dependencies"]))]


def test_every_locked_package_has_hashes() -> None:
    """What is installed is what was reviewed."""
    entries = locked()
    assert len(entries) > 40
    assert [name for name, (_, hashes) in entries.items() if hashes == 0] == []


@pytest.mark.parametrize("requirement", declared(), ids=str)
def test_the_lock_answers_what_is_declared(requirement: Requirement) -> None:
    """pyproject.toml and requirements.lock do not drift apart; `make lock` brings them together."""
    entries = locked()
    name = canonicalize_name(requirement.name)
    assert name in entries, f"{requirement.name} is not in requirements.lock: run make lock"
    assert requirement.specifier.contains(entries[name][0], prereleases=True)


def test_every_library_in_use_is_declared() -> None:
    """The program imports nothing that only comes along with something else."""
    known = {canonicalize_name(r.name) for r in declared()} - {"tzdata"}
    distribution = {"telegram": "python-telegram-bot", "talib": "ta-lib", "dotenv": "python-dotenv"}
    distribution |= {"websocket": "websocket-client", "google": "google-genai"}
    distribution |= {"pydantic_core": "pydantic"}  # one library in two packages, pinned to each other
    own = {*structure.PACKAGES, "main", "_typeshed"}
    guilty = set()
    for path in structure.product_files():
        for module in imported(structure.parsed(path)):
            top = module.split(".")[0]
            if top in own or top in sys.stdlib_module_names:
                continue
            if canonicalize_name(distribution.get(top, top)) not in known:
                guilty.add(f"{name_of(path)}: {top}")
    assert guilty == set()


# ---- what the tree may name ----------------------------------------------------------------------


def test_no_package_index_is_named() -> None:
    """Where packages come from is the installer's configuration, not the project's."""
    options = "|".join(["(extra-)?index" + "-url", "find" + "-links", "trusted" + "-host"])
    hosts = "|".join(["pypi" + r"\.org/simple", "files" + r"\.pythonhosted"])
    assert lines_with(f"--({options})|({hosts})") == []


def test_no_path_of_one_machine_is_named() -> None:
    """The tree says the same thing on every machine."""
    folders = "|".join(["work", "farm", "root", "home", "bash" + "_jobs"])
    assert lines_with(rf"(?<![\w.}}~*-])/({folders})/\w") == []


def test_only_the_ci_script_looks_beside_the_clone() -> None:
    """The suite runs without recorded data; `.ci/run` names it when it lies beside the clone."""
    assert lines_with(re.escape(SHARED), but=frozenset({".ci/run"})) == []


def test_nothing_is_left_over() -> None:
    """No plans in comments, no silent gaps."""
    words = "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"])
    assert lines_with(rf"\b({words})\b|raise NotImplemented" + r"Error|# type: ignor" + r"e(?!\[)") == []


# ---- what runs it --------------------------------------------------------------------------------


def test_the_makefile_has_the_promised_targets() -> None:
    """`make run test check bench install` are a contract with scripts."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", text, flags=re.MULTILINE))
    assert {"run", "test", "check", "bench", "install"} <= targets


def test_the_example_names_every_setting() -> None:
    """.env.example and the settings are one list, and every line of it is commented out."""
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    shown = [match[1] for line in lines if (match := re.match(r"#?([A-Z][A-Z_]+)=", line))]
    assert sorted(shown) == sorted(name.upper() for name in Settings.model_fields)
    assert [line for line in lines if line and not line.startswith("#")] == []


def test_the_example_shows_the_defaults(tmp_path: Path) -> None:
    """Uncommented as it stands, .env.example is accepted and changes nothing."""
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    uncommented = tmp_path / ".env"
    uncommented.write_text(re.sub(r"^#(?=[A-Z_]+=)", "", text, flags=re.MULTILINE), encoding="utf-8")
    shown = read_settings(uncommented).model_copy(update={"database_url": None})
    assert shown == read_settings(tmp_path / "absent")
