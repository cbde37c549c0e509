"""Journals as files: what is read back, what is torn off, what is refused, and who is let in."""

import os
from pathlib import Path

import pytest

from cudadoctor.actions import Install, MakeLink, Step, Version
from cudadoctor.host import RealHost
from cudadoctor.journal import (
    Begin,
    Book,
    Busy,
    Corrupt,
    Done,
    Ended,
    Intent,
    Record,
    Run,
    Started,
    Undoing,
    Undone,
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


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    records = (Done(1), Started(2), Done(2, (Version("ninja", "1.11"),)), Ended("applied"))
    found = run(tmp_path, *records)
    assert found.records == (BEGIN, *INTENTS, *records)
    assert read_runs(RealHost(), f"{tmp_path}/{IN_PREFIX}") == [found]


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
    (found,) = read_runs(RealHost(), f"{tmp_path}/{IN_PREFIX}")
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
    with pytest.raises(Corrupt, match=r"version 2, by cudadoctor 3\.0; this program reads version 1"):
        read_runs(RealHost(), f"{tmp_path}/{IN_PREFIX}")


def test_a_journal_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError, match="2026-11-21-1") as problem:
        read_runs(RealHost(), f"{tmp_path}/{IN_PREFIX}")
    assert problem.value.filename == str(path)


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
