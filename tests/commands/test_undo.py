"""`cudadoctor undo` as its user meets it: back to the byte, or one line that says why not."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cudadoctor.actions import Export, Install, MakeFolder, MakeLink, MoveAside, Step, Version, WriteFile
from cudadoctor.exports import files
from cudadoctor.ground import step_path
from cudadoctor.journal import Begin, Book, Done, Ended, Intent, Record, Started
from cudadoctor.places import IN_PREFIX

from .test_check import run
from .test_fix import apply, conda, fix, journal_of, library, names, refused, variables

__all__ = ["conda", "library"]


def undo(root: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return run("undo", "--prefix", str(root), *argv, environ=variables(root))


def cut(journal: Path) -> None:
    """Leave a journal as a run that was killed in its last step leaves it."""
    lines = journal.read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["record"] in ("begin", "intent", "done")][:-1]
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
    said = refused(undo(conda, f"{name}1"))
    assert f"did you mean '{name}'?" in said and f"(see: cudadoctor undo --list --prefix {conda})" in said


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
    assert "nothing to undo" in said and f"is of another environment: {conda}" in said
    name = journal_of(conda).stem
    said = refused(run("undo", "--prefix", str(copy), name, environ=variables(conda)))
    assert f"run {name} is of another environment: {conda}" in said
    listed = run("undo", "--prefix", str(copy), "--list", environ=variables(conda)).stdout
    assert f"of another environment: {conda}" in listed and "applied" not in listed
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
    assert "is no path as a run writes it" in refused(undo(conda))
    assert os.readlink(precious) == "lib"


@pytest.mark.parametrize("argv", [["--prefix", "/nowhere"], ["--python", "/nowhere/python"]])
def test_a_target_that_is_none_is_one_line(argv: list[str]) -> None:
    refused(run("undo", *argv))


# --- journals as a run leaves them --------------------------------------------------------------------------

NAME = "2026-11-21-1"


def begun(root: Path, *steps: Step, records: tuple[Record, ...] = ()) -> Path:
    """Write the journal of a run that was to do these steps and got as far as these records; return it."""
    book = Book(str(root), IN_PREFIX)
    begin = Begin(NAME, "2026-11-21T00:00:00Z", "0.1", str(root))
    journal = book.begin(begin, [Intent(n, step, f"step {n}") for n, step in enumerate(steps, 1)])
    if records:
        journal.append(*records)
    journal.close()
    book.close()
    return journal_of(root)


def install(root: Path) -> Install:
    """Return the install of ninja by a pip that uninstalls what it is asked to and notes its umask."""
    program = root / "bin/stand-in"
    info = f"{root}/lib/python3.11/site-packages"
    program.write_text(
        f'#!/bin/sh\numask > {root.parent}/umask\nfor name; do rm -rf "{info}/$name"-*.dist-info; done\n'
    )
    program.chmod(0o755)
    before = (Version("flashinfer-python", "0.5.3"), Version("torch", "2.9.0+cu128"))
    return Install("pip", ("ninja",), (str(program), "-m", "pip", "install", "ninja"), before)


def add(root: Path, name: str) -> Path:
    """Install a package as the user does."""
    info = root / f"lib/python3.11/site-packages/{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n\n")
    return info


def cache(root: Path) -> tuple[Path, MoveAside]:
    """Return a cache outside of the environment that a run has moved aside."""
    folder = root.parent / "home/flashinfer"
    (folder / ".ops.cudadoctor-aside/deep").mkdir(parents=True)
    (folder / ".ops.cudadoctor-aside/deep/op.so").touch()
    return folder, MoveAside(f"{folder}/ops", ".ops.cudadoctor-aside")


def test_what_the_user_installed_after_a_killed_run_stays(conda: Path) -> None:
    begun(conda, MakeLink(f"{conda}/lib64", "lib"), install(conda))
    mine = add(conda, "numpy")
    ran = undo(conda)
    assert (ran.returncode, ran.stderr) == (0, "") and "packages" not in ran.stdout
    assert mine.exists() and not (conda.parent / "umask").exists()


def test_where_an_install_was_killed_the_packages_are_named_and_go_by_force(conda: Path) -> None:
    begun(conda, install(conda), records=(Started(1),))
    half, mine = add(conda, "ninja"), add(conda, "numpy")
    said = refused(undo(conda))
    assert "came, went or changed since: ninja, numpy" in said
    assert "what came since is uninstalled" in said and "kept beside" not in said
    assert half.exists() and mine.exists()
    before = os.umask(0o027)
    try:
        ran = undo(conda, "--force")
    finally:
        os.umask(before)
    assert ran.returncode == 0 and not half.exists() and not mine.exists()
    assert (conda.parent / "umask").read_text().strip() == "0027"


def test_a_cache_that_is_gone_with_its_folder_does_not_hold_up_the_rest(conda: Path) -> None:
    folder, aside = cache(conda)
    (conda / "lib64").symlink_to("lib")
    begun(conda, MakeLink(f"{conda}/lib64", "lib"), aside, records=(Done(1), Done(2), Ended("applied")))
    shutil.rmtree(folder)
    assert f"{folder}/ops: is gone" in refused(undo(conda))
    assert "nothing that was moved aside is left" in undo(conda, "--purge").stdout
    ran = undo(conda, "--force")
    assert ran.returncode == 0 and not (conda / "lib64").is_symlink()
    assert f"not brought back: {folder}/ops" in ran.stdout and "  moved" not in ran.stdout


def test_what_is_purged_is_purged_once_and_said_to_stay_gone(conda: Path) -> None:
    folder, aside = cache(conda)
    journal = begun(conda, aside, records=(Ended("applied"),))
    ran = undo(conda, "--purge")
    assert f"removed what was moved aside: {folder}/ops" in ran.stdout and [*folder.iterdir()] == []
    assert undo(conda, "--purge").stdout == "nothing that was moved aside is left\n"
    assert journal.read_text().count('"purged"') == 1
    assert "purged and stays gone: 1 thing\n" in undo(conda).stdout


def test_a_purge_through_a_link_is_refused_in_one_line(conda: Path, tmp_path: Path) -> None:
    inner = conda / "cache/ops"
    inner.parent.mkdir()
    begun(conda, MoveAside(str(inner), ".ops.cudadoctor-aside"), records=(Ended("applied"),))
    outside = tmp_path / "outside"
    (outside / ".ops.cudadoctor-aside").mkdir(parents=True)
    inner.parent.rmdir()
    inner.parent.symlink_to(outside)
    assert "cache on the way there is no folder (a link?)" in refused(undo(conda, "--purge"))
    assert (outside / ".ops.cudadoctor-aside").exists()


def test_a_run_that_cannot_be_purged_does_not_keep_others_from_it(conda: Path, tmp_path: Path) -> None:
    folder, aside = cache(conda)
    (conda / ".x.cudadoctor-aside").touch()
    inner, outer = MoveAside(f"{conda}/x", ".x.cudadoctor-aside"), MakeLink(f"{tmp_path}/y", "lib")
    first = begun(conda, inner, outer, records=(Done(1), Done(2), Ended("applied")))
    second = first.with_name("2026-11-21-2.jsonl")
    text = first.read_text().replace(NAME, "2026-11-21-2")
    first.rename(first.with_suffix(".away"))
    begun(conda, aside, records=(Ended("applied"),))
    second.write_text(text)
    ran = undo(conda, "--purge")
    assert ran.returncode == 2 and "is not in this environment" in ran.stderr
    assert f"{folder}/ops" in ran.stdout and (conda / ".x.cudadoctor-aside").exists()


def test_what_force_has_kept_is_freed(conda: Path) -> None:
    name = apply(conda, "cudart-link-missing")["run"]
    (conda / "lib64").unlink()
    (conda / "lib64").write_text("mine")
    kept = conda / f".cudadoctor-{name}-1.was"
    assert "kept beside" in refused(undo(conda))
    assert f"kept what was in the way: {kept}" in undo(conda, "--force").stdout and kept.read_text() == "mine"
    assert undo(conda, "--purge", name).returncode == 0 and not kept.exists()


def test_a_run_at_work_is_not_called_interrupted(conda: Path) -> None:
    begun(conda, MakeLink(f"{conda}/lib64", "lib"))
    assert "interrupted" in undo(conda, "--list").stdout
    with (conda / "etc/cudadoctor/lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for argv in ([], [NAME], ["--purge"]):
            said = refused(undo(conda, *argv))
            assert "another cudadoctor is at work here (process " in said and "interrupted" not in said
        listed = undo(conda, "--list").stdout
    assert "at work" in listed and "interrupted" not in listed
    assert undo(conda).returncode == 0


def test_the_list_says_why_a_run_was_taken_back(conda: Path) -> None:
    begun(
        conda, MakeLink(f"{conda}/lib64", "lib"), records=(Ended("rolled back", "No space left on device"),)
    )
    assert "step 1 (No space left on device)" in undo(conda, "--list").stdout


def test_nothing_is_hashed_where_there_is_no_state_folder(conda: Path) -> None:
    begun(conda, MakeLink(f"{conda}/lib64", "lib"))
    code = (
        "import sys; from cudadoctor.cli import main\n"
        f"sys.argv = ['cudadoctor', 'undo', '--list', '--prefix', {str(conda)!r}]\n"
        "main(); sys.exit('hashlib' in sys.modules)"
    )
    for status in (0, 1):
        environ = {**os.environ, **variables(conda)}
        assert subprocess.run([sys.executable, "-c", code], env=environ, check=False).returncode == status
        (conda.parent / "state/cudadoctor").mkdir(parents=True, exist_ok=True)


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit is not on PATH")
def test_a_journal_that_cannot_be_written_is_told_in_words(conda: Path) -> None:
    begun(conda, MakeLink(f"{conda}/lib64", "lib"))
    command = ["prlimit", "--fsize=0", sys.executable, "-m", "cudadoctor", "undo", "--prefix", str(conda)]
    environ = {**os.environ, **variables(conda)}
    ran = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    assert f"no journal can be kept: {conda}/etc/cudadoctor/lock: File too large" in refused(ran)


# --- others' journals, other runs ---------------------------------------------------------------------------


def damaged(journal: Path) -> Path:
    """Return a journal beside this one, of the same day, that is of a later version."""
    beside = journal.with_name(f"{journal.stem.rpartition('-')[0]}-7.jsonl")
    beside.write_text(journal.read_text().replace('"version":1', '"version":2').replace('"done"', '"did"'))
    return beside


def test_a_journal_that_cannot_be_read_is_listed_and_keeps_no_run_from_being_undone(conda: Path) -> None:
    name = apply(conda, "cudart-link-missing")["run"]
    other = damaged(journal_of(conda))
    why = "is of version 2, by cudadoctor"
    planned = fix(conda)
    assert planned.returncode == 1 and planned.stderr == "" and "repair-interrupted" in planned.stdout
    listed = undo(conda, "--list")
    assert listed.stderr == "" and "unreadable" in listed.stdout and why in listed.stdout
    for ran in (undo(conda), undo(conda, "--force"), fix(conda, "--apply")):
        said = refused(ran)
        assert f"{other}: {why}" in said and f"under another name ({other.name}.damaged)" in said
    assert why in refused(undo(conda, other.stem))
    assert "a journal cannot be read" in undo(conda, "--purge").stderr
    assert undo(conda, name).returncode == 0
    other.rename(f"{other}.damaged")
    assert apply(conda)["run"].endswith("-8"), "the name is not given again"


def test_a_copy_that_was_made_in_the_middle_of_a_run_can_be_repaired(conda: Path, tmp_path: Path) -> None:
    apply(conda, "cudart-link-missing")
    cut(journal_of(conda))
    copy = tmp_path / "copy"
    shutil.copytree(conda, copy, symlinks=True)
    environ = {**variables(conda), "CUDA_HOME": str(copy)}
    ran = run("fix", "--prefix", str(copy), "--no-config", "--apply", environ=environ)
    assert ran.stderr == "" and "interrupted" not in ran.stdout
    assert (copy / "include").is_symlink()
    assert run("undo", "--prefix", str(copy), environ=environ).returncode == 0
    assert not (copy / "include").is_symlink() and (copy / "lib64").is_symlink()


@pytest.mark.parametrize("argv", [[], ["--purge"], ["--force"]])
@pytest.mark.parametrize("aside", ["../../victim/precious", "..", ".zz.cudadoctor-aside/../../.."])
def test_a_planted_name_leads_nowhere(conda: Path, tmp_path: Path, aside: str, argv: list[str]) -> None:
    (tmp_path / "victim/precious").mkdir(parents=True)
    (tmp_path / "victim/precious/file").touch()
    begun(conda, MoveAside(f"{conda}/lib/zz", aside), records=(Done(1), Ended("applied")))
    before = names(tmp_path)
    assert "is no name that a run gives" in undo(conda, *argv).stderr
    left = {name: what for name, what in names(tmp_path).items() if not name.endswith("/lock")}
    assert left == {name: what for name, what in before.items() if not name.endswith("/lock")}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_users_journal_moves_nothing_outside(conda: Path) -> None:
    folder, aside = cache(conda)
    journal = begun(conda, aside, records=(Done(1), Ended("applied")))
    os.chown(journal, 1234, 1234)
    for argv in ([], ["--force"], ["--purge"]):
        said = refused(undo(conda, *argv)) if argv != ["--purge"] else undo(conda, *argv).stderr
        assert f"is another user's, and about {folder}/ops, which is not in this environment" in said
    assert (folder / ".ops.cudadoctor-aside/deep/op.so").exists()


def test_of_two_runs_over_the_same_the_later_one_is_undone_first(conda: Path) -> None:
    before = names(conda)
    first = apply(conda, "cudart-link-missing")["run"]
    (conda / "lib64").unlink()
    second = apply(conda, "cudart-link-missing")["run"]
    for argv in ([first], [first, "--force"]):
        said = refused(undo(conda, *argv))
        assert f"run {second} came later and is about the same ({conda}/lib64)" in said
        assert f"undo that one first: cudadoctor undo {second} --prefix {conda}" in said
    assert undo(conda, second).returncode == 0 and undo(conda, first).returncode == 0
    assert {n: w for n, w in names(conda).items() if not f"{n}/".startswith("etc/")} == before


def activated(conda: Path) -> dict[str, str]:
    """Return the variables of a shell in which a run of ours has set MAX_JOBS by activation."""
    exports = [Export("MAX_JOBS", "4")]
    steps: list[Step] = [
        MakeFolder(f"{conda}/{name}")
        for name in ("etc/conda", "etc/conda/activate.d", "etc/conda/deactivate.d")
    ]
    made = files("conda", str(conda), exports, lambda _: None).files
    steps += [WriteFile(path, content) for path, content in sorted(made.items())]
    done = [Done(number) for number in range(1, len(steps) + 1)]
    begun(conda, *steps, records=(*done, Ended("applied")))
    for step in steps:
        path = Path(step_path(step))
        path.mkdir() if isinstance(step, MakeFolder) else path.write_bytes(made[str(path)])
    return {**variables(conda), "CONDA_PREFIX": str(conda), "MAX_JOBS": "4"}


@pytest.mark.parametrize("jobs", ["4", "8"])
def test_a_shell_that_has_the_exports_still_is_told_so(conda: Path, jobs: str) -> None:
    ran = run("undo", "--prefix", str(conda), environ={**activated(conda), "MAX_JOBS": jobs})
    assert (ran.returncode, ran.stderr) == (0, "") and not (conda / "etc/conda").exists()
    said = "An open shell still has MAX_JOBS as the run left it: open a new one."
    assert (said in ran.stdout.splitlines()) is (jobs == "4")


@pytest.mark.parametrize("stands", ["nothing", "a file", "a link"])
def test_a_folder_that_is_gone_leaves_no_run_half_undone(conda: Path, tmp_path: Path, stands: str) -> None:
    environ = activated(conda)
    shutil.rmtree(conda / "etc/conda")
    if stands == "a file":
        (conda / "etc/conda").touch()
    elif stands == "a link":
        (conda / "etc/conda").symlink_to(tmp_path)
    if stands != "nothing":
        assert "etc/conda" in refused(undo(conda))
    ran = run("undo", "--prefix", str(conda), "--force", environ=environ)
    assert (ran.returncode, ran.stderr) == (0, "")
    listed = undo(conda, "--list").stdout
    assert "undone" in listed and "interrupted" not in listed


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_where_nothing_may_be_written_no_undo_is_begun(conda: Path) -> None:
    apply(conda, "cudart-link-missing")
    conda.chmod(0o555)
    said = refused(undo(conda))
    conda.chmod(0o755)
    assert f"{conda}: may not be written to by this user" in said
    assert "applied" in undo(conda, "--list").stdout


@pytest.mark.parametrize("name", [b"caf\xe9", "café".encode()])
def test_a_folder_whose_name_no_journal_can_hold_is_one_line(
    tmp_path: Path, conda: Path, name: bytes
) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    conda.rename(odd)
    environ = {**variables(conda), "CUDA_HOME": str(odd)}
    command = [sys.executable, "-m", "cudadoctor", "fix", "--prefix", str(odd), "--no-config", "--apply"]
    ran = subprocess.run(command, capture_output=True, env={**os.environ, **environ}, check=False)
    if name == b"caf\xe9":
        assert (
            ran.returncode == 2
            and b"is not UTF-8: a journal cannot hold it: nothing was changed" in ran.stderr
        )
        assert ran.stderr.count(b"\n") == 1 and not (odd / "lib64").is_symlink()
    else:
        assert ran.stderr == b"" and (odd / "lib64").is_symlink()


def test_runs_in_the_environment_and_in_the_users_folder_have_names_of_their_own(
    conda: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (conda / "etc").symlink_to(tmp_path / "outside")
    first = apply(conda, "cudart-link-missing")["run"]
    (journal,) = (tmp_path / "state").rglob("*.jsonl")
    assert journal.stem == first and journal.parent.stat().st_mode & 0o777 == 0o700
    (conda / "etc").unlink()
    second = apply(conda, "toolkit-headers")["run"]
    assert journal_of(conda).stem == second != first
    assert undo(conda, first).returncode == 0
    assert not (conda / "lib64").is_symlink() and (conda / "include").is_symlink()
