"""See the check's own page."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Distribution, Environ, Packages, Target
from cudadoctor.findings import Evidence, Finding, Remedy, Severity

_STACK = frozenset((
    "vllm", "sglang", "torch", "torchvision", "torchaudio", "triton", "transformers", "xformers",
    "tokenizers", "flashinfer-python", "flash-attn", "apache-tvm-ffi", "bitsandbytes", "numpy",
))  # fmt: skip
_SHOWN = 8


@check
def package_shadowed(packages: Packages, target: Target, environ: Environ) -> Iterator[Finding]:
    """A package outside the environment is imported instead of the environment's own version.

    ## What it means
    What PYTHONPATH names comes before everything, and the user's own folder (`~/.local/lib/pythonX.Y`) comes
    before the packages of a conda environment or of a Python of pyenv. A package that was once installed
    there, with `pip install --user` or by a pip that could not write elsewhere, wins over the environment's,
    whatever is installed into that. A virtual environment that covers its base does so by design.

    ## How to tell
    `python -c "import NAME; print(NAME.__file__)"`

    ## What helps
    `PYTHONNOUSERSITE=1`, or PYTHONPATH without that folder; or removing the package there.
    """
    if not packages.distributions:
        raise Skip("no Python packages are installed")
    first: dict[str, Distribution] = {}
    hidden: dict[str, list[tuple[Distribution, Distribution]]] = {}
    for each in packages.distributions:
        wins = first.setdefault(each.name, each)
        if wins.location == each.location or wins.version == each.version or not each.version:
            continue
        by = _brought_by(wins.location, target, environ)
        if by and each.location.startswith(f"{target.prefix}/"):
            hidden.setdefault(f"{by}\0{wins.location}", []).append((wins, each))
    for key, pairs in hidden.items():
        by, _, folder = key.partition("\0")
        yield _finding(by, folder, pairs, environ)


def _brought_by(folder: str, target: Target, environ: Environ) -> str:
    """Return what puts a folder before the environment's own: PYTHONPATH or the user's folder."""
    if folder in (entry.rstrip("/") for entry in environ.entries("PYTHONPATH") if entry):
        return "PYTHONPATH"
    outside = not folder.startswith((f"{target.prefix}/", f"{target.base_prefix}/"))
    # A system's Python has the user's folder by design.
    user = target.kind not in ("system", "venv", "virtualenv", "uv") and folder in target.site_packages
    return "the user's folder" if outside and user and folder.endswith("/site-packages") else ""


def _finding(
    by: str, folder: str, pairs: list[tuple[Distribution, Distribution]], environ: Environ
) -> Finding:
    pairs = sorted(pairs, key=lambda pair: pair[0].name not in _STACK)
    wins, loses = pairs[0]
    more = f", and {len(pairs) - 1} more packages" if len(pairs) > 2 else ""
    more = ", and one more package" if len(pairs) == 2 else more
    evidence = [
        Evidence(wins.path, f"{wins.name} {wins.version} wins over {loses.location}: {loses.version}")
        for wins, loses in pairs[:_SHOWN]
    ]
    if by == "PYTHONPATH":
        kept = ":".join(entry for entry in environ.entries("PYTHONPATH") if entry.rstrip("/") != folder)
        evidence.append(Evidence(environ.where("PYTHONPATH"), environ.get("PYTHONPATH") or ""))
        command = f"export PYTHONPATH={shlex.quote(kept)}" if kept else "unset PYTHONPATH"
    else:
        command = "export PYTHONNOUSERSITE=1"
    return Finding(
        f"{wins.name} {wins.version} of {by} is imported instead of the environment's {loses.version}{more}",
        Severity.WARNING if wins.name in _STACK else Severity.NOTE,
        tuple(evidence),
        (Remedy("show", {}, command),),
    )
