"""`cudadoctor diff`: what differs between two looks, and what would bring the second to the first."""

from __future__ import annotations

import argparse
import os
import sys

from msgspec import structs

from cudadoctor.commands.check import HEAD, choose, suppressed
from cudadoctor.commands.look import facts_for, machine_names, saved
from cudadoctor.compare import Difference, Seen, compare
from cudadoctor.compare.roots import home as home_of
from cudadoctor.config import Config, load_config
from cudadoctor.declare import Check
from cudadoctor.engine import DEEP, examine, needed
from cudadoctor.facts import SECTIONS, Facts, Unknown
from cudadoctor.mistakes import UserMistake
from cudadoctor.redact import Redactor, for_facts, in_shell
from cudadoctor.registry import Registry, launch_checks, load, load_fixes
from cudadoctor.report import encode

HERE = "this machine"  #: what B is called where it is looked at now


def run(options: argparse.Namespace) -> int:
    """Print how two looks differ; return 1 where they do."""
    _refuse(options)
    registry = load()
    config = load_config(options.config or "", options.no_config, registry)
    checks = choose(registry, (), [*options.ignore, *config.ignore])
    names = [_called(name) for name in (options.first, options.second)]
    first = saved(options.first, names[0])
    second = saved(options.second, names[1]) if options.second else _here(options, checks, first)
    if isinstance(first.launch, Unknown) and isinstance(second.launch, Unknown):
        checks = [check for check in checks if check.name not in launch_checks()]
    home = "" if options.second else os.path.expanduser("~")
    redactors = for_facts(first), for_facts(second, home, machine_names(options.second))
    seen = [
        _judged(name, facts, redactor, checks, registry, config)
        for name, facts, redactor in zip(names, (first, second), redactors, strict=True)
    ]
    if not options.second:
        seen[1] = structs.replace(seen[1], real=second)
    difference = compare(seen[0], seen[1], checks, load_fixes().fixes)
    _show(difference, redactors[1], home, home_of(seen[1].facts), options)
    return 0 if difference.same else 1


def _called(name: str | None) -> str:
    return HERE if name is None else "stdin" if name == "-" else name


def _refuse(options: argparse.Namespace) -> None:
    """Refuse what cannot be meant."""
    if options.first == options.second == "-":
        raise UserMistake("only one of A and B can be read from stdin")
    for name in ("prefix", "python", "name"):
        if options.second and getattr(options, name):
            raise UserMistake(f"--{name} says what is looked at here: it cannot be combined with B")


def _here(options: argparse.Namespace, checks: list[Check], first: Facts) -> Facts:
    """Look at the target, and at all that A has looked at, but for what runs real programs."""
    known = {name for name in SECTIONS if not isinstance(getattr(first, name), Unknown)}
    return facts_for(options, needed(checks, False, {*HEAD, *known} - DEEP))


def _judged(
    name: str,
    facts: Facts,
    redactor: Redactor,
    checks: list[Check],
    registry: Registry,
    config: Config,
) -> Seen:
    """Let today's checks judge the masked facts: so both are compared as they would be told."""
    masked = redactor.value(facts)
    outcomes = tuple(suppressed(outcome, config) for outcome in examine(masked, checks, registry.own()))
    return Seen(redactor.text(name), masked, outcomes)


def _show(
    difference: Difference, redactor: Redactor, home: str, there: str, options: argparse.Namespace
) -> None:
    """Print the difference in the chosen format, redacted; `there` is what B's home folder is called."""
    redacted = redactor.value(difference)
    if options.format == "json":
        sys.stdout.buffer.write(encode(redacted) + b"\n")
        return
    from cudadoctor.render import difference as rendering

    if options.format == "markdown":
        sys.stdout.write(rendering.markdown(redacted, verbose=options.verbose))
    else:
        shown = _copyable(redacted, difference, home or there)
        rendering.text(shown, stream=sys.stdout, home=home, verbose=options.verbose)


def _copyable(redacted: Difference, difference: Difference, home: str) -> Difference:
    """Give the commands their real paths back, with $HOME for the home folder."""
    return structs.replace(
        redacted,
        checks=tuple(
            structs.replace(turn, fix=in_shell(real.fix, home) if real.fix else "")
            for turn, real in zip(redacted.checks, difference.checks, strict=True)
        ),
        differences=tuple(
            structs.replace(each, command=in_shell(real.command, home) if real.command else "")
            for each, real in zip(redacted.differences, difference.differences, strict=True)
        ),
    )
