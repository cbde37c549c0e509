"""`cudadoctor report` as its user meets it: a block for a ticket, and files beside it."""

import json
import re
from pathlib import Path

import pytest

from .test_check import patient, run, verdicts
from .test_explain import LOG

__all__ = ["patient"]
GITHUB = 65_536


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "serve.log"
    path.write_text(LOG)
    return path


def test_the_findings_come_first_and_the_exit_code_is_that_of_check(patient: Path) -> None:
    ran = run("report", "--prefix", str(patient), "--no-config", environ={"CUDA_HOME": "/nowhere"})
    assert ran.returncode == 1 and ran.stderr == ""
    assert ran.stdout.startswith("## cudadoctor: ")
    assert ran.stdout.index("cuda-home-wrong") < ran.stdout.index("<details>")
    assert ran.stdout.count("<details>") == ran.stdout.count("</details>") >= 3


def test_the_log_is_told_with_the_lines_around_it(patient: Path, log: Path) -> None:
    ran = run("report", "--prefix", str(patient), "--no-config", "--log", str(log))
    part = ran.stdout.partition("### Log")[2]
    assert "linker-cudart-missing" in part and "build stopped" in part
    assert "Initializing a V1 LLM engine" in part


def test_it_fits_a_ticket_and_says_what_was_left_out(patient: Path) -> None:
    site = patient / "lib/python3.11/site-packages"
    for number in range(1500):
        folder = site / f"nvidia_thing_{number}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: nvidia-thing-{number}\nVersion: 1.0\n\n"
        )
    ran = run("report", "--prefix", str(patient), "--no-config")
    assert len(ran.stdout) < GITHUB
    assert "too long for a ticket" in ran.stdout and "--output DIR" in ran.stdout
    assert ran.stdout.count("<details>") == ran.stdout.count("</details>")


def test_the_json_in_it_is_the_report_and_replays(patient: Path, tmp_path: Path) -> None:
    ran = run("report", "--prefix", str(patient), "--no-config", environ={"CUDA_HOME": "/nowhere"})
    found = re.search(r"```json\n(.*)\n```", ran.stdout)
    if found is None:
        pytest.fail("the report of a small environment fits a ticket")
    replayed = run("check", "--facts", "-", "--no-config", "--format", "json", stdin=found[1])
    first, again = verdicts(json.loads(found[1])), verdicts(json.loads(replayed.stdout))
    assert {name: first[name][0] for name in again} == {name: again[name][0] for name in again}


def test_output_writes_the_block_and_the_whole_report_and_never_over_a_file(
    patient: Path, log: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    command = ("report", "--prefix", str(patient), "--no-config", "--log", str(log), "--output", str(folder))
    ran = run(*command)
    assert ran.stdout.splitlines() == [
        f"{folder}/{name}" for name in ("report.md", "report.json", "explanation.json")
    ]
    assert json.loads((folder / "report.json").read_text())["schema_version"] == 1
    assert json.loads((folder / "explanation.json").read_text())["root"]["line"] == 3
    before = (folder / "report.md").read_bytes()
    again = run(*command)
    assert again.returncode == 2 and again.stderr.count("\n") == 1 and "report.md" in again.stderr
    assert (folder / "report.md").read_bytes() == before


def test_a_folder_that_cannot_be_made_is_one_line_before_anything_is_looked_at(patient: Path) -> None:
    ran = run("report", "--prefix", str(patient), "--output", "/proc/none/x", "--log", "/nowhere.log")
    assert ran.returncode == 2 and ran.stderr.count("\n") == 1 and not ran.stdout
    assert "/proc/none/x" in ran.stderr and "nowhere.log" not in ran.stderr


def test_show_masked_names_no_more_than_a_ticket_has_room_for(patient: Path) -> None:
    saved = json.loads(run("check", "--prefix", str(patient), "--no-config", "--format", "json").stdout)
    variables = saved["facts"]["environ"]["variables"]
    for number in range(400):
        name = f"VLLM_{number}_{'LONG_' * 30}API_KEY"
        variables[name] = {"value": f"x{number}secret", "origin": "environment"}
    ran = run("report", "--facts", "-", "--no-config", "--show-masked", stdin=json.dumps(saved))
    assert len(ran.stdout) < GITHUB and "x7secret" not in ran.stdout
    assert re.search(r"^400 values masked: `VLLM_0_LONG_.*, and 300 more$", ran.stdout, re.MULTILINE)


def test_a_saved_report_can_be_made_into_a_ticket(patient: Path) -> None:
    saved = run("check", "--prefix", str(patient), "--no-config", "--format", "json").stdout
    ran = run("report", "--facts", "-", "--no-config", stdin=saved)
    assert "judged from a saved file" in ran.stdout


@pytest.mark.parametrize(
    "given", [("--facts", "-", "--log", "-"), ("--facts", "x.json", "--", "vllm", "serve", "m")]
)
def test_what_cannot_be_meant_is_one_line(given: tuple[str, ...]) -> None:
    ran = run("report", *given, stdin="{}")
    assert ran.returncode == 2 and ran.stderr.count("\n") == 1 and not ran.stdout
    assert "--facts" in ran.stderr and "JSON" not in ran.stderr


def test_whatever_a_log_holds_stays_inside_its_block(patient: Path, log: Path) -> None:
    evil = "</details> ```` @everyone <img src=x> [x](http://y) \x1b[2J \u202e"
    log.write_text(f"{evil}\n{evil} ld: cannot find -lcudart {evil}\n{evil}\n")
    ran = run("report", "--prefix", str(patient), "--no-config", "--log", str(log))
    assert "\x1b" not in ran.stdout and "\u202e" not in ran.stdout
    outside, fence = [], ""
    for line in ran.stdout.splitlines():
        found = re.match(r"\s*(`{3,})\w*$", line)
        if found and (not fence or found[1] == fence):
            fence = "" if fence else found[1]
        elif not fence:
            outside.append(re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", line))
    assert not fence
    text = "\n".join(outside)
    assert "@everyone" not in text and "<img" not in text and "](http" not in text
    assert text.count("</details>") == text.count("<details>")


def test_a_line_of_a_log_is_no_command_to_a_workflow(patient: Path, log: Path) -> None:
    log.write_text("  ::error::mine\nld: cannot find -lcudart\n::stop-commands::x\n")
    ran = run("report", "--prefix", str(patient), "--no-config", "--log", str(log))
    assert "error::mine" in ran.stdout
    assert not [line for line in ran.stdout.splitlines() if line.lstrip().startswith("::")]
