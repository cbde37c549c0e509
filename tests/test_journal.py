"""Journals as files: what is read back, what is torn off, what is refused, and who is let in."""

import os
from pathlib import Path

import pytest
from msgspec import structs

from cudadoctor.actions import Install, MakeLink, MoveAside, Step, TurnLink, Version, Was, WriteFile
from cudadoctor.ground import Conflict
from cudadoctor.host import RealHost
from cudadoctor.journal import (
    Begin,
    Book,
    Busy,
    Done,
    Ended,
    Intent,
    Record,
    Run,
    Started,
    Undoing,
    Undone,
    Unreadable,
    ordered,
    parse,
    read_runs,
)
from cudadoctor.places import IN_PREFIX, folders, in_state

BEGIN = Begin("2026-11-21-1", "2026-11-21T00:00:00Z", "0.1", "/env")
STEPS: tuple[Step, ...] = (MakeLink("/env/lib64", "lib"), Install("pip", ("ninja",)))
INTENTS = tuple(Intent(number, step, "") for number, step in enumerate(STEPS, 1))


def written(root: Path, *records: Record) -> Path:
    """Write a journal with these records behind its beginning; return it."""
    book = Book(str(root), IN_PREFIX)
    journal = book.begin(BEGIN, INTENTS)
    for record in records:
        journal.append(record)
    journal.close()
    book.close()
    return root / IN_PREFIX / "journal/2026-11-21-1.jsonl"


def run(root: Path, *records: Record) -> Run:
    path = written(root, *records)
    return parse(str(path), path.read_bytes())


def only(root: Path) -> Run | Unreadable:
    (found,) = read_runs(RealHost(), f"{root}/{IN_PREFIX}")
    return found


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    records = (Done(1), Started(2), Done(2, (Version("ninja", "1.11"),)), Ended("applied"))
    found = run(tmp_path, *records)
    assert found.records == (structs.replace(BEGIN, steps=2), *INTENTS, *records)
    assert only(tmp_path) == found


@pytest.mark.parametrize(
    ("records", "status", "why", "forced"),
    [
        ((), "interrupted", "", False),
        ((Done(1), Ended("applied")), "applied", "", False),
        ((Ended("rolled back", "no space"),), "rolled back", "no space", False),
        ((Ended("applied", "completed"), Undoing("now", True)), "undo interrupted", "", True),
        ((Ended("applied"), Undoing("then", True), Undoing("now"), Ended("undone")), "undone", "", False),
    ],
)
def test_the_last_word_tells_how_a_run_stands(
    tmp_path: Path, records: tuple[Record, ...], status: str, why: str, forced: bool
) -> None:
    found = run(tmp_path, *records)
    assert (found.status, found.why, found.forced) == (status, why, forced)
    assert found.is_open is status.endswith("interrupted")


def test_an_installer_that_was_started_again_is_counted(tmp_path: Path) -> None:
    found = run(tmp_path, Started(2), Started(2), Done(2, (Version("ninja", "1.11"),)))
    assert [found.starts(number) for number in (1, 2)] == [0, 2]
    assert found.installed(1) is None and found.installed(2) == (Version("ninja", "1.11"),)


@pytest.mark.parametrize(
    ("kept", "counts"),
    [
        ("/env/.cudadoctor-2026-11-21-1-1.was", True),
        ("/env/.cudadoctor-2026-11-21-1-1.was-2", True),
        ("/env/.cudadoctor-2026-11-21-1-2.was", False),
        ("/env/.cudadoctor-2026-11-21-1-1.was-x", False),
        ("/env/.cudadoctor-2026-11-21-1-1.was\0", False),
        ("/env/lib/.cudadoctor-2026-11-21-1-1.was", False),
        ("/env/precious", False),
        ("", False),
    ],
)
def test_only_a_name_that_an_undo_gives_is_what_it_has_kept(tmp_path: Path, kept: str, counts: bool) -> None:
    found = run(tmp_path, Undoing("now", True), Undone(1, kept))
    assert found.kept(INTENTS[0]) == (kept if counts else "") and found.undone() == {1}


def test_a_last_line_that_was_torn_off_does_not_count_and_is_cut_off(tmp_path: Path) -> None:
    path = written(tmp_path, Done(1))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"record":"do')
    found = only(tmp_path)
    assert isinstance(found, Run)
    book = Book(str(tmp_path), IN_PREFIX)
    book.reopen(found).close()
    assert path.read_bytes() == whole and book.read(found).records == found.records
    book.close()


def test_a_journal_of_a_later_version_is_told_as_such(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_text(
        path.read_text().replace('"version":1', '"version":2').replace('"0.1"', '"3.0"')
        + '{"record":"what a later one writes"}\n'
    )
    why = "is of version 2, by cudadoctor 3.0: a newer cudadoctor wrote it"
    assert only(tmp_path) == Unreadable(str(path), why)


def test_a_journal_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.unlink()
    path.mkdir()
    assert only(tmp_path) == Unreadable(str(path), "not a regular file")


def test_runs_of_one_day_are_in_the_order_of_their_numbers() -> None:
    names = ["2026-11-21-10.jsonl", "2026-11-21-9.jsonl", "2026-11-20-11.jsonl", ".x.new", "notes"]
    assert ordered(names) == ["2026-11-20-11.jsonl", "2026-11-21-9.jsonl", "2026-11-21-10.jsonl"]


def test_who_holds_the_lock_is_named(tmp_path: Path) -> None:
    book = Book(str(tmp_path), IN_PREFIX)
    with pytest.raises(Busy, match=f"is at work here \\(process {os.getpid()}, {tmp_path}/{IN_PREFIX}/lock"):
        Book(str(tmp_path), IN_PREFIX)
    book.close()
    Book(str(tmp_path), IN_PREFIX).close()


def test_the_users_own_folder_counts_once_it_is_there(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": f"{tmp_path}/state"}
    host = RealHost(environ)
    inside = f"{tmp_path}/env/{IN_PREFIX}"
    assert folders(host, f"{tmp_path}/env") == (inside,)
    (tmp_path / "state/cudadoctor").mkdir(parents=True)
    assert folders(host, f"{tmp_path}/env") == (inside, in_state(f"{tmp_path}/env", environ, host.home()))


def test_a_relative_state_folder_is_ignored() -> None:
    plain = in_state("/env", {}, "/home/me")
    assert plain.startswith("/home/me/.local/state/cudadoctor/env-")
    assert in_state("/env", {"XDG_STATE_HOME": "state"}, "/home/me") == plain


# --- whose a step is ----------------------------------------------------------------------------------------


def test_what_a_run_found_done_or_never_came_to_is_not_its_own(tmp_path: Path) -> None:
    assert [run(tmp_path).is_ours(number) for number in (1, 2)] == [True, False]
    found = parse(f"{tmp_path}/2026-11-21-1.jsonl", written(tmp_path, Done(1, mine=False)).read_bytes())
    assert [found.is_ours(number) for number in (1, 2)] == [False, True]
    assert found.found(1) and not found.found(2)


# --- what somebody else has written -------------------------------------------------------------------------


def planted(root: Path, step: Step) -> Run | Unreadable:
    """Return what is read of a journal with this step."""
    book = Book(str(root), IN_PREFIX)
    book.begin(BEGIN, [Intent(1, step, "")]).close()
    book.close()
    return only(root)


@pytest.mark.parametrize(
    "step",
    [
        MoveAside("/env/lib/zz", "../../victim/precious"),
        MoveAside("/env/lib/zz", ".."),
        MoveAside("/env/lib/zz", ""),
        MoveAside("/env/lib/zz", ".zz.cudadoctor-aside/../x"),
        MoveAside("/env/lib/zz", ".yy.cudadoctor-aside"),
        MakeLink("/env/../x", "y"),
        MakeLink("/env//x", "y"),
        MakeLink("//env/x", "y"),
        MakeLink("/env/x/", "y"),
        MakeLink("env/x", "y"),
        MakeLink("", "y"),
        MakeLink("/env/x\0", "y"),
        MakeLink("/env/x", "y\0"),
        TurnLink("/env/x", "y", ""),
        WriteFile("/env/x", b"", 1 << 40),
        WriteFile("/env/x", b"", 0o644, Was(b"", -1, 0)),
        WriteFile("/env/x", b"", 0o644, Was(b"", 0o644, 1 << 70)),
    ],
)
def test_a_step_that_no_run_would_write_down_is_not_read(tmp_path: Path, step: Step) -> None:
    found = planted(tmp_path, step)
    assert isinstance(found, Unreadable) and found.why.startswith("step 1: ")


@pytest.mark.parametrize("name", [".zz.cudadoctor-aside", ".zz.cudadoctor-aside-12"])
def test_names_that_a_run_gives_are_read(tmp_path: Path, name: str) -> None:
    assert isinstance(planted(tmp_path, MoveAside("/env/lib/zz", name)), Run)


@pytest.mark.parametrize("name", ["../../../../victim/data", "2026-11-21-2", "", "2026-11-21-1/.."])
def test_a_journal_that_is_not_called_as_its_run_is_not_read(tmp_path: Path, name: str) -> None:
    path = written(tmp_path)
    path.write_text(path.read_text().replace(f'"run":"{BEGIN.run}"', f'"run":"{name}"'))
    assert only(tmp_path) == Unreadable(str(path), f"is not called as its run is, {name!r}")


def test_a_journal_that_was_cut_in_its_steps_is_told_from_one_that_did_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, Done(1))
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b'"install"')])
    assert only(tmp_path) == Unreadable(str(path), "it was cut: it has 1 of 2 steps")


def test_one_journal_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    path = written(tmp_path, Ended("applied"))
    (path.parent / "2026-11-21-2.jsonl").write_text("garbage\n")
    first, second = read_runs(RealHost(), f"{tmp_path}/{IN_PREFIX}")
    assert (first.name, first.status, first.is_open) == ("2026-11-21-1", "applied", False)
    assert (second.name, second.status, second.is_open) == ("2026-11-21-2", "unreadable", True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_journal_that_is_not_for_us_to_read_is_told_as_such(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.chmod(0)
    assert only(tmp_path) == Unreadable(str(path), "Permission denied", denied=True)


def test_a_lock_with_another_name_is_not_written_to(tmp_path: Path) -> None:
    written(tmp_path)
    lock = tmp_path / IN_PREFIX / "lock"
    (tmp_path / "precious").write_text("precious")
    lock.unlink()
    lock.hardlink_to(tmp_path / "precious")
    with pytest.raises(Conflict, match=f"{lock}: is no lock of ours"):
        Book(str(tmp_path), IN_PREFIX)
    assert (tmp_path / "precious").read_text() == "precious"


# --- what is written ----------------------------------------------------------------------------------------


def test_a_new_run_has_a_name_that_no_run_in_the_other_folder_has(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    written(tmp_path / "one")
    book = Book(str(tmp_path / "two"), IN_PREFIX, others=[f"{tmp_path}/one/{IN_PREFIX}", "/nowhere"])
    assert (book.next_run("2026-11-21"), book.next_run("2026-11-22")) == ("2026-11-21-2", "2026-11-22-1")
    book.close()


@pytest.mark.parametrize(
    ("step", "mode"),
    [
        (MakeLink("/env/lib64", "lib"), 0o644),
        (WriteFile("/env/x", b"", 0o755), 0o644),
        (WriteFile("/env/x", b"", 0o644, Was(b"secret", 0o600, 0)), 0o600),
        (WriteFile("/env/x", b"", 0o640, Was(b"", 0o640, 0)), 0o640),
        (WriteFile("/env/x", b"", 0o444, Was(b"", 0o400, 0)), 0o600),
    ],
)
@pytest.mark.parametrize("umask", [0o077, 0])
def test_a_journal_is_as_open_as_the_files_that_it_holds(
    tmp_path: Path, step: Step, mode: int, umask: int
) -> None:
    before = os.umask(umask)
    try:
        planted(tmp_path, step)
    finally:
        assert os.umask(before) == umask
    folder = tmp_path / IN_PREFIX
    places = (folder.parent, folder, folder / "journal", folder / "lock")
    assert [place.stat().st_mode & 0o777 for place in places] == [0o755, 0o755, 0o755, 0o644]
    assert (folder / "journal/2026-11-21-1.jsonl").stat().st_mode & 0o777 == mode


@pytest.mark.parametrize(
    ("begin", "step"),
    [
        (BEGIN, MakeLink("/env/\udcff", "lib")),
        (BEGIN, MakeLink("/env/lib64", "\udcff")),
        (structs.replace(BEGIN, prefix="/env/\udcff"), MakeLink("/env/lib64", "lib")),
    ],
)
def test_what_is_not_utf_8_is_refused_before_anything_is_written(
    tmp_path: Path, begin: Begin, step: Step
) -> None:
    book = Book(str(tmp_path), IN_PREFIX)
    with pytest.raises(Conflict, match=r"/env/.* is not UTF-8: a journal cannot hold it"):
        book.begin(begin, [Intent(1, step, "")])
    book.close()
    assert [*(tmp_path / IN_PREFIX / "journal").iterdir()] == []


def test_an_error_names_the_whole_path(tmp_path: Path) -> None:
    lock = tmp_path / IN_PREFIX / "lock"
    lock.mkdir(parents=True)
    with pytest.raises(IsADirectoryError) as problem:
        Book(str(tmp_path), IN_PREFIX)
    assert problem.value.filename == str(lock)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_writes_in_a_users_environment_is_that_users_to_undo(tmp_path: Path) -> None:
    os.chown(tmp_path, 1234, 1234)
    for name, step, owner in (
        ("2026-11-21-1", MakeLink(f"{tmp_path}/lib64", "lib"), 1234),
        ("2026-11-21-2", MoveAside("/root/.cache/ops", ".ops.cudadoctor-aside"), 0),
        ("2026-11-21-3", Install("pip", ("ninja",)), 0),
    ):
        book = Book(str(tmp_path), IN_PREFIX)
        book.begin(structs.replace(BEGIN, run=name, prefix=str(tmp_path)), [Intent(1, step, "")]).close()
        book.close()
        folder = tmp_path / IN_PREFIX
        assert (folder / f"journal/{name}.jsonl").stat().st_uid == owner
        for place in (folder.parent, folder, folder / "journal", folder / "lock"):
            assert place.stat().st_uid == 1234
