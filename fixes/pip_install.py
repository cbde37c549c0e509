"""See the fix's own page."""

from __future__ import annotations

from collections.abc import Iterator

import cudadoctor.values as values
from cudadoctor.actions import Action, Install, Safety
from cudadoctor.declare import fix
from cudadoctor.facts import Facts
from cudadoctor.findings import Remedy


@fix(Safety.UNSAFE)
def pip_install(remedy: Remedy, facts: Facts) -> Iterator[Action]:
    """Installs packages of the Python package index into the environment.

    ## What it does
    The environment's own installer (uv where it made the environment, else pip) installs what a finding
    names, in the version that the installed torch pins or of the CUDA release that is there.

    ## Why it is safe
    It is not: packages come from the network, and may bring others along. So it is done with `--unsafe` only,
    after everything that is installed has been written down.

    ## How it is undone
    What was installed is removed, and each package that was replaced is installed again in its former
    version.
    """
    yield Install("pip", values.packages(remedy, "pip"))
