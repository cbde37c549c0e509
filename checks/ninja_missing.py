"""See the check's own page."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from cudadoctor.declare import Skip, check
from cudadoctor.facts import BuildTools, Environ, Packages, Paths, Target, Toolkits
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.simulate.choice import consumers, nothing_compiles
from cudadoctor.verdicts import conda_install, pip_for, pip_install, severity_for


@check
def ninja_missing(
    tools: BuildTools,
    target: Target,
    packages: Packages,
    toolkits: Toolkits,
    environ: Environ,
    paths: Paths | None = None,
) -> Iterator[Finding]:
    """No `ninja` on PATH, which FlashInfer starts for every build.

    ## What it means
    FlashInfer and torch's extension builder run `ninja` by name. pip installs it into the environment's
    `bin`, so a launch by the interpreter's full path, without activation, does not find it.

    ## How to tell
    `ninja --version`

    ## What helps
    The environment's `bin` on PATH; `pip install ninja` where there is none.
    """
    who = consumers(packages, toolkits, environ)
    if not who:
        raise Skip(nothing_compiles(packages))
    ninja = tools.tools.get("ninja")
    if ninja is None or ninja.path:
        return
    severity = severity_for(who, packages, paths) if "flashinfer" in who else Severity.NOTE
    name = "FlashInfer" if "flashinfer" in who else "torch's extension builder"
    if ninja.elsewhere:
        folder = ninja.elsewhere.rpartition("/")[0]
        remedy = Remedy("show", {}, f'export PATH={shlex.quote(folder)}:"$PATH"')
        yield Finding(
            f"{name} will not find ninja: it is in the environment, but not on PATH",
            severity,
            (Evidence(ninja.elsewhere, "exists"), Evidence("PATH", f"does not hold {folder}")),
            (remedy,),
        )
        return
    conda, pip = target.kind in ("conda", "pixi"), pip_for(target, packages)
    yield Finding(
        f"{name} will not find ninja",
        severity,
        (Evidence("PATH", "no ninja in any of its folders"),),
        (conda_install(target.prefix, "ninja") if conda else pip_install(pip, "ninja"),),
    )
