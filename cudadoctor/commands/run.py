"""`cudadoctor run -- COMMAND`: look, set what helps, then become the command.

The command gets this process: its number, its descriptors, its signals, and the variables that this process
was given, byte for byte, but for what helps. Everything said here goes to stderr: stdout is the command's.
"""

from __future__ import annotations

import argparse
import errno
import os
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from msgspec import Struct

from cudadoctor.actions import Export
from cudadoctor.commands.doctor import Doctor, Patient
from cudadoctor.commands.env import exports_of
from cudadoctor.commands.look import machine_names
from cudadoctor.declare import where
from cudadoctor.exports import outcome
from cudadoctor.findings import Severity
from cudadoctor.mistakes import UserMistake
from cudadoctor.outcomes import Inconclusive
from cudadoctor.plan import Plan
from cudadoctor.probes.target import Asked
from cudadoctor.redact import for_facts
from cudadoctor.report import Report
from cudadoctor.show import visible

NOT_EXECUTABLE, NOT_FOUND = 126, 127  #: as shells and env(1) exit


class Verdict(Struct, frozen=True):
    """What a look at the environment says of the launch."""

    report: Report  #: as it will be with the exports
    exports: tuple[Export, ...] = ()
    prefix: str = ""


def run(options: argparse.Namespace) -> int:
    """Become the command, or return why not: 1 findings, 2 wrong usage, 3 a bug (--strict), 126, 127."""
    command: list[str] = options.argv
    if not command or not command[0]:
        raise UserMistake("no command is given (cudadoctor run [OPTIONS] -- COMMAND)")
    options.asked = Asked(tuple(command))
    changes: dict[str, str | None] = {}
    verdict = _verdict(options)
    if verdict is not None:
        doctor, found = verdict
        code = _code(doctor, found.report, options.strict)
        _show(found.report, options.strict)
        if code:
            _say(f"not started: {_shown(command)}")
            return code
        changes = _changes(found)
    for name, value in changes.items():
        _say(f"unset {name}" if value is None else f"export {name}={shlex.quote(value)}")
    if options.dry_run:
        _say(f"would start: {_shown(command)}")
        return 0
    return _become(command, changes)


def _code(doctor: Doctor, report: Report, strict: bool) -> int:
    """Return what stops the launch, or 0: 1 for findings, with --strict for what cannot be told too."""
    code = doctor.exit_code(report)
    if not strict:
        return code if code == 1 else 0
    return code or int(any(isinstance(each, Inconclusive) for each in report.outcomes))


def _verdict(options: argparse.Namespace) -> tuple[Doctor, Verdict] | None:
    """Look and judge; None where that failed: a doctor that crashes stops no launch but with --strict."""
    try:
        doctor = Doctor.of(options)
        return doctor, _looked(doctor, options.no_env)
    except (UserMistake, KeyboardInterrupt):
        raise
    except Exception as error:
        if options.strict:
            raise
        _say(f"failed ({where(error)}): this is a bug of cudadoctor; the command starts all the same")
        return None


def _looked(doctor: Doctor, no_env: bool) -> Verdict:
    patient = doctor.patient()
    if no_env:
        return Verdict(patient.report)
    plan = doctor.planned(patient.report, patient)
    report = plan.predicted or patient.report
    return Verdict(report, _exports(patient, plan), patient.bench.target.prefix)


def _exports(patient: Patient, plan: Plan) -> tuple[Export, ...]:
    try:
        return tuple(exports_of(patient, plan))
    except UserMistake as problem:  # an activation file that was edited by hand: it is not needed for this
        _say(str(problem))
        return tuple(plan.exports)


def _changes(verdict: Verdict) -> dict[str, str | None]:
    """Return what the exports change of the variables that this process was given."""
    after = outcome(verdict.exports, os.environ, verdict.prefix)
    return {name: value for name, value in after.items() if os.environ.get(name) != value}


def _show(report: Report, strict: bool) -> None:
    """Write the findings, and with --strict what could not be told; nothing where all is well."""
    findings = [finding for _, finding in report.findings() if finding.severity is not Severity.NOTE]
    if findings:
        from cudadoctor.render import text

        report = for_facts(report.facts, os.path.expanduser("~"), machine_names()).value(report)
        text.render(report, stream=sys.stderr, quiet=True)
    for each in report.outcomes if strict else ():
        if isinstance(each, Inconclusive):
            _say(f"{each.check}: cannot tell: {each.reason}")


def _shown(command: Sequence[str]) -> str:
    """Return the command as a log may keep it: without the keys and tokens in it."""
    from cudadoctor.secrets import in_words

    return shlex.join(in_words(command, set()))


def _say(message: str) -> None:
    sys.stderr.write(f"cudadoctor: {visible(message)}\n")


# --- becoming the command -----------------------------------------------------------------------------------


def _become(command: Sequence[str], changes: Mapping[str, str | None]) -> int:
    """Replace this process; return the exit code that shells use where that cannot be."""
    environ = _given()
    for name, value in changes.items():
        if value is None:
            environ.pop(os.fsencode(name), None)
        else:
            environ[os.fsencode(name)] = os.fsencode(value)
    sys.stdout.flush()
    sys.stderr.flush()
    # Python has these ignored from its start on, and what they were before is not to be known.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        _execute(command, environ)
    except OSError as error:
        missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        reason = "command not found" if missing and "/" not in command[0] else error.strerror
        _say(f"{command[0]}: {reason}")
        return NOT_FOUND if missing else NOT_EXECUTABLE


def _given() -> dict[bytes, bytes]:
    """Return the variables that this process was started with, in their order.

    Not os.environ: in the C locale Python has set LC_CTYPE in it (PEP 538).
    """
    try:
        with open("/proc/self/environ", "rb") as stream:
            entries = stream.read().split(b"\0")
    except OSError:
        return dict(os.environb)
    pairs = (entry.partition(b"=") for entry in entries)
    return {name: value for name, equals, value in pairs if name and equals}


def _execute(command: Sequence[str], environ: Mapping[bytes, bytes]) -> NoReturn:
    """Execute as execvp(3) does: along PATH, and by /bin/sh what the kernel takes for no program."""
    refused: OSError | None = None
    for place in _places(command[0], environ):
        try:
            os.execve(place, list(command), environ)
        except OSError as error:
            if error.errno == errno.ENOEXEC:
                os.execve("/bin/sh", ["sh", place, *command[1:]], environ)
            if error.errno == errno.EACCES:
                refused = error
            elif error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise
    raise refused or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), command[0])


def _places(name: str, environ: Mapping[bytes, bytes]) -> list[str]:
    if "/" in name:
        return [name]
    path = os.fsdecode(environ.get(b"PATH", os.fsencode(os.defpath)))
    return [f"{folder or '.'}/{name}" for folder in path.split(os.pathsep)]
