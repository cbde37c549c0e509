"""The report in docs/example is one that replays, as docs/tickets.md says."""

import json
import re
from pathlib import Path

from .commands.test_check import run, verdicts

DOCS = Path(__file__).parents[1] / "docs"
REPORT = DOCS / "example/report.json"


def test_the_example_replays_to_the_verdicts_that_it_holds() -> None:
    held = verdicts(json.loads(REPORT.read_text()))
    again = verdicts(
        json.loads(run("check", "--facts", str(REPORT), "--no-config", "--format", "json").stdout)
    )
    assert {name: again[name][0] for name in held} == {name: held[name][0] for name in held}


def test_the_log_of_the_example_is_confirmed_by_its_report() -> None:
    told = json.loads(
        run("explain", str(DOCS / "example/serve.log"), "--facts", str(REPORT), "--format", "json").stdout
    )
    assert (told["root"]["line"], told["root"]["cause"]) == (23, "linker-libcuda-missing")
    assert told["root"]["here"]["verdict"] == "confirmed"


def test_the_session_in_the_guide_is_what_is_printed() -> None:
    guide = (DOCS / "tickets.md").read_text()
    sessions = re.findall(r"^\$ cudadoctor (.*)\n((?:(?!\$ |```).*\n)*)", guide, re.MULTILINE)
    assert len(sessions) == 2
    for command, printed in sessions:
        said = run(*command.split(), cwd=DOCS.parent).stdout
        assert [_timeless(line) for line in said.splitlines()] == [
            _timeless(line) for line in printed.splitlines()
        ]


def _timeless(line: str) -> str:
    return re.sub(r"\d+\.\d\d s$", "", line.rstrip()).rstrip()
