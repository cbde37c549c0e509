"""See the check's own page."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Distribution, Machine, Packages, Target
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.knowledge import conda
from cudadoctor.simulate.requirements import Cause, Conflict, causes, conflicts, environments, read
from cudadoctor.verdicts import conda_install, pip_for, pip_install

#: Projects that are built for each other's versions: one of another version fails at import or in a kernel.
_STACK = frozenset((
    "vllm", "sglang", "torch", "torchvision", "torchaudio", "triton", "pytorch-triton", "transformers",
    "xformers", "flashinfer-python", "flashinfer-cubin", "flashinfer-jit-cache", "flash-attn",
    "apache-tvm-ffi", "bitsandbytes",
))  # fmt: skip
#: What transformers compares with its own pins when it is imported, and raises ImportError for
#: (transformers/dependency_versions_check.py, read in 4.57.6, 2026-11-21).
_AT_IMPORT = frozenset((
    "tqdm", "regex", "requests", "packaging", "filelock", "numpy", "tokenizers", "huggingface-hub",
    "safetensors", "accelerate", "pyyaml",
))  # fmt: skip
_SHOWN = 12  #: conflicts of one cause that are told one by one
_OF_SYSTEM = "/usr/lib/python3/dist-packages"


@check
def requirement_conflict(packages: Packages, target: Target, machine: Machine) -> Iterator[Finding]:
    """An installed package requires another that is missing, or of another version.

    ## What it means
    Installers look at what they install, not at what that breaks, and `--no-deps`, a second install or an
    interrupted one leaves versions that were never meant to meet. Between the parts of the CUDA stack that
    ends in an ImportError, a missing symbol or a wrong kernel; transformers refuses to be imported. What an
    extra requires counts only for who asked for it, which is not written down: it is not judged.

    ## How to tell
    `pip check`, or `uv pip check`

    ## What helps
    The one change that clears the most, to versions that all who require them accept. Where no version suits
    all, one of those who exclude each other must change.
    """
    where = environments(target, machine)
    if not packages.distributions:
        raise Skip("no Python packages are installed")
    if not where:
        raise CannotTell("the version of the environment's Python is not known")
    requirements = read(packages, where)
    found = conflicts(requirements, packages, where)
    for cause in causes(found, requirements):
        yield Finding(
            _summary(cause),
            max((_severity(conflict) for conflict in cause.conflicts), key=lambda severity: severity.rank),
            tuple(_evidence(cause, len(found))),
            tuple(_remedies(cause, packages, target)),
        )


def _summary(cause: Cause) -> str:
    worst = _by_weight(cause)
    more = len(worst) - 1
    if not more:
        return worst[0].says
    return f"{worst[0].says} ({more} more requirement{'s' * (more > 1)} with the same cause)"


def _by_weight(cause: Cause) -> list[Conflict]:
    """Return the worst first, and of equals those about what is to be changed."""
    changed = set(map(_name, cause.change))
    return sorted(cause.conflicts, key=lambda c: (-_severity(c).rank, c.want.name not in changed))


def _severity(conflict: Conflict) -> Severity:
    holder, name = conflict.want.holder, conflict.want.name
    if not conflict.found and _is_vouched(holder):
        # conda's and Linux distributions' packages bring the same modules under other names.
        return Severity.NOTE
    at_import = holder.name == "transformers" and name in _AT_IMPORT
    stack = _is_stack(holder.name) and (_is_stack(name) or (bool(name) and not conflict.found))
    return Severity.ERROR if stack or at_import else Severity.WARNING


def _is_stack(name: str) -> bool:
    return name in _STACK or name.startswith("nvidia-")


def _is_vouched(holder: Distribution) -> bool:
    return holder.installer == "conda" or holder.location == _OF_SYSTEM


def _evidence(cause: Cause, count: int) -> Iterator[Evidence]:
    told = _by_weight(cause)
    for conflict in told[:_SHOWN]:
        yield Evidence(conflict.want.holder.path, f"requires {conflict.want.text}")
    if len(told) > _SHOWN:
        yield Evidence("...", f"{len(told) - _SHOWN} more")
    there = {conflict.there.path: conflict for conflict in told if conflict.there is not None}
    for path, conflict in there.items():
        yield Evidence(path, f"{conflict.want.name} {conflict.found}")
    for want in cause.against:
        yield Evidence(want.holder.path, f"requires {want.text}: no version suits both this and the others")
    if cause.change and count > 1:
        yield Evidence(" ".join(cause.change), f"clears {len(cause.conflicts)} of {count} conflicts")


# --- what helps ---------------------------------------------------------------------------------------------


def _remedies(cause: Cause, packages: Packages, target: Target) -> Iterator[Remedy]:
    if not cause.change:
        return
    owners = [_owner(name, cause, packages) for name in map(_name, cause.change)]
    if any(owner is not None and owner.installer == "conda" for owner in owners):
        pins = [_conda_pin(change) for change in cause.change]
        if all(pins):
            yield conda_install(target.prefix, *pins)
            return
    yield pip_install(pip_for(target, packages), *cause.change)


def _name(change: str) -> str:
    return re.split(r"[=<>!~]", change, maxsplit=1)[0]


def _owner(name: str, cause: Cause, packages: Packages) -> Distribution | None:
    """Return what is to be changed, or who requires it where it is missing."""
    there = packages.find(name)
    return there or next((c.want.holder for c in cause.conflicts if c.want.name == name), None)


def _conda_pin(change: str) -> str:
    """Return a requirement as conda's spec: the one version, or the series that the lower bound is of."""
    name = _name(change)
    bound = re.search(r"(==|>=|~=)([\d.]*\d)(?:$|,|\.\*)", change)
    if bound is None:
        return "" if change != name else name
    series = bound[2] if bound[1] == "==" else ".".join(bound[2].split(".")[:2])
    return f"{conda.NAMES.get(name, name)}={series}"
