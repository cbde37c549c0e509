"""The figures of `python -m benchmarks.explain`, which others are judged by."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.explain import Judged, summary

CASES = (
    {"id": "a", "cause": "linker-cudart-missing", "log": "/usr/bin/ld: cannot find -lcudart"},
    {"id": "b", "cause": "linker-cudart-missing", "log": "nothing of it"},
    {"id": "c", "cause": "none", "log": "all is well"},
    {"id": "d", "cause": "none", "log": "/usr/bin/ld: cannot find -lcudart"},
)


def judged(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.explain", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])


def figures(tmp_path: Path, *cases: dict[str, Any]) -> Any:
    file = tmp_path / "cases.jsonl"
    file.write_text("".join(json.dumps(case) + "\n" for case in cases))
    return json.loads(judged(str(file)).stdout.splitlines()[-1])


def test_the_last_line_has_the_figures(tmp_path: Path) -> None:
    told = figures(tmp_path, *CASES)
    assert (told["cases"], told["precision"], told["recall"], told["harmless_blamed"]) == (4, 0.5, 0.5, 1)


def test_the_misses_are_told_with_what_was_named_instead(tmp_path: Path) -> None:
    file = tmp_path / "cases.jsonl"
    file.write_text("".join(json.dumps(case) + "\n" for case in CASES))
    said = judged(str(file)).stdout
    assert "miss b: linker-cudart-missing, named none" in said
    assert "miss d: none, named linker-cudart-missing" in said


def test_what_only_looks_like_trouble_is_named_and_is_no_blame() -> None:
    told = summary([Judged("a", "capability-warning-cosmetic", "capability-warning-cosmetic", "")])
    assert (told["precision"], told["recall"], told["harmless_blamed"]) == (1.0, 1.0, 0)


def test_a_file_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("[1]\n")
    for name in (str(tmp_path / "none.jsonl"), str(tmp_path / "x.jsonl")):
        ran = judged(name)
        assert ran.returncode == 2 and ran.stderr.count("\n") == 1
