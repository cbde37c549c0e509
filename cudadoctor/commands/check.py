"""`cudadoctor check`: look, judge, report."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec import structs

from cudadoctor import __version__
from cudadoctor.commands.look import asked_in, facts_for, machine_names
from cudadoctor.config import Config, load_config
from cudadoctor.declare import Check
from cudadoctor.engine import everything, examine, needed
from cudadoctor.facts import Facts, Unknown
from cudadoctor.findings import Severity
from cudadoctor.mistakes import UserMistake, nearest
from cudadoctor.outcomes import Failed, Outcome
from cudadoctor.redact import Redactor, for_facts, in_shell
from cudadoctor.registry import Registry, launch_checks, load
from cudadoctor.report import Report, Tool, encode

if TYPE_CHECKING:
    from cudadoctor.planned import MemoryPlan

#: Sections that the head of a report shows, whatever the chosen checks need.
HEAD = ("target", "environ", "packages", "toolkits", "machine")


def run(options: argparse.Namespace) -> int:
    """Check the target and print the report; return its exit code."""
    report, config = made(options)
    fail_on = threshold(options.fail_on or config.fail_on)
    show(report, options, fail_on)
    return report.exit_code(fail_on)


def made(options: argparse.Namespace, whole: bool = False) -> tuple[Report, Config]:
    """Return the report on what the options name, and the settings; a `whole` one holds every fact."""
    started = time.perf_counter()
    registry = load(launch=judges_launch(options))
    config = load_config(options.config or "", options.no_config, registry)
    ignored = [*options.ignore, *config.ignore]
    checks = choose(registry, options.names, ignored)
    wanted = everything(options.deep) if whole else needed(checks, options.deep, HEAD)
    facts = facts_for(options, wanted)
    if options.facts and not options.names and isinstance(facts.launch, Unknown):
        checks = [check for check in checks if check.name not in launch_checks()]
    outcomes: list[Outcome] = examine(facts, checks, registry.own())
    outcomes += failures(registry, options.names, ignored)
    report = Report(
        tool=Tool("cudadoctor", __version__),
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        target=facts.target,
        facts=facts,
        outcomes=tuple(suppressed(outcome, config) for outcome in outcomes),
        elapsed_ms=round((time.perf_counter() - started) * 1000, 1),
        replayed=bool(options.facts),
        plan=_plan(facts),
    )
    return report, config


def _plan(facts: Facts) -> MemoryPlan | None:
    """Return how a launch will use the GPU's memory; None where there is none, or it is not known."""
    if isinstance(facts.launch, Unknown):
        return None
    from cudadoctor.planning import memory_plan

    return memory_plan(facts)


def judges_launch(options: argparse.Namespace) -> bool:
    """Return whether a launch may be judged: one was given, may be in the file to replay, or is named."""
    return asked_in(options) is not None or bool(options.facts) or bool(options.names)


def choose(registry: Registry, names: Sequence[str], ignored: Sequence[str]) -> list[Check]:
    """Return the checks to run; an unknown name is the user's mistake, with the nearest known one."""
    known = registry.names
    for name in (*names, *ignored):
        if name not in known:
            raise UserMistake(f"no check is called {name!r}{nearest(name, known)} (see: cudadoctor list)")
    chosen = names or list(registry.checks)
    return [
        registry.checks[name]
        for name in dict.fromkeys(chosen)
        if name in registry.checks and name not in ignored
    ]


def failures(registry: Registry, names: Sequence[str], ignored: Sequence[str]) -> list[Outcome]:
    """Return the plug-ins that could not be loaded, as far as they are asked for."""
    return [f for f in registry.failures if (not names or f.check in names) and f.check not in ignored]


def suppressed(outcome: Outcome, config: Config) -> Outcome:
    """Mark the findings that the configuration accepts; they stay in the report with the reason."""
    reason = config.suppress.get(outcome.check)
    if reason is None or not isinstance(outcome, Failed):
        return outcome
    findings = tuple(structs.replace(finding, suppressed=reason) for finding in outcome.findings)
    return structs.replace(outcome, findings=findings)


def threshold(name: str) -> Severity | None:
    """Return the severity that a setting names; None for "never"."""
    return None if name == "never" else Severity(name)


def show(report: Report, options: argparse.Namespace, fail_on: Severity | None = Severity.ERROR) -> None:
    """Print the report in the chosen format, redacted; `fail_on` says what fails a CI run."""
    home = os.path.expanduser("~") if not report.replayed else ""
    redactor = for_facts(report.facts, home, machine_names(report.replayed))
    redacted = redactor.value(report)
    if options.format == "json":
        sys.stdout.buffer.write(encode(redacted) + b"\n")
    elif options.format == "markdown":
        from cudadoctor.render import markdown

        sys.stdout.write(markdown.render(redacted))
    elif options.format == "junit":
        from cudadoctor.render import junit

        sys.stdout.write(junit.render(redacted, fail_on))
    elif options.format == "sarif":
        from cudadoctor.render import sarif

        ended = {outcome.check for outcome in report.outcomes}
        pages = [check for name, check in load().checks.items() if name in ended]
        sys.stdout.buffer.write(sarif.render(redacted, pages, fail_on, _started_in(report, redactor)))
    else:
        from cudadoctor.render import text

        shown = structs.replace(redacted, outcomes=tuple(_copyable(redacted.outcomes, report, home)))
        text.render(shown, stream=sys.stdout, quiet=options.quiet, verbose=options.verbose)
        if "GITHUB_ACTIONS" in os.environ:
            from cudadoctor.commands import workflow

            workflow.tell(redacted, fail_on, _started_in(report, redactor))


def _started_in(report: Report, redactor: Redactor) -> str:
    """Return the current folder as the redacted report has it; "" where that says nothing of its paths."""
    if report.replayed:
        return ""
    try:
        return redactor.text(os.getcwd())
    except OSError:
        return ""


def _copyable(outcomes: Sequence[Outcome], report: Report, home: str) -> Iterator[Outcome]:
    """Give the commands of the masked outcomes their real paths back, with $HOME for the home folder."""
    for outcome, original in zip(outcomes, report.outcomes, strict=True):
        findings = [
            structs.replace(
                finding,
                remedies=tuple(structs.replace(r, summary=in_shell(r.summary, home)) for r in real.remedies),
            )
            for finding, real in zip(outcome.findings, original.findings, strict=True)
        ]
        yield structs.replace(outcome, findings=tuple(findings)) if findings else outcome
