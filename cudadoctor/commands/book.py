"""What `fix` and `undo` share: the ground that may be changed, the journals, and what runs were left open."""

from __future__ import annotations

import argparse
import os
import shlex

from msgspec import Struct

from cudadoctor.actions import Install, MoveAside, Step
from cudadoctor.facts import Target
from cudadoctor.ground import Conflict, Ground, step_path
from cudadoctor.host import RealHost
from cudadoctor.journal import Book, Busy, Run, Unreadable, at_work, read_runs
from cudadoctor.lowering import roots_of
from cudadoctor.mistakes import UserMistake
from cudadoctor.places import IN_PREFIX, folders, in_prefix, in_state
from cudadoctor.redact import in_shell
from cudadoctor.transaction import Installer, says


class Shelf(Struct, frozen=True):
    """The journals of one environment, the oldest first."""

    own: tuple[Run, ...]
    foreign: tuple[Run, ...]  #: of the environment that this one was copied or moved from
    unreadable: tuple[Unreadable, ...]


class Bench(Struct, frozen=True):
    """One target, opened to be changed."""

    target: Target
    prefix: str  #: with every link resolved
    ground: Ground
    host: RealHost

    def runs(self) -> list[Run]:
        """Return every run of this very environment that can be read, the oldest first."""
        return list(self.shelf().own)

    def shelf(self) -> Shelf:
        """Return every journal here; a folder of them that cannot be looked into is a mistake."""
        try:
            found = [run for folder in self._folders() for run in read_runs(self.host, folder)]
        except OSError as error:
            raise UserMistake(says(error)) from None
        runs = sorted((run for run in found if isinstance(run, Run)), key=lambda run: run.order)
        return Shelf(
            tuple(run for run in runs if run.begin.prefix == self.prefix),
            tuple(run for run in runs if run.begin.prefix != self.prefix),
            tuple(run for run in found if isinstance(run, Unreadable)),
        )

    def must_be_readable(self) -> None:
        """Refuse where a journal cannot be read: its run may be the one that was left half done."""
        for run in self.shelf().unreadable:
            raise UserMistake(
                f"a journal cannot be read: {run.path}: {run.why}; under another name "
                f"({os.path.basename(run.path)}.damaged) it is passed over, and what its run did stays"
            )

    def _folders(self) -> tuple[str, ...]:
        return folders(self.host, self.prefix)

    def is_at_work(self, run: Run) -> bool:
        """Return whether a live process is at a run that has not come to its end."""
        return run.is_open and self.host.locked(f"{_home(run)}/lock")

    def must_not_be_busy(self) -> None:
        """Refuse where another process is at a run: that is not interrupted.

        To be asked before a book is opened: whoever holds the lock himself is busy too.
        """
        for folder in self._folders():
            lock = f"{folder}/lock"
            if self.host.locked(lock) and any(_home(run) == folder and run.is_open for run in self.runs()):
                raise UserMistake(at_work(folder, self._who(lock)))

    def _who(self, lock: str) -> str:
        try:
            return self.host.read(lock, 32).decode("ascii", "replace")
        except OSError:
            return ""

    def book(self, run: Run | None = None) -> Book:
        """Open the journals for writing: those that `run` is in, else those for a new run."""
        if run is None:
            self.must_be_readable()
        home = _home(run) if run else self._writable()
        others = [folder for folder in self._folders() if folder != home]
        try:
            if home == in_prefix(self.prefix):
                return Book(self.prefix, IN_PREFIX, others=others)
            above, below = os.path.split(home)
            while above and not os.path.isdir(above):
                above, name = os.path.split(above)
                below = f"{name}/{below}"
            return Book(os.path.realpath(above), below, mode=0o700, others=others)
        except Busy as busy:
            raise UserMistake(str(busy)) from None
        except (Conflict, OSError) as error:
            raise UserMistake(f"no journal can be kept: {says(error)}") from None

    def _writable(self) -> str:
        """Return the folder for new journals: the environment's own if that can be written."""
        inside = in_prefix(self.prefix)
        try:
            if self.ground.within(f"{inside}/journal"):
                self.ground.must_be_writable(f"{inside}/journal/new")
                return inside
        except (Conflict, OSError):
            pass
        return in_state(self.prefix, self.host.environ, self.host.home())

    def must_be_its_own(self, run: Run) -> None:
        """Refuse a journal of another environment, or one that reaches out of this one."""
        if run.begin.prefix != self.prefix:
            raise UserMistake(f"run {run.name} is of another environment: {run.begin.prefix}")
        owner = self.host.owner(run.path)
        if owner != os.geteuid() and any(isinstance(intent.step, Install) for intent in run.intents):
            # Its commands would be run with our rights.
            raise UserMistake(
                f"run {run.name} installed packages as another user: only that user can undo it"
            )
        for intent in run.intents:
            path = step_path(intent.step)
            if path and not self.ground.within(path):
                self._let_out(run, intent.step, owner)

    def _let_out(self, run: Run, step: Step, owner: int) -> None:
        """Let the folder of a cache be changed: a run changes nothing else outside of its environment."""
        path = step_path(step)
        if not isinstance(step, MoveAside):
            raise UserMistake(f"run {run.name} is about {path}, which is not in this environment")
        if owner not in (os.geteuid(), 0):
            raise UserMistake(
                f"run {run.name} is another user's, and about {path}, which is not in this environment: "
                "only that user can undo it"
            )
        folder = os.path.dirname(path)
        if not os.path.lexists(folder):
            # A cache that was removed whole must not keep the rest from coming back.
            self.ground.miss(folder)
            return
        try:
            self.ground.add(folder)
        except Conflict as conflict:
            raise UserMistake(str(conflict)) from None


def _home(run: Run) -> str:
    """Return the folder of `journal` and `lock` that a run is in."""
    return os.path.dirname(os.path.dirname(run.path))


def open_bench(target: Target, host: RealHost) -> Bench:
    """Open a target's folders; where that cannot be, it is the user's mistake."""
    try:
        return Bench(target, host.realpath(target.prefix), Ground(roots_of(target, host)), host)
    except Conflict as conflict:
        raise UserMistake(str(conflict)) from None


def command(options: argparse.Namespace, home: str, *argv: str) -> str:
    """Return a command to copy that is about the same target as this one."""
    named = (("--prefix", options.prefix), ("--python", options.python), ("--name", options.name))
    target = [word for option, value in named if value for word in (option, value)]
    return in_shell(shlex.join(["cudadoctor", *argv, *target]), home)


def installer_of(bench: Bench) -> Installer:
    """Return how packages are installed into a target; what it takes is loaded only where some are."""

    def real() -> Installer:
        from cudadoctor.commands.install import installer_of

        return installer_of(bench.target, bench.host)

    return Installer(
        lambda step: real().install(step), lambda: real().freeze(), lambda step: real().restore(step)
    )
