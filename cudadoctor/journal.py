"""What was done to an environment, written down before it is done: so that it can be taken back, by whoever
comes next, after a crash too.

A journal is a file of JSON lines, one record each. It comes into being whole, with what is about to be done,
before the first change; every outcome is appended to it. It lies in the environment itself, in
`etc/cudadoctor/journal/`, or where that cannot be written in the user's state folder. Each record is on disk
(fsync) before the next thing happens.

To recover files no outcome is needed but the last: what is there tells, up to the step that may have been at
work. Packages do not tell who brought them, so that an installer is about to begin is written down too, and
all that is installed once it has ended.

A journal can be somebody else's work: nothing in it is taken as a path or a name that no run would write.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol

import msgspec
from msgspec import Struct, structs

from cudadoctor.actions import (
    Install,
    MakeLink,
    MoveAside,
    RemoveLink,
    Step,
    TurnLink,
    Version,
    Was,
    WriteFile,
)
from cudadoctor.ground import FOLDER_FLAGS, Conflict, drop, exact_modes, give_to_owner, step_path

VERSION = 1
_RUN = re.compile(r"(\d{4}-\d\d-\d\d)-(\d{1,6})")
_LIMIT_BYTES = 64 << 20


class Corrupt(Exception):
    """A journal that cannot be read: the file, and why."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path, self.why = path, why


class Busy(Exception):
    """Another run is changing the same environment."""


class Begin(Struct, frozen=True, tag_field="record", tag="begin"):
    """What a run is about: first line of a journal."""

    run: str
    created: str  #: ISO 8601, UTC
    tool: str  #: version of this program
    prefix: str  #: with every link resolved
    version: int = VERSION
    steps: int = 0  #: how many there are: a journal that has fewer was cut; set by `Book.begin`


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
    mine: bool = True  #: False: it was found done, by someone else, and is not the run's to take back


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


class _Head(Struct):
    """What is understood of the first line of a journal of any version."""

    record: str
    version: int
    tool: str = "?"


class Unreadable(Struct, frozen=True):
    """A journal that cannot be read: its run may be open, for all that can be known."""

    path: str
    why: str
    denied: bool = False  #: it is another user's, and not for us to read
    status: str = "unreadable"
    is_open: bool = True

    @property
    def name(self) -> str:
        """Return what the user calls the run."""
        return os.path.basename(self.path).removesuffix(".jsonl")


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

    @property
    def order(self) -> tuple[str, str, int]:
        """Return what runs are sorted by: the oldest first."""
        day, _, number = self.name.rpartition("-")
        return self.begin.created, day, int(number)

    def is_ours(self, number: int) -> bool:
        """Return whether a step, where it is done, was done by this run.

        One that it found done was not, nor one behind that at which it was killed: each is written down as
        done before the next begins.
        """
        reached = max((r.number for r in self.records if isinstance(r, Done)), default=0) + 1
        return number <= reached and not self.found(number)

    def found(self, number: int) -> bool:
        """Return whether a step was found done, by someone else."""
        return any(isinstance(r, Done) and r.number == number and not r.mine for r in self.records)

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
        ours = re.escape(f"{mark(self.name, step.number)}.was") + r"(-\d{1,6})?"
        own = folder == os.path.dirname(step_path(step.step)) and re.fullmatch(ours, name)
        return said if own else ""


def mark(run: str, number: int) -> str:
    """Return the name of a step's temporary file."""
    return f".cudadoctor-{run}-{number}"


def parse(path: str, data: bytes) -> Run:
    """Return the run that a journal tells of; raise Corrupt. A last line that was torn off does not count."""
    records: list[Record] = []
    lines = data.split(b"\n")[:-1]
    _must_be_of_this_version(path, lines[0] if lines else b"")
    for number, line in enumerate(lines, 1):
        try:
            records.append(_DECODER.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Corrupt(path, f"line {number} is no record of a journal: {error}") from None
    if not records or not isinstance(records[0], Begin):
        raise Corrupt(path, "does not begin as a journal does")
    begin = records[0]
    intents = tuple(record for record in records if isinstance(record, Intent))
    if [intent.number for intent in intents] != list(range(1, len(intents) + 1)):
        raise Corrupt(path, "its steps are not numbered as they were")
    if len(intents) != begin.steps:
        raise Corrupt(path, f"it was cut: it has {len(intents)} of {begin.steps} steps")
    if not _RUN.fullmatch(begin.run) or os.path.basename(path) != f"{begin.run}.jsonl":
        raise Corrupt(path, f"is not called as its run is, {begin.run!r}")
    for intent in intents:
        if why := _no_run_writes(intent.step):
            raise Corrupt(path, f"step {intent.number}: {why}")
    return Run(path, begin, intents, tuple(records))


def _must_be_of_this_version(path: str, line: bytes) -> None:
    """Look at the first line before anything else: what a later version writes is not damaged."""
    try:
        head = msgspec.json.decode(line, type=_Head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    if head.record == "begin" and head.version > VERSION:
        made = f"is of version {head.version}, by cudadoctor {head.tool}"
        raise Corrupt(path, f"{made}: a newer cudadoctor wrote it")


def _no_run_writes(step: Step) -> str:
    """Return what is wrong with a step that no plan has made, or ""."""
    if isinstance(step, Install):
        return ""
    path = step.path
    if not path.startswith("/") or path.startswith("//") or path != os.path.normpath(path) or "\0" in path:
        return f"{path!r} is no path as a run writes it"
    match step:
        case MoveAside():
            ours = re.escape(f".{os.path.basename(path)}.cudadoctor-aside") + r"(-\d{1,6})?"
            return "" if re.fullmatch(ours, step.aside) else f"{step.aside!r} is no name that a run gives"
        case WriteFile():
            before = step.before or Was(b"", 0, 0)
            fits = all(0 <= mode <= 0o7777 for mode in (step.mode, before.mode))
            return "" if fits and abs(before.mtime_ns) < 1 << 63 else "no file has such a mode or time"
        case MakeLink() | TurnLink():
            return (
                "" if _is_text(step.text) and _is_text(getattr(step, "before", "-")) else "no link says that"
            )
        case RemoveLink():
            return "" if _is_text(step.before) else "no link says that"
    return ""


def _is_text(text: str) -> bool:
    """Return whether a link can have this text."""
    return bool(text) and "\0" not in text


class Reads(Protocol):
    """What reading journals takes of a host."""

    def read(self, path: str, limit_bytes: int = ...) -> bytes:
        """Return a regular file's content; raise OSError."""

    def list(self, path: str) -> list[str]:
        """Return the names in a folder; raise OSError."""


def read_runs(host: Reads, folder: str, newest: int = 0) -> list[Run | Unreadable]:
    """Return the runs whose journals lie in `folder`/journal, the oldest first; raise OSError.

    With `newest` only so many of the last ones are read.
    """
    try:
        names = ordered(host.list(f"{folder}/journal"))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [_read_run(host, f"{folder}/journal/{name}") for name in names[-newest:]]


def _read_run(host: Reads, path: str) -> Run | Unreadable:
    try:
        return parse(path, host.read(path, _LIMIT_BYTES))
    except Corrupt as problem:
        return Unreadable(path, problem.why)
    except OSError as error:
        return Unreadable(path, error.strerror or str(error), isinstance(error, PermissionError))


class Book:
    """The folder of an environment's journals, opened to be written and locked against other runs."""

    def __init__(self, root: str, below: str, *, mode: int = 0o755, others: Sequence[str] = ()) -> None:
        """Open `root`/`below`, making what is missing of `below`; raise Conflict, OSError or Busy.

        `mode` is that of the folders made; `others` are further folders of journals of this environment.
        """
        self.folder = f"{root.rstrip('/')}/{below}"
        self._others = tuple(others)
        fd, path = _open(root, None), root.rstrip("/")
        try:
            for part in below.split("/"):
                path = f"{path}/{part}"
                inner = _made(fd, path, mode)
                os.close(fd)
                fd = inner
            self._lock = _locked(fd, path)
            try:
                self._fd = _made(fd, f"{path}/journal", mode)
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
        """Write down what is about to be done, all of it at once, and return the journal to go on with.

        Raises OSError, or Conflict for what a journal cannot hold.
        """
        name = f"{begin.run}.jsonl"
        draft = f".{name}.new"
        for left in (draft, *(n for n in os.listdir(self._fd) if n.startswith(".") and n.endswith(".new"))):
            drop(self._fd, left)
        journal = Journal(self._fd, draft, os.O_CREAT | os.O_EXCL)
        try:
            journal.let_in(begin, intents)
            journal.append(structs.replace(begin, steps=len(intents)), *intents)
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
        names = os.listdir(self._fd)
        for folder in self._others:
            with suppress(FileNotFoundError, NotADirectoryError):
                names += os.listdir(f"{folder}/journal")
        numbers = [int(m[2]) for name in names if (m := _RUN.match(name)) and m[1] == day]
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
        self._fd = os.open(name, how, 0o600, dir_fd=folder)

    def let_in(self, begin: Begin, intents: Sequence[Intent]) -> None:
        """Let those read it who may read every file that it holds, and let its owner be who can undo it.

        Caches of root's, and packages that root installed, are root's alone to bring back.
        """
        os.fchmod(self._fd, _mode(intents))
        inside = f"{begin.prefix.rstrip('/')}/"
        if all(step_path(intent.step).startswith(inside) for intent in intents):
            give_to_owner(self._folder, self._fd)

    def append(self, *records: Record) -> None:
        """Write records down and return when they are on disk; raise OSError or Conflict, nothing written.

        What is half written, or said and not surely on disk, would be taken at its word by the next run.
        """
        size = os.fstat(self._fd).st_size
        view = memoryview(b"".join(_line(record) for record in records))
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


def _mode(intents: Sequence[Intent]) -> int:
    """Return the mode of a journal of these steps, which holds the content of files."""
    mode = 0o644
    for intent in intents:
        if isinstance(intent.step, WriteFile):
            mode &= intent.step.mode
            mode &= intent.step.before.mode if intent.step.before else mode
    return mode | 0o600


def _line(record: Record) -> bytes:
    try:
        return msgspec.json.encode(record) + b"\n"
    except UnicodeEncodeError:
        where = step_path(record.step) if isinstance(record, Intent) else getattr(record, "prefix", "")
        what = f"{where}: this, or what it holds," if where else "what was to be written down"
        raise Conflict(f"{what} is not UTF-8: a journal cannot hold it") from None


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


@contextmanager
def _told_of(path: str) -> Iterator[None]:
    """Let an error name the whole path, and a link in the place of a folder be a conflict."""
    try:
        yield
    except Conflict:
        raise Conflict(f"{path}: is no folder (a link?)") from None
    except OSError as error:
        error.filename = path
        raise


def _made(fd: int, path: str, mode: int) -> int:
    """Return the folder `path`, which is in `fd`, opened, and made where it is missing."""
    name = os.path.basename(path)
    with _told_of(path):
        try:
            return _open(name, fd)
        except FileNotFoundError:
            with exact_modes():
                os.mkdir(name, mode, dir_fd=fd)
            made = _open(name, fd)
            give_to_owner(fd, made)
            os.fsync(fd)
            return made


def _locked(fd: int, folder: str) -> int:
    lock = _lock_file(fd, f"{folder}/lock")
    try:
        with _told_of(f"{folder}/lock"):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except BaseException as error:
        who = os.pread(lock, 32, 0).decode("ascii", "replace")
        os.close(lock)
        if isinstance(error, BlockingIOError):
            raise Busy(at_work(folder, who)) from None
        raise
    return lock


def _lock_file(fd: int, path: str) -> int:
    """Return the lock, opened: a file with no other name, for it is written to."""
    how = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with _told_of(path):
        try:
            with exact_modes():
                lock = os.open("lock", how | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=fd)
            give_to_owner(fd, lock)
        except FileExistsError:
            lock = os.open("lock", how, dir_fd=fd)
    found = os.fstat(lock)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(lock)
        raise Conflict(f"{path}: is no lock of ours")
    return lock
