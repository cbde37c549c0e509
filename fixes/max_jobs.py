"""See the fix's own page."""

from __future__ import annotations

from collections.abc import Iterator

import cudadoctor.values as values
from cudadoctor.actions import Action, Export, Safety
from cudadoctor.declare import fix
from cudadoctor.facts import Facts
from cudadoctor.findings import Remedy


@fix(Safety.SAFE)
def max_jobs(remedy: Remedy, facts: Facts) -> Iterator[Action]:
    """Sets MAX_JOBS to a number of compilers that the memory holds.

    ## What it does
    The environment's activation files export `MAX_JOBS`, which FlashInfer and torch hand to ninja as the
    number of jobs at a time.

    ## Why it is safe
    A build takes longer, and makes the same. The variable changes no file of anybody's package.

    ## How it is undone
    The activation files get their former content back.
    """
    number = values.text(remedy, "MAX_JOBS")
    if not (number.isascii() and number.isdigit()) or not 0 < int(number) < 10_000:
        raise ValueError(f"{remedy.fix}: {number!r} is no number of jobs")
    yield Export("MAX_JOBS", number)
