"""What the checks of the loader share: the imports they judge, and how a library is told of."""

from __future__ import annotations

import posixpath
import re

from msgspec import Struct, structs

from cudadoctor.declare import CannotTell, Skip
from cudadoctor.facts import Environ, Packages, SharedObjects
from cudadoctor.findings import Remedy, export
from cudadoctor.knowledge import wheels
from cudadoctor.latest import latest
from cudadoctor.simulate.imports import Imported, imports, lacking, without
from cudadoctor.simulate.loader import Loaded, Problem, Seen
from cudadoctor.verdicts import pip_install, pip_of


@latest
def loaded_extensions(objects: SharedObjects, environ: Environ) -> list[Imported]:
    """Return each extension as the loader will load it; raise Skip where there is none, or no loader.

    CannotTell where the facts lack the interpreter itself, as those of another program may.
    """
    if objects.loader is None:
        raise Skip(objects.reason)
    if not objects.extensions:
        raise Skip("no compiled extension of the stack is installed")
    if not Seen(objects).at(objects.python):
        raise CannotTell(f"no file was seen where the interpreter should be: {objects.python}".rstrip(": "))
    return imports(objects, environ, environ.get("LD_LIBRARY_PATH") or "")


def short(path: str, packages: Packages) -> str:
    """Return a path from its site-packages folder on: "vllm/_C.abi3.so"; others stay whole."""
    plain = posixpath.normpath(path)
    for place in dict.fromkeys(distribution.location for distribution in packages.distributions):
        if plain.startswith(f"{place}/"):
            return plain[len(place) + 1 :]
    return path


def found_by(one: Loaded | Problem, environ: Environ) -> str:
    """Return in words what made the loader take a library."""
    by = one.by.path if one.by else ""
    return {
        "RPATH": f"the RPATH of {by} or of what loaded it leads there",
        "RUNPATH": f"the RUNPATH of {by} leads there",
        "LD_LIBRARY_PATH": f"{environ.where('LD_LIBRARY_PATH')} leads there",
        "cache": "the loader's cache leads there",
        "default": f"the loader looks in {one.folder} by itself",
    }.get(one.rule, f"{by} names it by its path")


def take_out(folders: set[str], objects: SharedObjects, environ: Environ, name: str = "") -> Remedy | None:
    """Return the remedy that takes folders out of LD_LIBRARY_PATH; None where that would not help.

    It has to leave every version found, and nothing missing that is found now, nor `name`.
    """
    value = environ.get("LD_LIBRARY_PATH") or ""
    kept = without(value, folders)
    if kept == value:
        return None
    now, then = imports(objects, environ, value), imports(objects, environ, kept)
    missed = {problem.name for one in now for problem in one.problems} - {name}
    if any(problem.name not in missed for one in then for problem in one.problems):
        return None
    return (
        None
        if any(True for one in then for _ in lacking(one))
        else export("library-path", LD_LIBRARY_PATH=kept)
    )


class Wheel(Struct, frozen=True):
    """What brings a library: the name is empty where that is not known."""

    name: str
    version: str = ""  #: that torch asks for
    installed: str = ""
    instead: str = ""  #: the library in it, where it is for another CUDA than the one that is looked for


def wheel_of(soname: str, packages: Packages) -> Wheel:
    """Return the wheel that brings a library, as torch or CUDA's metapackage asks for it."""
    wheel = wheel_named(wheels.stem(soname), packages)
    cuda = _cuda_of(wheel.name, packages)
    return structs.replace(wheel, instead=wheels.instead(soname, cuda)) if cuda else wheel


def _cuda_of(wheel: str, packages: Packages) -> str:
    """Return the CUDA major of one of NVIDIA's wheels, "" where it is none or that is not known."""
    if not wheel.startswith("nvidia-"):
        return ""
    if named := re.search(r"-cu(\d+)$", wheel):
        return named[1]
    whole = packages.find("cuda-toolkit")
    release = whole.version if whole else packages.torch.cuda if packages.torch else ""
    return release.partition(".")[0]


def wheel_named(stem: str, packages: Packages) -> Wheel:
    """Return the wheel with this stem, as `knowledge.wheels` has it."""
    if stem in ("", "torch"):
        found = packages.find(stem)
        return Wheel(stem, "", found.version if found else "")
    named = re.compile(rf"(nvidia-{stem}(?:-cu\d+)?)\s*\(?==\s*([\w.]+)")
    for owner in ("torch", "cuda-toolkit"):
        distribution = packages.find(owner)
        for match in map(named.match, distribution.requires if distribution else ()):
            if match:
                there = packages.find(match[1])
                return Wheel(match[1], match[2].removesuffix("."), there.version if there else "")
    return Wheel("")


def install_wheel(wheel: Wheel, packages: Packages) -> Remedy | None:
    """Return the remedy that brings a wheel, anew where it is installed; None where none is known to."""
    if not wheel.name or wheel.instead:
        return None
    if wheel.installed and wheel.version in ("", wheel.installed):
        return reinstall(wheel.name, wheel.installed, packages)
    return pip_install(pip_of(packages), f"{wheel.name}=={wheel.version}" if wheel.version else wheel.name)


def reinstall(name: str, version: str, packages: Packages) -> Remedy:
    """Return what puts the files of an installed distribution back: it is shown and no more."""
    return pip_install(pip_of(packages), f"{name}=={version}", again=True)
