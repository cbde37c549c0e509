"""Whole runs on real files, with packages that are files in a folder: done, killed, completed, taken back."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from cudadoctor.actions import Install, InstallerError, MakeFolder, MakeLink, MoveAside, Step, Version
from cudadoctor.ground import Conflict, Ground
from cudadoctor.host import RealHost
from cudadoctor.journal import Begin, Book, Done, Intent, Purged, Record, Run, Started, read_runs
from cudadoctor.places import IN_PREFIX
from cudadoctor.transaction import (
    Changed,
    Failed,
    Installer,
    Taken,
    asides,
    carry_out,
    complete,
    purge,
    says,
    standing,
    take_back,
)

RUN = "2026-11-21-1"


class Ward:
    """One environment: a link to make, a cache to move aside, and packages of which each is one file."""

    def __init__(self, root: Path) -> None:
        self.root, self.site, self.cache = root, root / "site", root / "cache/ops"
        self.site.mkdir(parents=True)
        self.cache.mkdir(parents=True)
        (self.cache / "op.so").write_text("built")
        (self.site / "torch").write_text("2.9.0")
        self.umasks: list[int] = []
        self.in_the_middle: Callable[[], None] = lambda: None

    def installer(self) -> Installer:
        return Installer(self._install, self.freeze, self._restore)

    def freeze(self) -> tuple[Version, ...]:
        return tuple(Version(path.name, path.read_text()) for path in sorted(self.site.iterdir()))

    def add(self, name: str) -> None:
        (self.site / name).write_text("1.0")

    def _install(self, step: Install) -> None:
        self._note_umask()
        for number, name in enumerate(step.packages):
            if number:
                self.in_the_middle()
            self.add(name)

    def _restore(self, step: Install) -> None:
        self._note_umask()
        for path in self.site.iterdir():
            path.unlink()
        for version in step.before:
            (self.site / version.name).write_text(version.version)

    def _note_umask(self) -> None:
        self.umasks.append(before := os.umask(0))
        os.umask(before)

    def packages(self) -> set[str]:
        return {version.name for version in self.freeze()}

    def link(self) -> Step:
        return MakeLink(f"{self.root}/lib64", "lib")

    def install(self, *names: str) -> Step:
        return Install("pip", names, ("pip",), self.freeze())

    def aside(self) -> Step:
        return MoveAside(str(self.cache), ".ops.cudadoctor-aside")

    def apply(self, *steps: Step) -> None:
        intents = [Intent(number, step, "") for number, step in enumerate(steps, 1)]
        self._with_book(lambda book: carry_out(book, self.ground(), self.begin(), intents, *self.others()))

    def killed(self, *steps: Step) -> None:
        """Carry steps out in a process of its own, which is killed where `in_the_middle` says so."""
        if (child := os.fork()) == 0:
            try:
                self.apply(*steps)
            finally:
                os._exit(0)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL

    def written(self, *records: Record) -> None:
        """Write a journal as a run leaves it that was killed right after these records."""
        intents = [record for record in records if isinstance(record, Intent)]

        def write(book: Book) -> None:
            journal = book.begin(self.begin(), intents)
            journal.append(*(record for record in records if record not in intents))
            journal.close()

        self._with_book(write)

    def complete(self) -> None:
        self._with_book(lambda book: complete(book, self.ground(), self.run(), *self.others()))

    def undo(self, *, force: bool = False) -> Taken:
        taken: list[Taken] = []
        installer, tell = self.others()

        def undo(book: Book) -> None:
            run = self.run()
            taken.append(take_back(book, self.ground(), run, installer, force=force, tell=tell))

        self._with_book(undo)
        return taken[0]

    def purge(self) -> list[str]:
        gone: list[str] = []
        self._with_book(
            lambda book: purge(book, self.ground(), self.run(), lambda aside: gone.append(aside.place))
        )
        return gone

    def run(self) -> Run:
        (run,) = read_runs(RealHost(), f"{self.root}/{IN_PREFIX}")
        assert isinstance(run, Run)
        return run

    def begin(self) -> Begin:
        return Begin(RUN, "2026-11-21T00:00:00Z", "0.1", str(self.root))

    def ground(self) -> Ground:
        return Ground([str(self.root)])

    def others(self) -> tuple[Installer, Callable[[Intent], None]]:
        return self.installer(), lambda _: None

    def _with_book(self, act: Callable[[Book], None]) -> None:
        book = Book(str(self.root), IN_PREFIX)
        try:
            act(book)
        finally:
            book.close()


@pytest.fixture
def ward(tmp_path: Path) -> Ward:
    return Ward(tmp_path.resolve() / "env")


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# --- packages -----------------------------------------------------------------------------------------------


def test_an_installer_runs_with_the_users_own_umask(ward: Ward) -> None:
    before = os.umask(0o027)
    try:
        ward.apply(ward.link(), ward.install("ninja"))
        ward.undo()
    finally:
        os.umask(before)
    assert ward.umasks == [0o027, 0o027]


def test_packages_that_a_run_brought_go_with_it(ward: Ward) -> None:
    ward.apply(ward.install("ninja", "numpy"))
    assert ward.packages() == {"torch", "ninja", "numpy"}
    assert ward.undo() == Taken()
    assert ward.packages() == {"torch"}


def test_an_installer_that_fails_is_taken_back(ward: Ward) -> None:
    def fail() -> None:
        raise InstallerError("no space")

    ward.in_the_middle = fail
    with pytest.raises(Failed, match="no space") as failed:
        ward.apply(ward.link(), ward.install("ninja", "numpy"))
    assert failed.value.restored and ward.packages() == {"torch"} and not (ward.root / "lib64").is_symlink()
    assert (ward.run().status, ward.run().why) == ("rolled back", "no space")


def test_what_the_user_installs_after_a_run_that_never_came_to_it_stays(ward: Ward) -> None:
    ward.written(Intent(1, ward.link(), ""), Intent(2, ward.install("ninja"), ""))
    ward.add("numpy")
    assert ward.undo() == Taken()
    assert ward.packages() == {"torch", "numpy"} and ward.umasks == []


def test_a_killed_install_goes_back_by_force_and_says_of_what(ward: Ward) -> None:
    ward.in_the_middle = kill
    ward.killed(ward.link(), ward.install("ninja", "pytest"))
    ward.add("numpy")
    with pytest.raises(Changed, match="ninja, numpy") as changed:
        ward.undo()
    assert changed.value.packages == ("ninja", "numpy") and changed.value.files == ()
    assert ward.packages() == {"torch", "ninja", "numpy"}
    ward.undo(force=True)
    assert ward.packages() == {"torch"} and not (ward.root / "lib64").is_symlink()
    assert ward.run().forced


def test_an_install_that_was_killed_before_it_did_anything_needs_no_force(ward: Ward) -> None:
    ward.written(Intent(1, ward.install("ninja"), ""), Started(1))
    assert ward.undo() == Taken()
    assert ward.run().status == "undone"


def test_a_killed_install_is_completed(ward: Ward) -> None:
    ward.in_the_middle = kill
    ward.killed(ward.install("ninja", "pytest"))
    ward.in_the_middle = lambda: None
    ward.complete()
    assert ward.packages() == {"torch", "ninja", "pytest"}
    with pytest.raises(Changed, match="ninja, pytest"):
        ward.undo()  # the user's own could be among them
    ward.undo(force=True)
    assert ward.packages() == {"torch"}


def test_an_install_that_never_began_is_not_completed_over_what_came_since(ward: Ward) -> None:
    ward.written(Intent(1, ward.install("ninja"), ""))
    ward.add("numpy")
    with pytest.raises(Changed, match="numpy"):
        ward.complete()
    (ward.site / "numpy").unlink()
    ward.complete()
    ward.undo()
    assert ward.packages() == {"torch"}


def test_two_installs_in_one_run_are_no_change_by_someone_else(ward: Ward) -> None:
    ward.apply(ward.install("ninja"), ward.install("numpy"))
    assert ward.undo() == Taken()
    assert ward.packages() == {"torch"}


def test_packages_that_came_since_are_named_of_many_the_first(ward: Ward) -> None:
    ward.apply(ward.install("ninja"))
    for number in range(12):
        ward.add(f"p{number:02}")
    with pytest.raises(Changed, match=r"p00, p01, .*p07 and 4 more"):
        ward.undo()


def test_what_is_installed_between_two_halves_of_an_undo_stays(ward: Ward) -> None:
    ward.apply(ward.link(), ward.install("ninja"))

    def stop(intent: Intent) -> None:
        raise OSError("stopped")

    book = Book(str(ward.root), IN_PREFIX)
    with pytest.raises(Failed):
        take_back(book, ward.ground(), ward.run(), ward.installer(), force=True, tell=stop)
    book.close()
    assert ward.run().status == "undo interrupted" and ward.run().forced and ward.packages() == {"torch"}
    ward.add("numpy")
    ward.undo(force=True)
    assert ward.packages() == {"torch", "numpy"} and ward.run().status == "undone"


# --- files --------------------------------------------------------------------------------------------------


def test_a_cache_whose_folder_is_gone_holds_up_nothing_else(ward: Ward) -> None:
    ward.apply(ward.link(), ward.aside())
    for path in (*ward.cache.parent.rglob("*.so"), *ward.cache.parent.iterdir(), ward.cache.parent):
        path.unlink() if path.is_file() else path.rmdir()
    with pytest.raises(Changed, match=f"{ward.cache}: is gone"):
        ward.undo()
    assert ward.undo(force=True) == Taken(lost=(str(ward.cache),))
    assert not (ward.root / "lib64").is_symlink()


def test_what_is_not_empty_stays_and_is_told(ward: Ward) -> None:
    ward.apply(MakeFolder(f"{ward.root}/new"))
    (ward.root / "new/theirs").touch()
    assert ward.undo() == Taken(stayed=(f"{ward.root}/new",))


def test_what_was_moved_aside_is_purged_once(ward: Ward) -> None:
    ward.apply(ward.aside())
    place = f"{ward.cache.parent}/.ops.cudadoctor-aside"
    assert [aside.place for aside in asides(ward.run())] == [place]
    assert ward.purge() == [place] and not os.path.lexists(place)
    assert ward.purge() == []
    assert [r for r in ward.run().records if isinstance(r, Purged)] == [Purged(1)]
    ward.undo()
    assert not ward.cache.exists()


def test_a_purge_that_was_stopped_half_way_is_gone_on_with(ward: Ward) -> None:
    ward.apply(ward.aside())
    book = Book(str(ward.root), IN_PREFIX)
    journal = book.reopen(ward.run())
    journal.append(Purged(1))
    journal.close()
    book.close()
    assert len(ward.purge()) == 1
    assert [r for r in ward.run().records if isinstance(r, Purged)] == [Purged(1)]


def test_what_a_forced_undo_kept_is_purged_too(ward: Ward) -> None:
    ward.apply(ward.link())
    (ward.root / "lib64").unlink()
    (ward.root / "lib64").mkdir()
    (ward.root / "lib64/theirs").touch()
    (kept,) = ward.undo(force=True).kept
    assert (Path(kept) / "theirs").exists()
    assert ward.purge() == [kept] and not os.path.lexists(kept)
    assert ward.purge() == []


def test_a_planted_name_is_not_purged(ward: Ward) -> None:
    ward.apply(ward.link())
    (ward.root / "lib64").unlink()
    (ward.root / "lib64").mkdir()
    ward.undo(force=True)
    (ward.root / "precious").touch()
    journal = Path(ward.run().path)
    text = journal.read_text()
    for planted in (f"{ward.root}/precious", f"{ward.root}/site/.cudadoctor-{RUN}-1.was", "precious"):
        journal.write_text(text.replace(f"{ward.root}/.cudadoctor-{RUN}-1.was", planted))
        assert planted in journal.read_text() and asides(ward.run()) == []


def test_nothing_is_purged_through_a_link(ward: Ward, tmp_path: Path) -> None:
    ward.apply(ward.aside())
    outside = ward.cache.parent.rename(tmp_path / "outside")
    ward.cache.parent.symlink_to(outside)
    with pytest.raises(Conflict, match="no folder"):
        ward.purge()
    assert (outside / ".ops.cudadoctor-aside/op.so").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may remove everywhere")
def test_a_purge_that_may_not_remove_says_of_what(ward: Ward) -> None:
    (ward.cache / "sealed").mkdir()
    (ward.cache / "sealed/x").touch()
    ward.apply(ward.aside())
    sealed = ward.cache.parent / ".ops.cudadoctor-aside/sealed"
    sealed.chmod(0o555)
    with pytest.raises(PermissionError) as problem:
        ward.purge()
    sealed.chmod(0o755)
    assert says(problem.value) == f"{sealed.parent}: Permission denied"
    assert ward.purge() == [str(sealed.parent)], "the rest goes the next time"


# --- what a run found ---------------------------------------------------------------------------------------


def test_what_was_found_done_stays_when_the_run_is_rolled_back(ward: Ward) -> None:
    (ward.root / "lib64").symlink_to("lib")
    (ward.root / "theirs").mkdir()
    (ward.root / "include").symlink_to("elsewhere")
    with pytest.raises(Failed, match="include: is a link to elsewhere") as failed:
        ward.apply(
            ward.link(),
            MakeFolder(f"{ward.root}/theirs"),
            MakeFolder(f"{ward.root}/ours"),
            MakeLink(f"{ward.root}/include", "x"),
        )
    assert failed.value.restored and ward.run().status == "rolled back"
    assert os.readlink(ward.root / "lib64") == "lib" and (ward.root / "theirs").is_dir()
    assert not (ward.root / "ours").exists()


def test_what_was_found_done_stays_when_the_run_is_undone(ward: Ward) -> None:
    (ward.root / "lib64").symlink_to("lib")
    ward.apply(ward.link(), ward.aside())
    assert [r.mine for r in ward.run().records if isinstance(r, Done)] == [False, True]
    assert standing(ward.run()) == {str(ward.cache)}
    ward.undo()
    assert os.readlink(ward.root / "lib64") == "lib" and (ward.cache / "op.so").exists()


def test_what_someone_else_moved_aside_is_not_purged(ward: Ward) -> None:
    place = ward.cache.rename(ward.cache.with_name(".ops.cudadoctor-aside"))
    ward.apply(ward.aside())
    assert asides(ward.run()) == [] and ward.purge() == [] and place.exists()


def test_what_the_user_did_after_a_run_that_never_came_to_it_stays(ward: Ward) -> None:
    ward.written(
        Intent(1, ward.aside(), ""), Intent(2, MakeFolder(f"{ward.root}/x"), ""), Intent(3, ward.link(), "")
    )
    (ward.root / "lib64").symlink_to("lib")
    ward.complete()
    assert [r.mine for r in ward.run().records if isinstance(r, Done)] == [True, True, False]
    ward.undo()
    assert os.readlink(ward.root / "lib64") == "lib" and not (ward.root / "x").exists()


def test_the_step_that_a_run_was_killed_in_is_its_own(ward: Ward) -> None:
    ward.written(Intent(1, ward.aside(), ""), Intent(2, ward.link(), ""), Done(1))
    ward.cache.rename(ward.cache.with_name(".ops.cudadoctor-aside"))
    (ward.root / "lib64").symlink_to("lib")
    ward.complete()
    ward.undo()
    assert not (ward.root / "lib64").is_symlink() and (ward.cache / "op.so").exists()


@pytest.mark.parametrize("step", [MakeLink("{root}/\udcff", "lib"), MakeLink("{root}/lib64", "\udcff")])
def test_what_no_journal_can_hold_is_not_begun(ward: Ward, step: MakeLink) -> None:
    step = MakeLink(step.path.replace("{root}", str(ward.root)), step.text)
    with pytest.raises(Failed, match="is not UTF-8") as failed:
        ward.apply(ward.link(), step)
    assert failed.value.restored and not (ward.root / "lib64").is_symlink()
    assert [*(ward.root / IN_PREFIX / "journal").iterdir()] == []


def test_an_error_that_is_not_utf_8_is_written_down_all_the_same(ward: Ward) -> None:
    def fail() -> None:
        raise InstallerError("no \udcff")

    ward.in_the_middle = fail
    with pytest.raises(Failed) as failed:
        ward.apply(ward.install("ninja", "numpy"))
    assert failed.value.restored and ward.run().why == "no \\udcff"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_undo_that_would_be_refused_is_not_begun(ward: Ward) -> None:
    ward.apply(ward.link(), ward.aside())
    ward.root.chmod(0o555)
    try:
        with pytest.raises(Failed, match=f"{ward.root}: may not be written to by this user"):
            ward.undo()
    finally:
        ward.root.chmod(0o755)
    assert ward.run().status == "applied" and not ward.cache.exists()
    ward.undo()


# --- others -------------------------------------------------------------------------------------------------


def test_a_run_that_ended_while_its_journal_was_read_is_left_alone(ward: Ward) -> None:
    ward.written(Intent(1, ward.install("ninja"), ""))
    stale = ward.run()
    ward.complete()
    book = Book(str(ward.root), IN_PREFIX)
    installer, tell = ward.others()
    with pytest.raises(Failed, match="meanwhile it is applied"):
        take_back(book, ward.ground(), stale, installer, force=False, tell=tell)
    book.close()
    assert ward.packages() == {"torch", "ninja"} and ward.run().status == "applied"


def test_a_journal_that_was_exchanged_after_it_was_looked_at_is_left_alone(ward: Ward) -> None:
    ward.apply(ward.link())
    looked_at = ward.run()
    journal = Path(looked_at.path)
    journal.write_text(journal.read_text().replace('"lib"', '"lib2"'))
    book = Book(str(ward.root), IN_PREFIX)
    installer, tell = ward.others()
    with pytest.raises(Failed, match="meanwhile its journal tells of something else"):
        take_back(book, ward.ground(), looked_at, installer, force=True, tell=tell)
    book.close()
    assert (ward.root / "lib64").is_symlink()


def test_an_error_is_told_with_its_file_where_that_is_known() -> None:
    assert says(OSError(28, "No space left on device")) == "No space left on device"
    assert says(OSError(28, "No space left on device", "/x")) == "/x: No space left on device"
    assert says(InstallerError()) == "InstallerError"
