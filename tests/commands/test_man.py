"""`cudadoctor man`: the manual page says what the parser says, and the programs for such pages take it."""

import argparse
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cudadoctor.cli import EPILOG, build_parser
from cudadoctor.commands.man import page
from cudadoctor.render import manual

from .test_check import run


def plain(tmp_path: Path) -> str:
    """Return the page as groff prints it, without its boldface; skip where groff is not installed."""
    groff = need("groff")
    file = tmp_path / "cudadoctor.1"
    file.write_text(page())
    command = [groff, "-man", "-ww", "-Tutf8", "-P-cbou", "-rLL=500n", str(file)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stderr == "", "groff warns"
    return ran.stdout


def need(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        if os.environ.get("CUDADOCTOR_REQUIRE_REAL") == "1":
            pytest.fail(f"{program} is not installed")
        pytest.skip(f"{program} is not installed")
    return found


def commands() -> dict[str, argparse.ArgumentParser]:
    (action,) = [a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction)]
    return dict(action.choices)


def section(text: str, command: str) -> str:
    """Return the part of the printed page that is about one command."""
    start = text.index(f"\n   cudadoctor {command}")
    ends = [text.find(mark, start + 4) for mark in ("\n   cudadoctor ", "\nEXIT STATUS")]
    return text[start : min(end for end in ends if end > 0)]


def options(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    return (a for a in parser._actions if not isinstance(a, argparse._HelpAction))


def test_the_page_is_printed_as_it_is_published() -> None:
    ran = run("man")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == (Path(__file__).parents[2] / "docs/cudadoctor.1").read_text(), "run: python -m docs"


def test_it_does_not_depend_on_the_terminal() -> None:
    assert run("man", environ={"COLUMNS": "30"}).stdout == run("man", environ={"COLUMNS": "300"}).stdout


def test_every_command_with_every_option_and_its_help_is_in_it(tmp_path: Path) -> None:
    text = plain(tmp_path)
    for name, parser in commands().items():
        told = section(text, name)
        assert (parser.description or "?") in told
        for action in options(parser):
            for option in action.option_strings:
                assert option in told, f"{name} {option}"
            for choice in action.choices or ():
                assert str(choice) in told, f"{name} {choice}"
            assert not action.help or action.help in told, f"{name}: {action.help}"


def test_exit_codes_variables_files_and_examples_are_in_it(tmp_path: Path) -> None:
    text = plain(tmp_path)
    for line in EPILOG.splitlines()[1:]:
        assert line.strip() in text
    for title in ("NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES"):
        assert f"\n{title}\n" in text
    for term, _ in (*manual.ENVIRONMENT, *manual.FILES):
        assert f"       {term}\n" in text
    assert "cudadoctor check --format json > report.json" in text


def test_what_mandoc_warns_of_is_the_date_that_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "cudadoctor.1"
    file.write_text(page())
    ran = subprocess.run([need("mandoc"), "-Tlint", "-Wwarning", str(file)], capture_output=True, text=True)
    warnings = [line for line in ran.stdout.splitlines() if "missing date" not in line]
    assert warnings == [] and ran.stderr == ""


def test_man_shows_it(tmp_path: Path) -> None:
    file = tmp_path / "cudadoctor.1"
    file.write_text(page())
    command = [need("man"), "--warnings", "-l", str(file)]
    ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "MANWIDTH": "80"})
    assert ran.returncode == 0 and ran.stderr == "" and "CUDADOCTOR(1)" in ran.stdout


@pytest.mark.parametrize("text", [".TH", "'x", "\\fB", "a\\e", "-x", "…", "\\\\", "\\(bu"])
def test_a_text_is_shown_as_it_stands(text: str, tmp_path: Path) -> None:
    parser = argparse.ArgumentParser(prog="x", description=text, formatter_class=argparse.HelpFormatter)
    file = tmp_path / "x.1"
    file.write_text(manual.render(parser, "1", ""))
    command = [need("groff"), "-man", "-ww", "-Tutf8", "-P-cbou", str(file)]
    assert f"\n       {text}\n" in subprocess.run(command, capture_output=True, text=True).stdout
