"""Carries steps out as a whole: written down first, taken back where one fails, undone when asked."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

from msgspec import Struct

from cudadoctor.actions import Install, MakeFolder, MoveAside, Version
from cudadoctor.ground import Conflict, Ground, exact_modes, step_path
from cudadoctor.journal import (
    Begin,
    Book,
    Done,
    Ended,
    Intent,
    Journal,
    Purged,
    Run,
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
    """What a run made was changed by someone since: the reasons, one each."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = tuple(reasons)


class Installer(Struct, frozen=True):
    """How packages are installed and brought back; given by the command that knows the environment."""

    install: Callable[[Install], None]  #: raises an exception that says what the installer said
    freeze: Callable[[], tuple[Version, ...]]
    restore: Callable[[Install], None]


class Taken(Struct, frozen=True):
    """What an undo left behind: names that things in the way have now, folders that are not empty."""

    kept: tuple[str, ...] = ()
    stayed: tuple[str, ...] = ()


def new_run(book: Book, prefix: str, roots: Sequence[str], version: str) -> Begin:
    """Return the first record of a new run of this version, with a name that no other run here has."""
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Begin(book.next_run(time.strftime("%Y-%m-%d")), created, version, prefix, tuple(roots))


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
    except OSError as error:
        raise Failed(_says(error), True) from error
    begun: list[Intent] = []
    try:
        try:
            _do_all(ground, begin.run, _noted(intents, begun), journal, installer, tell)
            journal.append(Ended("applied"))
        except BaseException as error:
            restored = _give_up(ground, begin.run, begun, journal, installer, error)
            if isinstance(error, Exception):
                raise Failed(_says(error), restored) from error
            raise
    finally:
        journal.close()


def complete(
    book: Book, ground: Ground, run: Run, installer: Installer, tell: Callable[[Intent], None]
) -> None:
    """Do what an interrupted run left undone; raise Changed before anything is done, Failed after that."""
    _must_stand(ground, run, run.intents)
    journal = _reopened(book, run)
    try:
        for intent in run.intents:
            ground.clean(intent.step, mark(run.name, intent.number))
        left = [i for i in run.intents if not (isinstance(i.step, Install) and run.installed(i.number))]
        _do_all(ground, run.name, left, journal, installer, tell)
        journal.append(Ended("applied", "completed after an interruption"))
    except (Conflict, OSError, InstallerError) as error:
        raise Failed(_says(error), False) from error
    finally:
        journal.close()


def take_back(
    book: Book, ground: Ground, run: Run, installer: Installer, *, force: bool, tell: Callable[[Intent], None]
) -> Taken:
    """Undo a run, the last step first; raise Changed before anything is done, Failed after that.

    With `force` what was changed since makes way, under another name.
    """
    gone = run.purged()
    intents = [intent for intent in run.intents if intent.number not in gone]
    if not force:
        _must_stand(ground, run, intents, installer)
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
        raise Failed(_says(error), False) from error
    finally:
        journal.close()
    return Taken(tuple(kept), tuple(_stayed(ground, intents)))


def purge(book: Book, ground: Ground, run: Run) -> list[str]:
    """Remove for good what a run moved aside; return the paths. It can then no longer be taken back."""
    removed = []
    journal = book.reopen(run)
    try:
        for intent in run.intents if run.status == "applied" else ():
            if isinstance(intent.step, MoveAside):
                journal.append(Purged(intent.number))  # first: half of a cache is nothing to put back
                if _removed(ground, intent.step):
                    removed.append(intent.step.path)
    finally:
        journal.close()
    return removed


def _removed(ground: Ground, step: MoveAside) -> bool:
    """Remove what was moved aside; return whether it was still there."""
    try:
        with ground.folder(step.path) as (fd, _):
            if stat.S_ISDIR(os.stat(step.aside, dir_fd=fd, follow_symlinks=False).st_mode):
                shutil.rmtree(f"/proc/self/fd/{fd}/{step.aside}")  # dir_fd came with Python 3.11
            else:
                os.unlink(step.aside, dir_fd=fd)
            return True
    except FileNotFoundError:
        return False


class InstallerError(Exception):
    """What an installer said when it failed."""


def _reopened(book: Book, run: Run) -> Journal:
    try:
        return book.reopen(run)
    except OSError as error:
        raise Failed(_says(error), False) from error


def _do_all(
    ground: Ground,
    run: str,
    intents: Iterable[Intent],
    journal: Journal,
    installer: Installer,
    tell: Callable[[Intent], None],
) -> None:
    with exact_modes():
        for intent in intents:
            if isinstance(intent.step, Install):
                installer.install(intent.step)
                journal.append(Done(intent.number, installer.freeze()))
            else:
                ground.do(intent.step, mark(run, intent.number))
                journal.append(Done(intent.number))
            tell(intent)


def _noted(intents: Sequence[Intent], begun: list[Intent]) -> Iterator[Intent]:
    """Yield each step, noted as begun."""
    for intent in intents:
        begun.append(intent)
        yield intent


def _give_up(
    ground: Ground,
    run: str,
    intents: Sequence[Intent],
    journal: Journal,
    installer: Installer,
    error: BaseException,
) -> bool:
    """Take back what was begun; return whether all of it is as it was.

    What a step found in its place before it did anything is not its own, and stays.
    A journal that has no room left for the end of the story is removed: there is none to tell.
    """
    try:
        with exact_modes():
            for intent in reversed(intents):
                ground.clean(intent.step, mark(run, intent.number))
                if not (isinstance(error, Conflict) and intent is intents[-1]):
                    _take_one_back(ground, run, intent, installer, False)
    except (Conflict, OSError, InstallerError):
        return False
    try:
        journal.append(Ended("rolled back", _says(error)))
    except OSError:
        with suppress(OSError):
            journal.forget()
    return True


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
    with exact_modes():
        kept = _take_one_back(ground, run, intent, installer, force)
    if kept:
        kept = f"{step_path(intent.step).rpartition('/')[0]}/{kept}"
    journal.append(Undone(intent.number, kept))
    tell(intent)
    return kept


def _must_stand(
    ground: Ground, run: Run, intents: Sequence[Intent], installer: Installer | None = None
) -> None:
    """Raise Changed with everything that is neither as it was nor as the run left it."""
    reasons = []
    for intent in intents:
        try:
            if not isinstance(intent.step, Install):
                ground.state(intent.step)
            elif installer is not None and run.installed(intent.number) not in (None, installer.freeze()):
                reasons.append("packages were installed or removed since")
        except Conflict as conflict:
            reasons.append(str(conflict))
    if reasons:
        raise Changed(reasons)


def _stayed(ground: Ground, intents: Sequence[Intent]) -> Iterator[str]:
    """Yield the folders of a run that an undo could not remove: something else is in them."""
    for intent in intents:
        if isinstance(intent.step, MakeFolder):
            try:
                if ground.state(intent.step) == "after":
                    yield intent.step.path
            except Conflict:
                continue


def _says(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__
