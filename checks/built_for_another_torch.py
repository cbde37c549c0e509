"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Builds, BuiltFor, Packages, SharedObjects, TorchBuild
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.simulate.builds import needs
from cudadoctor.versions import series


@check
def built_for_another_torch(packages: Packages, builds: Builds, objects: SharedObjects) -> Iterator[Finding]:
    """A compiled package says that it was built for another torch than the installed one.

    ## What it means
    torch's C++ interface changes from one minor release to the next, and with its C++ ABI (old up to torch
    2.6 on the package index, new since): an extension that links `libc10.so` opens with the very torch it was
    built for, and stops with `undefined symbol` beside another. Its metadata often allows any torch, so no
    installer objects; the name of the wheel (`+cu12torch2.8cxx11abiTRUE`) or a file in it (xformers'
    `cpp_lib.json`) tells. What links torch's stable interface alone suits every later torch.

    ## How to tell
    `python -c "import flash_attn"`; `python -m xformers.info`.

    ## What helps
    The package built for the installed torch.
    """
    if packages.torch is None:
        raise Skip("torch is not installed")
    if not builds.built_for:
        raise Skip("nothing installed says which torch it was built for")
    for each in builds.built_for:
        if why := _why(each, packages.torch, builds) if _counts(each, packages.torch, objects) else "":
            yield _finding(each, why, packages.torch, builds)


def _counts(each: BuiltFor, torch: TorchBuild, objects: SharedObjects) -> bool:
    """Return whether it matters: the library is bound to its torch, and no installer tells of it already."""
    if each.requires_torch and each.requires_torch != torch.version.partition("+")[0]:
        return False  # see requirement-conflict
    libraries = needs(objects, each.distribution)
    if not libraries:
        return each.stated.startswith("+")  # a label is given to what is bound to that torch
    return any("libc10.so" in needed for _, needed in libraries)


def _why(each: BuiltFor, torch: TorchBuild, builds: Builds) -> str:
    """Return what differs, or ""."""
    if each.torch and series(each.torch) != series(torch.version):
        return f"torch {each.torch}"
    if None not in (each.cxx11_abi, builds.torch_abi) and each.cxx11_abi != builds.torch_abi:
        return f"the {'new' if each.cxx11_abi else 'old'} C++ ABI"
    return ""


def _finding(each: BuiltFor, why: str, torch: TorchBuild, builds: Builds) -> Finding:
    evidence = [
        Evidence(each.source, f"built for {each.stated}"),
        Evidence(builds.torch_source, f"torch {torch.version}"),
    ]
    installed = f"torch {torch.version}"
    if why.endswith("ABI"):
        installed += f", which has the {'new' if builds.torch_abi else 'old'} one"
        evidence.append(
            Evidence(builds.torch_abi_source, f"torch has the {'new' if builds.torch_abi else 'old'} ABI")
        )
    wanted = f"torch {series(torch.version)}" + (f" and CUDA {torch.cuda}" if torch.cuda else "")
    return Finding(
        f"{each.distribution} {each.version} is built for {why}, installed is {installed}",
        Severity.ERROR,
        tuple(evidence),
        (Remedy("show", {}, f"a build of {each.distribution} for {wanted}"),),
    )
