"""How a check is declared: a function whose name is its id, whose parameters are its needs and whose
docstring is its page.

    @check
    def nvcc_missing(toolkits: Toolkits, packages: Packages) -> Iterator[Finding]:
        '''No nvcc where a just-in-time build will look for it.

        ## What it means ...
        '''

A parameter with a default may do without: it keeps the default where its section could not be had.

It yields findings, or raises `Skip` where it does not apply and `CannotTell` where what was seen is not
enough for a verdict; findings that it has yielded before that count.

A fix is declared the same way: a function that turns a remedy into actions and touches nothing.

    @fix(Safety.SAFE)
    def cuda_home(remedy: Remedy, facts: Facts) -> Iterator[Action]:
        '''Sets CUDA_HOME to the toolkit that the nvcc in use belongs to.

        ## What it does ...
        '''
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from cudadoctor.facts import SECTIONS, Facts, Unknown
from cudadoctor.findings import Finding, Remedy
from cudadoctor.outcomes import Crashed, Failed, Inconclusive, Outcome, Passed, Skipped

if TYPE_CHECKING:
    from cudadoctor.actions import Action, Safety

HEADINGS = ("## What it means", "## How to tell", "## What helps")
FIX_HEADINGS = ("## What it does", "## Why it is safe", "## How it is undone")


class Skip(Exception):
    """The check does not apply to this target."""


class CannotTell(Exception):
    """The check applies, but what was seen does not allow a verdict."""


class Check(Struct, frozen=True):
    """One check: its id, the sections of Facts it needs, its page and its judgement."""

    name: str
    needs: tuple[str, ...]
    judge: Callable[..., Iterable[Finding]]

    @property
    def doc(self) -> str:
        """Return the whole page."""
        import inspect

        return inspect.cleandoc(self.judge.__doc__ or "")

    @property
    def title(self) -> str:
        """Return the first sentence of the page."""
        return " ".join(self.doc.partition("\n\n")[0].split())

    @property
    def required(self) -> tuple[str, ...]:
        """Return the needs without a default."""
        return self.needs[: len(self.needs) - len(self.judge.__defaults__ or ())]

    def run(self, facts: Facts) -> Outcome:
        """Judge `facts`; never raises."""
        started = time.perf_counter()
        outcome = self._judge(facts)
        return structs.replace(outcome, duration_ms=round((time.perf_counter() - started) * 1000, 3))

    def _judge(self, facts: Facts) -> Outcome:
        arguments = {name: getattr(facts, name) for name in self.needs}
        for name in set(self.needs) - set(self.required):
            if isinstance(arguments[name], Unknown):
                del arguments[name]
        for name, section in arguments.items():
            if isinstance(section, Unknown):
                kind = Skipped if section.expected else Crashed if section.crashed else Inconclusive
                return kind(self.name, f"{name}: {section.reason}")
        findings: list[Finding] = []
        try:
            for finding in self.judge(**arguments):
                if not isinstance(finding, Finding):
                    return Crashed(self.name, "yielded something that is no Finding")
                findings.append(finding)
        except Skip as reason:
            return Skipped(self.name, str(reason))
        except CannotTell as reason:
            if not findings:  # what was found stands, whatever cannot be told of the rest
                return Inconclusive(self.name, str(reason))
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            return Crashed(self.name, where(error))
        return Failed(self.name, findings=tuple(findings)) if findings else Passed(self.name)


def check(function: Callable[..., Iterable[Finding]]) -> Check:
    """Make a check of a function; raise TypeError where its parameters are no sections of Facts."""
    needs = function.__code__.co_varnames[: function.__code__.co_argcount]
    if unknown := [name for name in needs if name not in SECTIONS]:
        raise TypeError(f"{function.__name__}: no section of facts is called {', '.join(unknown)}")
    return Check(function.__name__.replace("_", "-"), needs, function)


class Fix(Struct, frozen=True):
    """One fix: its name, what it needs to be carried out, its page, and how a remedy becomes actions."""

    name: str
    safety: Safety
    plan: Callable[[Remedy, Facts], Iterable[Action]]

    @property
    def doc(self) -> str:
        """Return the whole page."""
        import inspect

        return inspect.cleandoc(self.plan.__doc__ or "")

    @property
    def title(self) -> str:
        """Return the first sentence of the page."""
        return " ".join(self.doc.partition("\n\n")[0].split())


def fix(safety: Safety) -> Callable[[Callable[[Remedy, Facts], Iterable[Action]]], Fix]:
    """Make a fix of a function from a remedy and facts to actions."""

    def made(function: Callable[[Remedy, Facts], Iterable[Action]]) -> Fix:
        return Fix(function.__name__.replace("_", "-"), safety, function)

    return made


def where(error: BaseException) -> str:
    """Return the error in one line, with the place it came from."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}{place}" if text else f"{type(error).__name__}{place}"
