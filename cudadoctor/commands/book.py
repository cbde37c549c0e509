"""What `fix` and `undo` share: the ground that may be changed, the journals, and what runs were left open."""

from __future__ import annotations

import argparse
import os
import shlex

from msgspec import Struct

from cudadoctor.actions import Install, MoveAside
from cudadoctor.facts import Target
from cudadoctor.ground import Conflict, Ground, step_path
from cudadoctor.host import RealHost
from cudadoctor.journal import Book, Busy, Corrupt, Run, at_work, read_runs
from cudadoctor.lowering import roots_of
from cudadoctor.mistakes import UserMistake
from cudadoctor.places import IN_PREFIX, folders, in_prefix, in_state
from cudadoctor.redact import in_shell
from cudadoctor.transaction import Installer, says


class Bench(Struct, frozen=True):
    """One target, opened to be changed."""

    target: Target
    prefix: str  #: with every link resolved
    ground: Ground
    host: RealHost

    def runs(self) -> list[Run]:
        """Return every run of this target, the oldest first; a journal that cannot be read is a mistake."""
        try:
            found = [run for folder in self._folders() for run in read_runs(self.host, folder)]
        except Corrupt as problem:
            raise UserMistake(
                f"a damaged journal: {problem}; under another name it is passed over, and its run stays"
            ) from None
        except OSError as error:
            raise UserMistake(says(error)) from None
        return sorted(found, key=lambda run: (run.begin.created, run.name))

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
        """Open the journals for writing: those that `run` is in, else the environment's own if it can be."""
        home = _home(run) if run else self._writable()
        try:
            if home == in_prefix(self.prefix):
                return Book(self.prefix, IN_PREFIX)
            above, name = os.path.split(home)
            os.makedirs(above, exist_ok=True)
            return Book(os.path.realpath(above), name)
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
        theirs = self.host.owner(run.path) != os.geteuid()
        if theirs and any(isinstance(intent.step, Install) for intent in run.intents):
            # Its commands would be run with our rights.
            raise UserMistake(
                f"run {run.name} installed packages as another user: only that user can undo it"
            )
        for intent in run.intents:
            path, step = step_path(intent.step), intent.step
            if not path or self.ground.within(path):
                continue
            name = os.path.basename(path)
            if not (isinstance(step, MoveAside) and step.aside.startswith(f".{name}.cudadoctor-aside")):
                raise UserMistake(f"run {run.name} is about {path}, which is not in this environment")
            folder = os.path.dirname(path)
            if not os.path.lexists(folder):
                # A cache that was removed whole must not keep the rest from coming back.
                self.ground.miss(folder)
                continue
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
