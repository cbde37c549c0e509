"""A step of GitHub Actions: annotations in its log, the report in its summary."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from cudadoctor.commands.workflow import LIMIT_BYTES, _fitting
from cudadoctor.findings import Evidence, Severity
from cudadoctor.outcomes import Failed
from cudadoctor.render import annotations, markdown
from tests.render.build import finding, report
from tests.render.test_markdown import HOSTILE, everywhere

from .test_check import BROKEN, patient, run

__all__ = ["patient"]


@pytest.fixture
def summary(tmp_path: Path) -> Path:
    """Return the empty file that the runner makes for a step."""
    file = tmp_path / "step summary.md"
    file.touch()
    return file


def step(summary: Path | str, **more: str) -> dict[str, str]:
    return {**BROKEN, "GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary), **more}


def commands(text: str) -> list[tuple[str, dict[str, str], str]]:
    """Return the commands that the runner finds in what was printed: name, properties, message.

    It takes those of the first form at the start of a line, and those of the second anywhere.
    """
    found = []
    for line in text.splitlines():
        assert not re.search(r"##\w*\[", line), line
        if match := re.match(r"\s*::(?P<name>[\w-]+)(?: (?P<properties>.*?))?::(?P<data>.*)", line):
            pairs = (pair.split("=", 1) for pair in (match["properties"] or "").split(",") if pair)
            found.append((match["name"], {k: unescaped(v) for k, v in pairs}, unescaped(match["data"])))
    return found


def unescaped(text: str) -> str:
    for code, char in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, char)
    return text


def test_the_report_is_added_to_the_summary_and_findings_are_annotated(patient: Path, summary: Path) -> None:
    summary.write_text("of an earlier command\n")
    command = ("check", "--prefix", str(patient), "--no-config")
    ran = run(*command, environ=step(summary))
    assert (ran.returncode, ran.stderr) == (1, "")
    text = summary.read_text()
    assert text.startswith("of an earlier command\n## cudadoctor: ") and text.count("## cudadoctor") == 1
    assert "**error** `cuda-home-wrong`" in text
    plain = run(*command, environ=BROKEN)
    assert "::" not in plain.stdout
    shown, _, told = ran.stdout.partition("::error")
    assert shown.splitlines()[:-1] == plain.stdout.splitlines()[:-1], "only the time differs"
    (name, properties, message), *_ = commands(f"::error{told}")
    assert (name, properties["title"]) == ("error", "cudadoctor: cuda-home-wrong")
    assert message.splitlines()[0] == "torch and FlashInfer will take CUDA_HOME=/nowhere/cuda: no such folder"


def test_the_threshold_decides_what_is_annotated(patient: Path, summary: Path) -> None:
    command = ("check", "--prefix", str(patient), "--no-config", "-q", "--fail-on")
    never = run(*command, "never", environ=step(summary))
    assert never.returncode == 0 and commands(never.stdout) == [] and summary.read_text()
    kinds = {name for name, _, _ in commands(run(*command, "note", environ=step(summary)).stdout)}
    assert {"error"} <= kinds <= {"error", "warning", "notice"}


@pytest.mark.parametrize("form", ["json", "markdown", "junit", "sarif"])
def test_other_formats_are_what_they_are(form: str, patient: Path, summary: Path) -> None:
    ran = run("check", "--prefix", str(patient), "--no-config", "--format", form, environ=step(summary))
    assert commands(ran.stdout) == [] and summary.read_text() == ""


@pytest.mark.parametrize("variables", [{"GITHUB_ACTIONS": "false"}, {"GITHUB_ACTIONS": ""}])
def test_elsewhere_nothing_is_written(variables: dict[str, str], patient: Path, summary: Path) -> None:
    ran = run("check", "--prefix", str(patient), "--no-config", environ=step(summary, **variables))
    assert commands(ran.stdout) == [] and summary.read_text() == ""


def test_preflight_annotates_the_line_of_the_script(patient: Path, tmp_path: Path, summary: Path) -> None:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy/serve.sh").write_text("#!/bin/bash\n\nvllm serve /nowhere/model\n")
    options = ("--prefix", str(patient), "--no-config", "--gpu", "h100")
    for script in ("deploy/serve.sh", str(tmp_path / "deploy/serve.sh")):
        ran = run("preflight", *options, "--script", script, cwd=tmp_path, environ=step(summary))
        told = [p for _, p, _ in commands(ran.stdout) if p["title"] == "cudadoctor: model-not-found"]
        assert told == [{"file": "deploy/serve.sh", "line": "3", "title": "cudadoctor: model-not-found"}]


def test_no_secret_and_no_home_folder_reach_the_summary(patient: Path, summary: Path, tmp_path: Path) -> None:
    home = tmp_path / "ada"
    home.mkdir()
    environ = step(summary, HOME=str(home), CUDA_HOME=f"{home}/hf_abcdefGHIJKLMNOPQRSTUVwx")
    ran = run("check", "--prefix", str(patient), "--no-config", environ=environ)
    for text in (summary.read_text(), "".join(message for _, _, message in commands(ran.stdout))):
        assert "CUDA_HOME" in text and "GHIJKL" not in text and str(home) not in text


@pytest.mark.parametrize("what", ["missing folder", "folder", "fifo", "full", "device"])
def test_a_summary_that_cannot_be_written_is_said_and_changes_nothing(
    what: str, patient: Path, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    if what == "missing folder":
        place = place / "summary"
    elif what == "folder":
        place.mkdir()
    elif what == "fifo":
        os.mkfifo(place)
    elif what == "device":
        place = Path("/dev/null")
    else:
        place.write_bytes(b"x" * LIMIT_BYTES)
    ran = run("check", "--prefix", str(patient), "--no-config", environ=step(place))
    assert ran.returncode == 1 and commands(ran.stdout)
    assert ran.stderr.startswith("cudadoctor: GITHUB_STEP_SUMMARY: ") and ran.stderr.count("\n") == 1
    assert ran.stderr.endswith(": no summary is written\n")
    if what == "full":
        assert place.stat().st_size == LIMIT_BYTES


def test_a_summary_that_was_removed_is_made_again(patient: Path, summary: Path) -> None:
    summary.unlink()
    assert run("check", "--prefix", str(patient), "--no-config", environ=step(summary)).stderr == ""
    assert summary.read_text().startswith("## cudadoctor: ")


# --- what is written ----------------------------------------------------------------------------------------


def test_a_report_too_long_for_a_summary_is_cut_at_a_line_and_closed() -> None:
    text = markdown.render(report()) + "\n"
    assert _fitting(text, len(text.encode())) == text.encode()
    for room in range(200, len(text.encode())):
        cut = _fitting(text, room).decode()
        assert len(cut.encode()) <= room and "the rest is in the log of this step" in cut
        kept = cut.partition("\n- ... the rest")[0]
        assert text.startswith(f"{kept}\n") and cut.count("<details>") == cut.count("</details>")
    with pytest.raises(ValueError, match="no room"):
        _fitting(text, 50)


def test_no_more_than_a_few_findings_are_annotated() -> None:
    found = Failed("a", findings=tuple(finding(f"number {number}") for number in range(40)))
    assert len(commands(annotations.render(report(found)))) == 10


def test_nothing_is_annotated_that_fails_nothing() -> None:
    assert annotations.render(report(), None) == ""
    names = [
        properties["title"] for _, properties, _ in commands(annotations.render(report(), Severity.WARNING))
    ]
    assert names == [
        f"cudadoctor: {name}" for name in ("cuda-home-wrong", "cudart-link-missing", "ninja-missing")
    ]


OBEYED = [
    "::error::x", "\n::error::x", "\r::add-mask::a", "##[error]x", "a ##[add-mask]b", "##vso[task.complete]",
    "%0A::x::y", "a,file=b", "a::b", "%25", "%", "##teamcity[x]", "###[error]",
]  # fmt: skip


def assert_inert(hostile: str) -> None:
    told = report(Failed(hostile, findings=(finding(hostile, evidence=(Evidence(hostile, hostile),)),)))
    text = annotations.render(told)
    (name, properties, _), *more = commands(text)
    assert (name, more, text.count("\n")) == ("error", [], 1)
    assert set(properties) <= {"title", "file", "line"} and properties["title"].startswith("cudadoctor: ")
    assert text.isprintable() or not re.search(
        "[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", text
    )
    assert commands(markdown.render(everywhere(hostile))) == []


@pytest.mark.parametrize("hostile", [*HOSTILE, *OBEYED])
def test_nothing_that_was_seen_is_a_command_to_the_runner(hostile: str) -> None:
    assert_inert(hostile)


@given(st.text(st.one_of(st.sampled_from("#:[]%,\n\r x"), st.characters(codec=None, exclude_categories=()))))
def test_no_text_at_all_is_one(hostile: str) -> None:
    assert_inert(hostile)


def test_the_summary_reads_as_the_markdown_report_does() -> None:
    text = markdown.render(report())
    kept = _fitting(text, len(text.encode()) - 10).decode()
    parser = MarkdownIt("commonmark")
    assert [token.type for token in parser.parse(kept)][:3] == ["heading_open", "inline", "heading_close"]
