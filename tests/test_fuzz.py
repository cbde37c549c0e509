"""A short run of `benchmarks.fuzz`, the same each time: nothing read from others crashes or hangs."""

import functools
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from benchmarks.fuzz import backtracking, logs, reports, settings, shapes
from benchmarks.fuzz.__main__ import expressions, own_expressions
from benchmarks.fuzz.running import LIMIT_S, Reader, Trouble, run
from cudadoctor.render.page import Page
from cudadoctor.report import decode, encode

EXAMPLES = 150


@functools.cache
def readers() -> dict[str, Reader]:
    seeds = reports.Seeds(reports.saved())
    found = (*reports.readers(seeds), *logs.readers(), *settings.readers())
    return {reader.name: reader for reader in found}


NAMES = (
    "report: any bytes", "report: any JSON", "report: facts of the right types",
    "report: real facts, changed",
    "report: real facts, spoiled", "diff: two reports", "log: lines of programs, changed", "log: long lines",
    "log: any bytes", "log: files of any encoding", "settings: any bytes", "settings: TOML",
)  # fmt: skip


def test_every_reader_is_tried() -> None:
    assert set(NAMES) == set(readers())


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_is_read_crashes(name: str) -> None:
    examples = EXAMPLES // 5 if name == "log: long lines" else EXAMPLES
    figures = run(readers()[name], examples, 7, examples)
    assert not figures.crashes, "\n".join(f"{each.what}\n{each.example}" for each in figures.crashes.values())
    assert figures.inputs == examples
    assert figures.slowest_ms < LIMIT_S * 1000, figures.slowest


def busy(found: Iterable[tuple[str, re.Pattern[str]]], size: int) -> dict[str, backtracking.Slow]:
    """Return the expressions that such a text keeps busy for half a second."""
    return {name: slow for name, each in found if (slow := backtracking.worst(each, size, 0.5))}


def test_what_every_line_is_searched_for_takes_linear_time() -> None:
    assert not busy(own_expressions(), 100 << 10)


def test_no_expression_of_a_row_takes_a_time_without_end() -> None:
    assert not busy(expressions(), 512)


# --- what it has found --------------------------------------------------------------------------------------

PLACE = {"path": "/x", "variable": "X", "source": "", "nearest": "/x"}
TARGET = {
    "probe": "done", "prefix": "/v", "kind": "venv", "python": "/v/bin/python", "version": "3.12",
    "include": "", "base_prefix": "/usr", "site_packages": [], "chosen_by": "--prefix", "active": True,
}  # fmt: skip
LOADER = {"path": "/lib/ld.so", "machine": "x86_64", "bits": 64, "folders": [], "lib": "lib"}
ENVIRON = {"probe": "done", "variables": {}, "judged": ""}
PACKAGES = {"probe": "done", "distributions": []}
EXTENSION = {"path": "/v/a.so", "distribution": "torch"}
COMPILER_USE = {"consumer": "torch", "job": "link", "command": "g++", "rule": "the default"}
TOOLKITS = {
    "probe": "done", "toolkits": [], "headers": {},
    "selections": [{"consumer": "torch", "root": "/c", "rule": "", "has_nvcc": True, "exists": True}],
}  # fmt: skip
UNRESOLVED = {"path": "/v/b.so", "extension": "/v/b.so", "count": 1}
OBJECTS = {"probe": "done", "loader": LOADER, "python": "/p", "extensions": [EXTENSION]}
FOUND: dict[str, dict[str, object]] = {
    "a place that is not known has no locks": {
        "storage": {"probe": "done", "places": [{**PLACE, "name": "new", "unlocked": "ENOLCK"}]}
    },
    "a place that is not known cannot be written": {
        "storage": {"probe": "done", "places": [{**PLACE, "name": "new", "blocked": "/x"}]},
        "hub": {"probe": "done"},
    },
    "no stage was tried": {"live": {"probe": "done", "stages": []}, "driver": {"probe": "done"}},
    "a stage that is not known fails": {
        "live": {"probe": "done", "stages": [{"name": "new", "ended": "failed"}]},
        "driver": {"probe": "done"},
    },
    "a compiler in use is not among the compilers": {
        "compilers": {"probe": "done", "compilers": {}, "uses": [COMPILER_USE]},
        "libraries": {"probe": "done", "directories": {}, "names": []},
        "packages": {**PACKAGES, "torch": {"version": "2.9.0", "root": "/v/torch", "cuda": "12.8"}},
        "toolkits": TOOLKITS,
    },
    "the interpreter is not among the files": {"objects": OBJECTS},
    "a path leads to a file that is not there": {
        "objects": {**OBJECTS, "files": {"/p": {"needed": ["a.so"]}}, "paths": {"/v/a.so": "/gone"}},
    },
    "symbols are lacking without a name, and in an extension that is not there": {
        "objects": {**OBJECTS, "files": {"/p": {}, "/v/a.so": {}}},
        "symbols": {
            "probe": "done",
            "unresolved": [
                {**UNRESOLVED, "symbols": []},
                {**UNRESOLVED, "symbols": [{"name": "cublasLtCreate", "library": "libcublasLt.so.12"}]},
            ],
        },
    },
}


@pytest.mark.parametrize("what", FOUND)
def test_facts_that_contradict_themselves_crash_no_check(what: str) -> None:
    facts = {"target": TARGET, "environ": ENVIRON, "packages": PACKAGES, **FOUND[what]}
    assert reports.read(shapes.written(facts))


def test_the_kind_of_an_environment_is_shown_and_not_sent() -> None:
    repairs = {"probe": "done", "problem": "/v/cudadoctor: Permission denied"}
    assert reports.read(shapes.written({"target": {**TARGET, "kind": "\x1b[2J"}, "repairs": repairs}))


def test_no_line_of_a_text_is_a_command_to_github_s_runner() -> None:
    assert reports.read(
        shapes.written({"target": {**TARGET, "notes": ["::error::x", " ::stop-commands::y"]}})
    )


# --- the fuzzer itself --------------------------------------------------------------------------------------


def test_an_expression_that_backtracks_is_found() -> None:
    for pattern in (r"(?:a+)+b", r"x.*y.*z.*w"):
        assert backtracking.worst(re.compile(pattern), 1024, 0.05) is not None, pattern
    assert backtracking.worst(re.compile(r"^\[\d{1,9}\] [a-z]+:"), 1024, 0.05) is None


def test_a_crash_is_told_once_with_little_input() -> None:
    reader = readers()["report: real facts, changed"]

    def read(data: bytes) -> bool:
        if b"torch" in data:
            raise ZeroDivisionError("made")
        return True

    figures = run(Reader("made", reader.inputs, read, reports.reduce), 60, 7, 30)
    (crash,) = figures.crashes.values()
    assert crash.count > 1 and "ZeroDivisionError: made" in crash.what
    assert len(crash.example) < 120 and "torch" in crash.example


def test_what_a_terminal_or_a_runner_obeys_is_trouble() -> None:
    for shown in ("a\x1b[2Jb", "a\rb", "\u202eb", "  ::error::x", "a ##[error]b"):
        with pytest.raises(Trouble):
            reports.plain(f"a\n{shown}\n", "text")
    for shown in ("<b>x</b>", "[a](http://x.invalid)", "![](x)", "<script>"):
        with pytest.raises(Trouble):
            reports.harmless(f"- {shown}\n", "Markdown")
    assert reports.harmless("- `<b>` a\n", "Markdown")


def test_less_is_left_until_nothing_can_go() -> None:
    value = {"a": [1, 2, {"b": "xxcuday", "c": 3}], "d": {}}
    assert shapes.smaller(value, lambda less: "cuda" in str(less)) == {"a": [{"b": "cuda"}]}


def test_a_run_ends_with_one_line_of_json() -> None:
    argv = ["--inputs", "40", "--only", "settings", "--seed", "3", "--quick"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fuzz", *argv],
        capture_output=True,
        text=True,
        cwd=reports.TESTS.parent,
    )
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert '"inputs": 4' in last and '"crashes": 0' in last


def test_blanks_without_end_keep_no_line_from_being_wrapped() -> None:
    written = io.StringIO()
    Page(written, 60, False, "").text([], "a" + " " * 1_000_000, "", 4)  # quadratic, it would take minutes
    assert written.getvalue() == "a\n"


def test_json_holds_no_character_that_a_terminal_obeys() -> None:
    held = decode(b'{"facts": {"target": {"probe": "unknown", "reason": "a\\u007fb"}}}')
    assert b"\x7f" not in encode(held)


UNKNOWN = {"probe": "unknown", "reason": "n"}
TARGET = {
    "probe": "done", "prefix": "/", "kind": "v", "python": "/", "version": "3", "base_prefix": "/",
    "site_packages": [], "include": "/", "chosen_by": "-", "active": False,
}  # fmt: skip
LOADER = {"path": "/", "machine": "x", "bits": 64, "folders": [], "lib": "l"}
OBJECTS = {"probe": "done", "loader": LOADER}
FEW: dict[str, object] = {"probe": "done", "toolkits": [], "selections": [], "headers": {}}
TOOLKIT = {"root": "/", "real": "/", "layout": "c", "version": "1", "version_source": "/", "found_by": []}
SELECTION = {"consumer": "torch", "root": "/", "rule": "C", "has_nvcc": True, "exists": True}
UNWRITTEN = (
    (
        {"target": TARGET, "objects": OBJECTS},
        {"target": TARGET, "objects": {**OBJECTS, "files": {"/lib/libc.so.6": {"provides": ["GLIBC_2."]}}}},
    ),
    (
        {"target": UNKNOWN, "toolkits": {**FEW, "headers": {"/cuda/include": {"exists": True}}}},
        {
            "target": UNKNOWN,
            "environ": {"probe": "done", "variables": {}, "judged": "t"},
            "packages": {
                "probe": "done",
                "distributions": [],
                "flashinfer": {"version": "0", "ldflags": [], "ldflags_source": "c"},
            },
            "conda": {"probe": "done", "prefix": ""},
            "toolkits": {
                **FEW,
                "toolkits": [{**TOOLKIT, "include": ["/cuda/include"]}],
                "selections": [{**SELECTION, "consumer": "flashinfer", "root": ""}, SELECTION],
                "headers": {"/cuda/include": {"exists": True, "headers": [""]}},
            },
        },
    ),
)


@pytest.mark.parametrize(
    "facts", UNWRITTEN, ids=("a version without its last number", "a header without a name")
)
def test_diff_takes_facts_that_no_probe_writes(tmp_path: Path, facts: tuple[object, object]) -> None:
    names = [tmp_path / "a.json", tmp_path / "b.json"]
    for name, value in zip(names, facts, strict=True):
        name.write_text(json.dumps(value))
    command = [sys.executable, "-m", "cudadoctor", "diff", "-v", "--no-config", *map(str, names)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode in (0, 1), ran.stderr
