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
from cudadoctor.journal import IN_PREFIX, Book, Busy, Corrupt, Run, in_state, read_runs
from cudadoctor.mistakes import UserMistake
from cudadoctor.plan import roots_of
from cudadoctor.redact import in_shell
from cudadoctor.transaction import Installer


class Bench(Struct, frozen=True):
    """One target, opened to be changed."""

    target: Target
    prefix: str  #: with every link resolved
    ground: Ground
    host: RealHost

    @property
    def folders(self) -> tuple[str, str]:
        """Return where its journals can lie: in the environment, and in the user's state folder."""
        state = in_state(self.prefix, self.host.environ, self.host.home())
        return f"{self.prefix.rstrip('/')}/{IN_PREFIX}", state

    def runs(self) -> list[Run]:
        """Return every run of this target, the oldest first; a journal that cannot be read is a mistake."""
        try:
            found = [run for folder in self.folders for run in read_runs(self.host, folder)]
        except Corrupt as problem:
            raise UserMistake(
                f"a damaged journal: {problem}; under another name it is passed over, and its run stays as it is"
            ) from None
        except OSError as error:
            raise UserMistake(f"{error.filename}: {error.strerror}") from None
        return sorted(found, key=lambda run: (run.begin.created, run.name))

    def book(self, run: Run | None = None) -> Book:
        """Open the journals for writing: those that `run` is in, else the environment's own if it can be."""
        inside, outside = self.folders
        home = os.path.dirname(os.path.dirname(run.path)) if run else self._writable(inside, outside)
        try:
            if home == inside:
                return Book(self.prefix, IN_PREFIX)
            above, name = os.path.split(outside)
            os.makedirs(above, exist_ok=True)
            return Book(os.path.realpath(above), name)
        except Busy as busy:
            raise UserMistake(str(busy)) from None
        except Conflict as conflict:
            raise UserMistake(f"no journal can be kept: {conflict}") from None
        except OSError as error:
            raise UserMistake(f"no journal can be kept: {error.filename}: {error.strerror}") from None

    def _writable(self, inside: str, outside: str) -> str:
        if not self.ground.within(f"{inside}/journal"):
            return outside
        try:
            self.ground.must_be_writable(f"{inside}/journal/new")
        except (Conflict, OSError):
            return outside
        return inside

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
            try:
                self.ground.add(os.path.dirname(path))
            except Conflict as conflict:
                raise UserMistake(str(conflict)) from None

    def close(self) -> None:
        """Close the ground."""
        self.ground.close()


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
