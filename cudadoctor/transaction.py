"""Carries steps out as a whole: written down first, taken back where one fails, undone when asked."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

from msgspec import Struct

from cudadoctor.actions import Install, InstallerError, MoveAside, Version
from cudadoctor.ground import Conflict, Ground, is_name, step_path
from cudadoctor.journal import (
    Begin,
    Book,
    Corrupt,
    Done,
    Ended,
    Intent,
    Journal,
    Purged,
    Run,
    Started,
    Undoing,
    Undone,
    mark,
)


class Failed(Exception):
    """A step could not be done: what went wrong, and whether all that was done before it was taken back."""

    def __init__(self, why: str, restored: bool) -> None:
        super().__init__(why)
        self.restored = restored


class Changed(Exception):
    """What a run made was changed by someone since: the files in words, one each, and names of packages."""

    def __init__(self, files: Sequence[str], packages: Sequence[str] = ()) -> None:
        since = [f"packages came, went or changed since: {_listed(packages)}"] if packages else []
        super().__init__("; ".join([*files, *since]))
        self.files, self.packages = tuple(files), tuple(packages)


class Installer(Struct, frozen=True):
    """How packages are installed and brought back; given by the command that knows the environment."""

    install: Callable[[Install], None]  #: raises an exception that says what the installer said
    freeze: Callable[[], tuple[Version, ...]]
    restore: Callable[[Install], None]


class Taken(Struct, frozen=True):
    """What an undo left behind."""

    kept: tuple[str, ...] = ()  #: where things that were in the way are now
    stayed: tuple[str, ...] = ()  #: folders that are not empty
    lost: tuple[str, ...] = ()  #: what could not be brought back: nothing is left of it, or of its folder


class Aside(Struct, frozen=True):
    """Something that a run moved aside, or that a forced undo of it kept."""

    number: int  #: of its step
    path: str  #: of what it was
    name: str  #: it has now, in the same folder

    @property
    def place(self) -> str:
        """Return where it is."""
        return f"{os.path.dirname(self.path)}/{self.name}"


def new_run(book: Book, prefix: str, version: str) -> Begin:
    """Return the first record of a new run of this version, with a name that no other run here has."""
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Begin(book.next_run(time.strftime("%Y-%m-%d")), created, version, prefix)


def carry_out(
    book: Book,
    ground: Ground,
    begin: Begin,
    intents: Sequence[Intent],
    installer: Installer,
    tell: Callable[[Intent], None],
) -> None:
    """Do every step, or none: raise Failed where one cannot be done, after taking back those before it.

    `tell` hears of each step that is done.
    """
    try:
        journal = book.begin(begin, intents)
    except (Conflict, OSError) as error:
        raise Failed(says(error), True) from error
    begun: list[Intent] = []
    try:
        try:
            _do_all(ground, begin.run, intents, journal, installer, tell, begun)
            journal.append(Ended("applied"))
        except BaseException as error:
            restored = _give_up(ground, begin.run, begun, journal, installer, error)
            if isinstance(error, Exception):
                raise Failed(says(error), restored) from error
            raise
    finally:
        journal.close()


def complete(
    book: Book, ground: Ground, run: Run, installer: Installer, tell: Callable[[Intent], None]
) -> None:
    """Do what an interrupted run left undone; raise Changed before anything is done, Failed after that."""
    run = _as_it_is(book, run)
    _must_stand(ground, run.intents, _not_as_planned(run, installer))
    journal = _reopened(book, run)
    try:
        for intent in run.intents:
            ground.clean(intent.step, mark(run.name, intent.number))
        left = [
            i
            for i in run.intents
            if not (isinstance(i.step, Install) and run.installed(i.number) is not None)
            and not run.found(i.number)
        ]
        _do_all(ground, run.name, left, journal, installer, tell, [], run)
        journal.append(Ended("applied", "completed after an interruption"))
    except (Conflict, OSError, InstallerError) as error:
        raise Failed(says(error), False) from error
    finally:
        journal.close()


def take_back(
    book: Book, ground: Ground, run: Run, installer: Installer, *, force: bool, tell: Callable[[Intent], None]
) -> Taken:
    """Undo a run, the last step first; raise Changed before anything is done, Failed after that.

    With `force` what was changed since makes way, under another name; packages go back to what they were.
    """
    run = _as_it_is(book, run)
    intents = list(_to_undo(run))
    if not force:
        _must_stand(ground, intents, _not_as_left(run, intents, installer))
    _must_be_allowed(ground, intents)
    journal = _reopened(book, run)
    try:
        journal.append(Undoing(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), force))
        kept = [
            name
            for intent in reversed(intents)
            if (name := _undo_one(ground, run.name, intent, journal, installer, force, tell))
        ]
        journal.append(Ended("undone"))
    except (Conflict, OSError, InstallerError) as error:
        raise Failed(says(error), False) from error
    finally:
        journal.close()
    stayed, lost = _left(ground, intents)
    return Taken(tuple(kept), stayed, lost)


def _to_undo(run: Run) -> Iterator[Intent]:
    """Yield the steps that can have left something behind.

    A step that was never come to has not, nor one that was found done, nor an installer that never began:
    what is there by now is the user's own. So is what stands where a step was taken back, before an undo was
    interrupted.
    """
    over = run.purged() | run.undone()
    for intent in run.intents:
        began = not isinstance(intent.step, Install) or run.starts(intent.number)
        if began and intent.number not in over and run.is_ours(intent.number):
            yield intent


def standing(run: Run) -> set[str]:
    """Return what of an environment is as a run left it: paths, and "packages"."""
    if run.status in ("undone", "rolled back"):
        return set()
    return {step_path(intent.step) or "packages" for intent in _to_undo(run)}


def asides(run: Run) -> list[Aside]:
    """Return what a run has that `purge` removes, whether it is still there or not."""
    if run.status == "applied":
        moved = [(i.number, i.step) for i in run.intents if isinstance(i.step, MoveAside)]
        return [Aside(number, step.path, step.aside) for number, step in moved if run.is_ours(number)]
    if run.status != "undone":
        return []
    kept = [(i, os.path.basename(name)) for i in run.intents if (name := run.kept(i))]
    return [Aside(intent.number, step_path(intent.step), name) for intent, name in kept]


def purge(book: Book, ground: Ground, run: Run, tell: Callable[[Aside], None]) -> None:
    """Remove for good what a run moved aside or an undo of it kept; raise Conflict, Failed or OSError.

    What was moved aside can then no longer be taken back. `tell` hears of each thing that is gone.
    """
    run = _as_it_is(book, run)
    purged = run.purged()
    journal = _reopened(book, run)
    try:
        for aside in asides(run):
            if not is_name(aside.name):
                raise Conflict(f"{aside.place}: is no name in its folder")
            with suppress(FileNotFoundError), ground.folder(aside.path) as (fd, _):
                os.stat(aside.name, dir_fd=fd, follow_symlinks=False)
                if aside.number not in purged:  # first: half of a cache is nothing to put back
                    journal.append(Purged(aside.number))
                _remove(fd, aside)
                tell(aside)
    finally:
        journal.close()


def _remove(fd: int, aside: Aside) -> None:
    """Remove a file, or a folder with all that is in it, from the opened folder that it is in."""
    try:
        if not stat.S_ISDIR(os.stat(aside.name, dir_fd=fd, follow_symlinks=False).st_mode):
            os.unlink(aside.name, dir_fd=fd)
            return
        shutil.rmtree(f"/proc/self/fd/{fd}/{aside.name}")  # its own dir_fd came with Python 3.11
    except OSError as error:
        error.filename = aside.place  # it names what is within by its last part only
        raise


def _as_it_is(book: Book, run: Run) -> Run:
    """Return a run as its journal tells it now that no one else can write there; raise Failed.

    When it was read another process may still have been at it.
    """
    try:
        now = book.read(run)
    except (Corrupt, OSError) as error:
        raise Failed(says(error), False) from error
    if now.status != run.status:
        raise Failed(f"meanwhile it is {now.status}, by another process", False)
    if (now.begin, now.intents) != (run.begin, run.intents):
        raise Failed("meanwhile its journal tells of something else", False)  # than what was looked at
    return now


def _reopened(book: Book, run: Run) -> Journal:
    try:
        return book.reopen(run)
    except OSError as error:
        raise Failed(says(error), False) from error


def _do_all(
    ground: Ground,
    run: str,
    intents: Iterable[Intent],
    journal: Journal,
    installer: Installer,
    tell: Callable[[Intent], None],
    begun: list[Intent],
    resumed: Run | None = None,
) -> None:
    """Do steps in their order; `begun` gets those that have something to take back.

    Of a run that is `resumed` the step at which it was killed can be done, and is its own then.
    """
    for intent in intents:
        begun.append(intent)
        after: tuple[Version, ...] = ()
        mine = True
        if isinstance(intent.step, Install):
            journal.append(Started(intent.number))
            installer.install(intent.step)
            after = installer.freeze()
        else:
            mine = _does(ground, run, intent, begun) or (
                resumed is not None and resumed.is_ours(intent.number)
            )
        journal.append(Done(intent.number, after, mine))
        tell(intent)


def _does(ground: Ground, run: str, intent: Intent, begun: list[Intent]) -> bool:
    """Do one step; where it did nothing, for it was done or could not be, it is not begun either."""
    try:
        done = ground.do(intent.step, mark(run, intent.number))
    except Conflict:
        begun.remove(intent)
        raise
    if not done:
        begun.remove(intent)
    return done


def _give_up(
    ground: Ground,
    run: str,
    begun: Sequence[Intent],
    journal: Journal,
    installer: Installer,
    error: BaseException,
) -> bool:
    """Take back what was begun; return whether all of it is as it was.

    A journal that has no room left for the end of the story is removed: there is none to tell.
    """
    try:
        for intent in reversed(begun):
            ground.clean(intent.step, mark(run, intent.number))
            _take_one_back(ground, run, intent, installer, False)
    except (Conflict, OSError, InstallerError):
        return False
    try:
        journal.append(Ended("rolled back", _printable(says(error))))
    except OSError:
        with suppress(OSError):
            journal.forget()
    return True


def _printable(text: str) -> str:
    """Return a text that a journal can hold: an error may name a file by bytes that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def _take_one_back(ground: Ground, run: str, intent: Intent, installer: Installer, force: bool) -> str:
    if isinstance(intent.step, Install):
        installer.restore(intent.step)
        return ""
    return ground.undo(intent.step, mark(run, intent.number), force=force)


def _undo_one(
    ground: Ground,
    run: str,
    intent: Intent,
    journal: Journal,
    installer: Installer,
    force: bool,
    tell: Callable[[Intent], None],
) -> str:
    ground.clean(intent.step, mark(run, intent.number))
    kept = _take_one_back(ground, run, intent, installer, force)
    if kept:
        kept = f"{step_path(intent.step).rpartition('/')[0]}/{kept}"
    journal.append(Undone(intent.number, kept))
    tell(intent)
    return kept


def _must_stand(ground: Ground, intents: Iterable[Intent], packages: Iterable[str]) -> None:
    """Raise Changed with every file that is neither as it was nor as the run left it, and with packages."""
    files, names = [], sorted(packages)
    for intent in intents:
        try:
            if not isinstance(intent.step, Install):
                ground.state(intent.step)
        except Conflict as conflict:
            files.append(str(conflict))
    if files or names:
        raise Changed(files, names)


def _must_be_allowed(ground: Ground, intents: Iterable[Intent]) -> None:
    """Raise Failed where a step would be refused, before the first is taken back."""
    for intent in intents:
        if isinstance(intent.step, Install):
            continue
        try:
            if ground.state(intent.step) == "before":
                continue
        except Conflict:
            pass  # it makes way, by force
        try:
            ground.must_be_allowed(step_path(intent.step))
        except Conflict as conflict:
            raise Failed(str(conflict), True) from None


def _not_as_planned(run: Run, installer: Installer) -> set[str]:
    """Return the packages that differ from those which the commands still to be run were made for.

    What came since would be taken for the run's own. Where an installer was killed that cannot be told.
    """
    installs = [(i.number, i.step) for i in run.intents if isinstance(i.step, Install)]
    if all(run.starts(n) for n, _ in installs) or any(_is_unclear(run, n) for n, _ in installs):
        return set()
    states = [installs[0][1].before, *(run.installed(n) for n, _ in installs)]
    return _differing([state for state in states if state is not None][-1], installer.freeze())


def _not_as_left(run: Run, intents: Iterable[Intent], installer: Installer) -> set[str]:
    """Return the packages that are neither as these steps found them nor as they left them.

    Where an installer was killed, what it brought is not told from what the user did since: then every one
    that is not as it was.
    """
    installs = [(i.number, i.step) for i in intents if isinstance(i.step, Install)]
    if not installs:
        return set()
    now = installer.freeze()
    changed = _differing(installs[0][1].before, now)
    if changed and not any(_is_unclear(run, number) for number, _ in installs):
        return _differing(run.installed(installs[-1][0]) or (), now)
    return changed


def _is_unclear(run: Run, number: int) -> bool:
    """Return whether an installer was killed: completed later or not, others may have been at it between."""
    starts = run.starts(number)
    return starts > 1 or (starts == 1 and run.installed(number) is None)


def _differing(one: Sequence[Version], other: Sequence[Version]) -> set[str]:
    """Return the names of the packages that are not the same in both."""
    return {version.name for version in {*one} ^ {*other}}


def _listed(names: Sequence[str]) -> str:
    """Return names in a row, of many the first ones."""
    more = len(names) - 8
    return f"{', '.join(names[:8])} and {more} more" if more > 0 else ", ".join(names)


def _left(ground: Ground, intents: Iterable[Intent]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the folders that an undo could not remove, for something else is in them, and what it could not
    bring back.
    """
    stayed, lost = [], []
    for intent in intents:
        if isinstance(intent.step, Install):
            continue
        try:
            if ground.state(intent.step) == "after":
                stayed.append(step_path(intent.step))
        except Conflict:
            lost.append(step_path(intent.step))
    return tuple(stayed), tuple(lost)


def says(error: BaseException) -> str:
    """Return what an error says, in words for one line; of a file its path first, where that is known."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__
