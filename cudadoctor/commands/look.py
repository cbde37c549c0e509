"""What the commands share: facts from the machine or a file, and a word when that takes a while."""

from __future__ import annotations

import argparse
import errno
import os
import stat
import sys
import time
from collections.abc import Iterable

from cudadoctor.engine import collect
from cudadoctor.facts import Facts
from cudadoctor.host import Host, RealHost
from cudadoctor.mistakes import UserMistake
from cudadoctor.probes.target import Asked, NoTarget, Request
from cudadoctor.report import UnreadableReport, decode

REPLAY_LIMIT_BYTES = 16 << 20
_REAL = {
    "deep": "running the real compiler and linker",
    "live": "importing the real stack",
    "symbols": "resolving every symbol with the real loader",
}


def asked_in(options: argparse.Namespace) -> Asked | None:
    """Return the launch that a command was given; most are given none."""
    return getattr(options, "asked", None)


def facts_for(options: argparse.Namespace, wanted: Iterable[str], host: Host | None = None) -> Facts:
    """Return the facts of the target that the options name, or those of the file to replay."""
    if options.facts:
        if options.deep:
            raise UserMistake("--deep runs real commands: it cannot be combined with --facts")
        return saved(options.facts, f"--facts {options.facts}")
    if options.deep:
        end_on_signals()
    named = (options.prefix or "", options.python or "", options.name or "")
    request = Request(*named, options.deep, asked_in(options))
    try:
        with Waiting() as waiting:
            return collect(host or RealHost(), wanted, request, waiting.tell)
    except NoTarget as problem:
        raise UserMistake(str(problem)) from None


def must_name_no_launch(options: argparse.Namespace) -> None:
    """Refuse a launch beside a saved report."""
    if options.argv or options.compose or options.dockerfile or options.script:
        raise UserMistake("a saved report has the launch that it is about: none can be given with --facts")


def machine_names(replayed: object = False) -> tuple[str, ...]:
    """Return what this machine is called, to be masked; of a report from elsewhere it is not known."""
    return () if replayed else (os.uname().nodename,)


def end_on_signals() -> None:
    """Let SIGTERM and SIGHUP end this program as Ctrl-C does: compilers stopped, no folder left."""
    import signal
    import threading

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _stop)


def _stop(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def saved(name: str, label: str) -> Facts:
    """Return the facts of a report or facts file (- for stdin); `label` says in a mistake who named it."""
    try:
        data = _content(name)
    except (OSError, ValueError) as error:
        raise UserMistake(f"{label}: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > REPLAY_LIMIT_BYTES:
        raise UserMistake(f"{label}: larger than {REPLAY_LIMIT_BYTES >> 20} MiB")
    try:
        return decode(data)
    except UnreadableReport as problem:
        raise UserMistake(f"{label}: {problem}") from None


def _content(name: str) -> bytes:
    """Return the bytes of a file, or of a pipe that a shell made for us: <(ssh other cudadoctor check)."""
    if name == "-":
        if sys.stdin is None:
            raise OSError(errno.EBADF, "the input is closed")
        return sys.stdin.buffer.read(REPLAY_LIMIT_BYTES + 1)
    if stat.S_ISFIFO(os.stat(name).st_mode):
        with open(name, "rb") as stream:
            return stream.read(REPLAY_LIMIT_BYTES + 1)
    return RealHost().read(name, REPLAY_LIMIT_BYTES)


class Waiting:
    """A line on a terminal's stderr while probes take longer than a second; gone when they are done."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._shown = False

    def __enter__(self) -> Waiting:
        return self

    def tell(self, names: list[str]) -> None:
        """Say which sections are still being looked at."""
        real = [_REAL[name] for name in names if name in _REAL]
        self.say(" and ".join(real) if len(real) == len(names) else f"looking at {', '.join(names)}")

    def say(self, what: str) -> None:
        """Say what takes so long."""
        if not sys.stderr.isatty():
            return
        elapsed = time.monotonic() - self._started
        sys.stderr.write(f"\r\x1b[K{what} ... {elapsed:.0f} s")
        sys.stderr.flush()
        self._shown = True

    def __exit__(self, *_: object) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
