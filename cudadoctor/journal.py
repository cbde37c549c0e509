"""What was done to an environment, written down before it is done: so that it can be taken back, by whoever
comes next, after a crash too.

A journal is a file of JSON lines, one record each. It comes into being whole, with what is about to be done,
before the first change; every outcome is appended to it. It lies in the environment itself, in
`etc/cudadoctor/journal/`, or where that cannot be written in the user's state folder. Each record is on disk
(fsync) before the next thing happens.

To recover files no outcome is needed: what is there tells. Packages do not tell who brought them, so that an
installer is about to begin is written down too, and all that is installed once it has ended.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

import msgspec
from msgspec import Struct

from cudadoctor.actions import Step, Version
from cudadoctor.ground import FOLDER_FLAGS, Conflict, drop, step_path

VERSION = 1
_RUN = re.compile(r"(\d{4}-\d\d-\d\d)-(\d{1,6})")
_LIMIT_BYTES = 64 << 20


class Corrupt(Exception):
    """A journal that cannot be read: the file, the line, and why."""


class Busy(Exception):
    """Another run is changing the same environment."""


class Begin(Struct, frozen=True, tag_field="record", tag="begin"):
    """What a run is about: first line of a journal."""

    run: str
    created: str  #: ISO 8601, UTC
    tool: str  #: version of this program
    prefix: str  #: with every link resolved
    version: int = VERSION


class Intent(Struct, frozen=True, tag_field="record", tag="intent"):
    """One step that is about to be done."""

    number: int
    step: Step
    title: str  #: the line of the plan that it belongs to
    checks: tuple[str, ...] = ()


class Started(Struct, frozen=True, tag_field="record", tag="started"):
    """An installer is about to begin: from here on packages may be its own."""

    number: int


class Done(Struct, frozen=True, tag_field="record", tag="done", omit_defaults=True):
    """A step that was done; for an install, what is installed now."""

    number: int
    after: tuple[Version, ...] = ()


class Ended(Struct, frozen=True, tag_field="record", tag="ended"):
    """How a run, or an undo of it, came to its end."""

    outcome: str  #: applied, rolled back, undone
    why: str = ""


class Undoing(Struct, frozen=True, tag_field="record", tag="undoing"):
    """An undo has begun."""

    created: str
    force: bool = False


class Undone(Struct, frozen=True, tag_field="record", tag="undone", omit_defaults=True):
    """A step that was taken back; `kept` is where what stood in its place is now."""

    number: int
    kept: str = ""


class Purged(Struct, frozen=True, tag_field="record", tag="purged"):
    """What a step had moved aside, or what an undo of it has kept, is about to be removed for good."""

    number: int


Record = Begin | Intent | Started | Done | Ended | Undoing | Undone | Purged
_DECODER = msgspec.json.Decoder(Record)


class Run(Struct, frozen=True):
    """One journal, read."""

    path: str
    begin: Begin
    intents: tuple[Intent, ...]
    records: tuple[Record, ...]

    @property
    def name(self) -> str:
        """Return what the user calls it: 2026-11-21-1."""
        return self.begin.run

    @property
    def status(self) -> str:
        """Return applied, interrupted, rolled back, undone, or undo interrupted."""
        last = next((r for r in reversed(self.records) if isinstance(r, (Ended, Undoing))), None)
        if isinstance(last, Undoing):
            return "undo interrupted"
        return last.outcome if isinstance(last, Ended) else "interrupted"

    @property
    def is_open(self) -> bool:
        """Return whether it was left half done."""
        return self.status.endswith("interrupted")

    @property
    def why(self) -> str:
        """Return what its end was due to; "" for a plain one, and where it has none."""
        last = next((r for r in reversed(self.records) if isinstance(r, (Ended, Undoing))), None)
        return last.why if isinstance(last, Ended) else ""

    @property
    def forced(self) -> bool:
        """Return whether the last undo of it was asked for with --force."""
        return next((r.force for r in reversed(self.records) if isinstance(r, Undoing)), False)

    def starts(self, number: int) -> int:
        """Return how often an installer was about to begin with a step: more than once after a crash."""
        return sum(isinstance(r, Started) and r.number == number for r in self.records)

    def installed(self, number: int) -> tuple[Version, ...] | None:
        """Return what was installed after a step, or None where it did not come to its end."""
        return next((r.after for r in self.records if isinstance(r, Done) and r.number == number), None)

    def undone(self) -> set[int]:
        """Return the steps that are taken back."""
        return {record.number for record in self.records if isinstance(record, Undone)}

    def purged(self) -> set[int]:
        """Return the steps whose moved-aside files are gone for good."""
        return {record.number for record in self.records if isinstance(record, Purged)}

    def kept(self, step: Intent) -> str:
        """Return where an undo of a step has kept what was in its way, or "" where nothing was.

        A path that no undo of this run would have given counts as nothing: a journal may be planted.
        """
        said = next((r.kept for r in self.records if isinstance(r, Undone) and r.number == step.number), "")
        folder, name = os.path.split(said)
        own = folder == os.path.dirname(step_path(step.step)) and name.startswith(
            f"{mark(self.name, step.number)}.was"
        )
        return said if own else ""


def mark(run: str, number: int) -> str:
    """Return the name of a step's temporary file."""
    return f".cudadoctor-{run}-{number}"


def parse(path: str, data: bytes) -> Run:
    """Return the run that a journal tells of; raise Corrupt. A last line that was torn off does not count."""
    records: list[Record] = []
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        try:
            record = _DECODER.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Corrupt(f"{path}: line {number} is no record of a journal: {error}") from None
        if isinstance(record, Begin) and record.version != VERSION:
            made = f"version {record.version}, by cudadoctor {record.tool}"
            raise Corrupt(f"{path}: is of {made}; this program reads version {VERSION}")
        records.append(record)
    if not records or not isinstance(records[0], Begin):
        raise Corrupt(f"{path}: does not begin as a journal does")
    intents = tuple(record for record in records if isinstance(record, Intent))
    if [intent.number for intent in intents] != list(range(1, len(intents) + 1)):
        raise Corrupt(f"{path}: its steps are not numbered as they were")
    return Run(path, records[0], intents, tuple(records))


class Reads(Protocol):
    """What reading journals takes of a host."""

    def read(self, path: str, limit_bytes: int = ...) -> bytes:
        """Return a regular file's content; raise OSError."""

    def list(self, path: str) -> list[str]:
        """Return the names in a folder; raise OSError."""


def read_runs(host: Reads, folder: str, newest: int = 0) -> list[Run]:
    """Return the runs whose journals lie in `folder`/journal, the oldest first; raise Corrupt or OSError.

    With `newest` only so many of the last ones are read.
    """
    try:
        names = ordered(host.list(f"{folder}/journal"))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [_read_run(host, f"{folder}/journal/{name}") for name in names[-newest:]]


def _read_run(host: Reads, path: str) -> Run:
    try:
        return parse(path, host.read(path, _LIMIT_BYTES))
    except OSError as error:
        error.filename = path  # a read that fails, unlike an open, does not say of what
        raise


class Book:
    """The folder of an environment's journals, opened to be written and locked against other runs."""

    def __init__(self, root: str, below: str) -> None:
        """Open `root`/`below`, making what is missing of `below`; raise Conflict, OSError or Busy."""
        self.folder = f"{root.rstrip('/')}/{below}"
        fd = _open(root, None)
        try:
            for part in below.split("/"):
                inner = _made(fd, part, self.folder)
                os.close(fd)
                fd = inner
            self._lock = _locked(fd, self.folder)
            try:
                self._fd = _made(fd, "journal", self.folder)
            except BaseException:
                os.close(self._lock)
                raise
        finally:
            os.close(fd)

    def close(self) -> None:
        """Let others in."""
        os.close(self._fd)
        os.close(self._lock)

    def read(self, run: Run) -> Run:
        """Return a run as its journal tells it now; raise Corrupt or OSError."""
        return parse(run.path, self._read(os.path.basename(run.path)))

    def begin(self, begin: Begin, intents: Sequence[Intent]) -> Journal:
        """Write down what is about to be done, all of it at once, and return the journal to go on with."""
        name = f"{begin.run}.jsonl"
        draft = f".{name}.new"
        for left in (draft, *(n for n in os.listdir(self._fd) if n.startswith(".") and n.endswith(".new"))):
            drop(self._fd, left)
        journal = Journal(self._fd, draft, os.O_CREAT | os.O_EXCL)
        try:
            journal.append(begin, *intents)
            os.rename(draft, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            os.fsync(self._fd)
        except BaseException:
            journal.close()
            drop(self._fd, draft)
            drop(self._fd, name)  # there by now perhaps, but not surely on disk: nothing is done by it
            raise
        journal.name = name
        return journal

    def next_run(self, day: str) -> str:
        """Return the name of a new run: the day and the next number of that day."""
        numbers = [int(m[2]) for name in os.listdir(self._fd) if (m := _RUN.match(name)) and m[1] == day]
        return f"{day}-{max(numbers, default=0) + 1}"

    def reopen(self, run: Run) -> Journal:
        """Return the journal of a run, to append to; what a crash left of a line is cut off."""
        name = os.path.basename(run.path)
        journal = Journal(self._fd, name, 0)
        data = self._read(name)
        journal.cut(data.rfind(b"\n") + 1)
        return journal

    def _read(self, name: str) -> bytes:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._fd)
        with os.fdopen(fd, "rb") as file:
            return file.read(_LIMIT_BYTES)


class Journal:
    """One open journal."""

    def __init__(self, folder: int, name: str, flags: int) -> None:
        self._folder, self.name = folder, name
        how = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | flags
        self._fd = os.open(name, how, 0o644, dir_fd=folder)

    def append(self, *records: Record) -> None:
        """Write records down and return when they are on disk; raise OSError, with nothing written.

        What is half written, or said and not surely on disk, would be taken at its word by the next run.
        """
        size = os.fstat(self._fd).st_size
        view = memoryview(b"".join(msgspec.json.encode(record) + b"\n" for record in records))
        try:
            while view:
                view = view[os.write(self._fd, view) :]
            os.fsync(self._fd)
        except OSError:
            with suppress(OSError):
                self.cut(size)
            raise

    def cut(self, size: int) -> None:
        """Keep the first `size` bytes."""
        os.ftruncate(self._fd, size)

    def forget(self) -> None:
        """Remove it: for a run that was taken back and has no room to say so."""
        drop(self._folder, self.name)

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)


def at_work(folder: str, who: str) -> str:
    """Return the words for a lock that another process holds; `who` is what stands in it."""
    process = f"process {who.strip()}, " if who.strip().isdigit() else ""
    return f"another cudadoctor is at work here ({process}{folder}/lock)"


def ordered(names: Sequence[str]) -> list[str]:
    """Return the names of journals among these, the oldest run first."""
    found = [(m[1], int(m[2]), name) for name in names if (m := _RUN.fullmatch(name.removesuffix(".jsonl")))]
    return [name for _, _, name in sorted(found) if name.endswith(".jsonl")]


def _open(name: str, folder: int | None) -> int:
    try:
        return os.open(name, FOLDER_FLAGS, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise Conflict(f"{name}: is no folder (a link?)") from None
        raise


def _made(fd: int, part: str, whole: str) -> int:
    """Return the folder `part` of `fd`, opened, and made where it is missing."""
    try:
        try:
            return _open(part, fd)
        except FileNotFoundError:
            os.mkdir(part, 0o755, dir_fd=fd)
            os.fsync(fd)
            return _open(part, fd)
    except Conflict:
        raise Conflict(f"{whole}: {part} in it is no folder (a link?)") from None


def _locked(fd: int, whole: str) -> int:
    lock = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=fd)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        who = os.pread(lock, 32, 0).decode("ascii", "replace")
        os.close(lock)
        raise Busy(at_work(whole, who)) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock
