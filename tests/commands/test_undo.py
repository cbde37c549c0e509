"""`cudadoctor undo` as its user meets it: back to the byte, or one line that says why not."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .test_check import run
from .test_fix import apply, conda, fix, journal_of, library, names, refused, variables

__all__ = ["conda", "library"]


def undo(root: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return run("undo", "--prefix", str(root), *argv, environ=variables(root))


def cut(journal: Path) -> None:
    """Leave a journal as a run that was killed half-way leaves it."""
    lines = journal.read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["record"] in ("begin", "intent")]
    journal.write_text("".join(kept))


def test_everything_is_as_it_was_but_for_the_journal(conda: Path) -> None:
    before = names(conda)
    apply(conda)
    ran = undo(conda)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "removed lib64 -> lib" in ran.stdout and "left:" not in ran.stdout
    left = {name: what for name, what in names(conda).items() if not f"{name}/".startswith("etc/")}
    assert left == before


def test_folders_that_stayed_for_the_journal_are_not_called_removed(conda: Path, tmp_path: Path) -> None:
    (conda / "lib64").symlink_to(tmp_path)
    apply(conda, "cudart-link-missing")
    said = undo(conda).stdout.splitlines()
    assert "  removed folder etc/conda" in said and "  removed folder etc" not in said
    assert not any(line.startswith("  left") for line in said)
    assert [path.name for path in (conda / "etc").iterdir()] == ["cudadoctor"]


def test_runs_are_listed_with_what_they_did(conda: Path) -> None:
    assert "no run has changed" in undo(conda, "--list").stdout
    name = apply(conda)["run"]
    assert f"{name}" in undo(conda, "--list").stdout and "applied" in undo(conda, "--list").stdout
    undo(conda)
    assert "undone" in undo(conda, "--list").stdout


def test_the_last_run_is_taken_back_first(conda: Path) -> None:
    first = apply(conda, "toolkit-headers")["run"]
    apply(conda, "toolkit-links")
    undo(conda)
    assert (conda / "include").is_symlink() and not (conda / "lib64").is_symlink()
    undo(conda, first)
    assert not (conda / "include").is_symlink()
    assert "nothing to undo" in refused(undo(conda))
    assert "is undone already" in refused(undo(conda, first))


def test_an_unknown_run_is_one_line_with_a_guess(conda: Path) -> None:
    name = apply(conda)["run"]
    assert f"did you mean '{name}'?" in refused(undo(conda, f"{name}1"))


def test_what_was_changed_since_is_left_and_named(conda: Path) -> None:
    apply(conda, "cudart-link-missing")
    (conda / "lib64").unlink()
    (conda / "lib64").symlink_to("elsewhere")
    said = refused(undo(conda))
    assert f"{conda}/lib64: is a link to elsewhere" in said and "--force" in said
    assert os.readlink(conda / "lib64") == "elsewhere"
    assert undo(conda, "--force").returncode == 0
    assert not (conda / "lib64").is_symlink()


def test_a_copied_environment_does_not_undo_what_was_done_to_the_first(conda: Path, tmp_path: Path) -> None:
    apply(conda)
    copy = tmp_path / "copy"
    shutil.copytree(conda, copy, symlinks=True)
    said = refused(run("undo", "--prefix", str(copy), environ=variables(conda)))
    assert f"is of another environment: {conda}" in said
    assert (conda / "lib64").is_symlink() and (copy / "lib64").is_symlink()


def test_a_run_that_was_killed_is_completed_or_taken_back(conda: Path) -> None:
    before = names(conda)
    name = apply(conda)["run"]
    cut(journal_of(conda))
    (conda / "include").unlink()
    planned = fix(conda)
    assert f"run {name} was interrupted" in planned.stderr and f"--prefix {conda}" in planned.stderr
    assert f"run {name} was interrupted" in refused(fix(conda, "--apply"))
    assert "interrupted" in undo(conda, "--list").stdout
    ran = fix(conda, "--resume")
    assert ran.stderr == "" and f"completed run {name}" in ran.stdout
    assert os.readlink(conda / "include") == "targets/x86_64-linux/include"
    cut(journal_of(conda))
    assert undo(conda).returncode == 0
    assert {n: w for n, w in names(conda).items() if not f"{n}/".startswith("etc/")} == before


def test_a_journal_that_reaches_out_of_the_environment_is_refused(conda: Path, tmp_path: Path) -> None:
    apply(conda, "cudart-link-missing")
    journal = journal_of(conda)
    precious = tmp_path / "lib64"
    precious.symlink_to("lib")
    journal.write_text(journal.read_text().replace(f'"{conda}/lib64"', f'"{precious}"'))
    assert "is not in this environment" in refused(undo(conda))
    journal.write_text(journal.read_text().replace(f'"{precious}"', f'"{conda}/../lib64"'))
    assert "not inside a folder that may be changed" in refused(undo(conda))
    assert os.readlink(precious) == "lib"


@pytest.mark.parametrize("argv", [["--prefix", "/nowhere"], ["--python", "/nowhere/python"]])
def test_a_target_that_is_none_is_one_line(argv: list[str]) -> None:
    refused(run("undo", *argv))
