"""`cudadoctor fix` as its user meets it: what it writes, where it refuses, and what it says in one line."""

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cudadoctor.cli import build_parser
from cudadoctor.commands.book import Bench, installer_of
from cudadoctor.commands.doctor import Doctor
from cudadoctor.journal import Intent
from cudadoctor.mistakes import UserMistake
from cudadoctor.plan import Plan
from cudadoctor.transaction import Failed, carry_out, new_run

from .test_check import run

SOURCE = "int cudaRuntimeGetVersion(int* v) { return 0; }\nint cuInit(int f) { return 0; }\n"


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Path], None]:
    """Return what puts a shared library with this soname at a path."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not on PATH")
    folder = tmp_path_factory.mktemp("source")
    (folder / "x.c").write_text(SOURCE)

    def make(soname: str, path: Path) -> None:
        flags = ["-shared", "-fPIC", f"-Wl,-soname,{soname}"]
        subprocess.run(["gcc", *flags, "-o", str(path), str(folder / "x.c")], check=True)

    return make


@pytest.fixture
def conda(tmp_path: Path, library: Callable[[str, Path], None]) -> Path:
    """Return a conda environment in small, in which neither -lcudart nor -lcuda is found."""
    root = tmp_path / "env"
    site = root / "lib/python3.11/site-packages"
    include = root / "targets/x86_64-linux/include"
    for folder in (root / "bin", root / "conda-meta", root / "lib/stubs", site / "torch", include):
        folder.mkdir(parents=True)
    for name in ("python3", "nvcc"):
        (root / "bin" / name).write_text("#!/bin/sh\n")
        (root / "bin" / name).chmod(0o755)
    (root / "conda-meta/history").touch()
    (include / "cuda.h").write_text("#define CUDA_VERSION 12080\n")
    (include / "cuda_runtime_api.h").write_text("#define CUDART_VERSION 12080\n")
    library("libcudart.so.12", root / "lib/libcudart.so.12")
    (root / "lib/libcudart.so").symlink_to("libcudart.so.12")
    library("libcuda.so.1", root / "lib/stubs/libcuda.so")
    for name, version in (("torch", "2.9.0+cu128"), ("flashinfer_python", "0.5.3")):
        info = site / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\n")
    (site / "torch/version.py").write_text("__version__ = '2.9.0+cu128'\ncuda = '12.8'\n")
    return root


def variables(root: Path) -> dict[str, str]:
    """Return the variables that every run on this environment gets; its state folder is the test's own."""
    return {"CUDA_HOME": str(root), "XDG_STATE_HOME": str(root.parent / "state")}


def fix(root: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return run("fix", "--prefix", str(root), "--no-config", *argv, environ=variables(root))


def apply(root: Path, *argv: str) -> Any:
    """Carry the plan out and return the JSON of what came of it."""
    ran = fix(root, "--apply", "--format", "json", *argv)
    assert ran.stderr == "" and ran.returncode in (0, 1)
    return json.loads(ran.stdout)


def refused(ran: subprocess.CompletedProcess[str]) -> str:
    """Return the one line of a run that was refused."""
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1), ran
    return ran.stderr


def names(root: Path) -> dict[str, str]:
    """Return everything below a folder: what a link says, else the content."""
    return {
        str(path.relative_to(root)): os.readlink(path) if path.is_symlink() else
        path.read_bytes().hex() if path.is_file() else "folder"
        for path in sorted(root.rglob("*"))
    }  # fmt: skip


def journal_of(root: Path) -> Path:
    (path,) = (root / "etc/cudadoctor/journal").glob("*.jsonl")
    return path


# --- what it shows and does ---------------------------------------------------------------------------------


def test_without_apply_nothing_is_changed(conda: Path) -> None:
    before = names(conda.parent)
    ran = fix(conda)
    assert ran.returncode == 1 and ran.stderr == ""
    assert "lib64 -> lib" in ran.stdout and "Nothing was changed" in ran.stdout
    assert names(conda.parent) == before


def test_the_command_that_is_offered_does_what_was_shown(conda: Path) -> None:
    shown = fix(conda, "cudart-link-missing").stdout
    offered = shown.partition("Apply with: ")[2].split()
    assert offered[0] == "cudadoctor"
    ran = run(*offered[1:], "--no-config", environ=variables(conda))
    assert os.readlink(conda / "lib64") == "lib" and not (conda / "include").exists()
    offered = ran.stdout.partition("undo with: ")[2].splitlines()[0].split()
    assert run(*offered[1:], environ=variables(conda)).returncode == 0
    assert not (conda / "lib64").is_symlink()


def test_what_is_applied_is_what_was_planned_and_a_second_run_has_nothing_to_do(conda: Path) -> None:
    planned = json.loads(fix(conda, "--format", "json").stdout)
    done = apply(conda)
    assert done["lines"] == planned["lines"] and sorted(done["cleared"]) == sorted(done["predicted_cleared"])
    assert done["left"] == done["predicted_left"] == planned["predicted_left"]
    again = json.loads(fix(conda, "--apply", "--format", "json").stdout)
    assert again.get("lines", []) == [] and "run" not in again
    assert journal_of(conda).exists()


def test_a_fix_can_be_asked_for_by_its_own_name(conda: Path) -> None:
    assert [line["fix"] for line in apply(conda, "toolkit-headers")["lines"]] == ["toolkit-headers"]
    assert os.readlink(conda / "include") == "targets/x86_64-linux/include"
    assert not (conda / "lib64").exists()


def test_a_saved_report_gives_a_plan_without_a_prediction(conda: Path, tmp_path: Path) -> None:
    saved = tmp_path / "report.json"
    argv = ("check", "--prefix", str(conda), "--no-config", "--format", "json")
    saved.write_text(run(*argv, environ=variables(conda)).stdout)
    shutil.rmtree(conda)
    ran = run("fix", "--facts", str(saved), "--no-config")
    assert ran.stderr == "" and ran.returncode == 1
    assert (
        "nothing is predicted" in ran.stdout and "apply there" in ran.stdout and "lib64 -> lib" in ran.stdout
    )
    plan = json.loads(run("fix", "--facts", str(saved), "--no-config", "--format", "json").stdout)
    assert plan["replayed"] and "predicted_cleared" not in plan


def test_a_healthy_environment_has_nothing_to_fix(tmp_path: Path) -> None:
    subprocess.run(["python3", "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    ran = run("fix", "--prefix", str(tmp_path / "venv"), "--no-config", "--apply")
    assert ran.returncode == 0 and "nothing to fix" in ran.stdout
    assert not (tmp_path / "venv/etc").exists()


# --- bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["cudart-link-misssing"], "did you mean 'cudart-link-missing'?"),
        (["toolkit-link"], "did you mean 'toolkit-links'?"),
        (["--resume"], "nothing to complete"),
        (["--resume", "--apply"], "takes no names and no --apply"),
        (["--format", "script", "--apply"], "give one of them"),
    ],
)
def test_what_makes_no_sense_is_one_line(conda: Path, argv: list[str], says: str) -> None:
    before = names(conda.parent)
    assert says in refused(fix(conda, *argv))
    assert names(conda.parent) == before


def test_a_saved_report_cannot_be_applied(tmp_path: Path) -> None:
    saved = tmp_path / "report.json"
    saved.write_text("{}")
    assert "is of another" in refused(run("fix", "--facts", str(saved), "--apply"))


@pytest.mark.parametrize(
    "garbage", [b"garbage\n", b"\xff\xfe\n", b'{"record":"undone"}\n', b"[" * 9000 + b"\n"]
)
@pytest.mark.parametrize("argv", [["fix", "--no-config", "--apply"], ["undo"]])
def test_a_damaged_journal_is_named_with_its_line(conda: Path, garbage: bytes, argv: list[str]) -> None:
    apply(conda, "cudart-link-missing")
    journal = journal_of(conda)
    journal.write_bytes(journal.read_bytes() + garbage)
    said = refused(run(*argv, "--prefix", str(conda), environ=variables(conda)))
    assert f"{journal}: line 5" in said
    assert os.readlink(conda / "lib64") == "lib"


def test_two_at_once_are_kept_apart(conda: Path) -> None:
    folder = conda / "etc/cudadoctor"
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another cudadoctor is at work here" in refused(fix(conda, "--apply"))
    assert not (conda / "lib64").exists()
    assert apply(conda)["run"]


# --- hostile ground -----------------------------------------------------------------------------------------


def test_nothing_is_written_through_an_etc_that_leads_outside(conda: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "cudadoctor/journal").mkdir(parents=True)
    (conda / "etc").symlink_to(outside)
    before = names(outside)
    apply(conda)
    assert names(outside) == before
    assert [*(tmp_path / "state").rglob("*.jsonl")], "the journal is in the user's own folder then"
    assert run("undo", "--prefix", str(conda), environ=variables(conda)).returncode == 0
    assert not (conda / "lib64").is_symlink()


def test_activation_files_are_not_written_through_an_etc_that_leads_outside(
    conda: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (conda / "etc").symlink_to(outside)
    (conda / "lib64").symlink_to(outside)  # no link can be made: an export is what is left
    ran = fix(conda, "--apply", "cudart-link-missing")
    assert ran.returncode == 1 and "etc on the way there is no folder (a link?)" in ran.stdout
    assert [*outside.iterdir()] == [] and not (tmp_path / "state").exists()


def test_where_anyone_may_write_nothing_is_made(conda: Path) -> None:
    conda.chmod(0o777)
    before = names(conda)
    ran = fix(conda, "--apply")
    conda.chmod(0o755)
    assert ran.returncode == 1 and f"{conda}: anyone may write there" in ran.stdout
    assert names(conda) == before


class Planned:
    """A plan that is made and not yet carried out: there is time for someone else."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in variables(root).items():
            monkeypatch.setenv(name, value)
        doctor = Doctor.of(build_parser().parse_args(["fix", "--prefix", str(root), "--no-config"]))
        patient = doctor.patient()
        self.bench: Bench = patient.bench
        self.plan: Plan = doctor.planned(patient.report, patient)

    def carry_out(self) -> None:
        intents = [Intent(n, step, "") for n, (_, step) in enumerate(self.plan.steps, 1)]
        book = self.bench.book()
        try:
            begin = new_run(book, self.bench.prefix, "test")
            carry_out(book, self.bench.ground, begin, intents, installer_of(self.bench), lambda _: None)
        finally:
            book.close()


@pytest.mark.parametrize(("planted", "other"), [("lib64", "include"), ("include", "lib64")])
def test_a_link_that_was_planted_since_the_plan_is_a_conflict(
    conda: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: str, other: str
) -> None:
    planned = Planned(conda, monkeypatch)
    outside = tmp_path / "outside"
    outside.mkdir()
    (conda / planted).symlink_to(outside)
    with pytest.raises(Failed, match=f"{conda}/{planted}: is a link to {outside}") as failed:
        planned.carry_out()
    assert failed.value.restored
    assert [*outside.iterdir()] == [] and os.readlink(conda / planted) == str(outside)
    assert not (conda / other).is_symlink(), "what was done before it is taken back"


def test_a_file_that_was_replaced_since_the_plan_is_a_conflict(
    conda: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (conda / "lib64").mkdir()
    monkeypatch.setenv("LIBRARY_PATH", "")
    planned = Planned(conda, monkeypatch)
    script = conda / "etc/conda/activate.d/cudadoctor.sh"
    changed = [getattr(step, "path", "") for _, step in planned.plan.steps]
    if str(script) not in changed:
        pytest.skip(f"the plan writes no activation file: {changed}")
    script.parent.mkdir(parents=True)
    script.write_text("export MINE=1\n")
    with pytest.raises(Failed, match="a file stands there"):
        planned.carry_out()
    assert script.read_text() == "export MINE=1\n"


def test_a_folder_swapped_for_a_link_since_the_plan_is_not_followed(
    conda: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = Planned(conda, monkeypatch)
    moved = conda.rename(tmp_path / "moved")
    outside = tmp_path / "outside"
    outside.mkdir()
    conda.symlink_to(outside)
    with pytest.raises((Failed, UserMistake)):
        planned.carry_out()
    assert [*outside.iterdir()] == [], "the folder that was looked at is the one that is changed"
    assert moved.exists()
