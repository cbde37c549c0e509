"""What several checks share: from the models' answers to findings, with their evidence and remedy."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from msgspec import Struct, structs

from cudadoctor.declare import CannotTell, Skip
from cudadoctor.facts import Driver, LinkDirectory, Machine, Packages, Paths, Target
from cudadoctor.findings import Evidence, Finding, Remedy, Severity, export
from cudadoctor.simulate import links
from cudadoctor.simulate.choice import consumers, nothing_compiles, toolkit_to_use
from cudadoctor.simulate.lines import RUN_TIME, LinkLine, Miss, Scene, link_lines, misses

LABELS = {"flashinfer": "FlashInfer", "torch": "torch's extension builder", "triton": "Triton"}
PACKAGES = {
    "cudart": ("cuda-cudart-dev", "cuda-cudart-dev-{mm}"),
    "cuda": ("cuda-driver-dev", "cuda-driver-dev-{mm}"),
}


def severity_for(who: tuple[str, ...], packages: Packages, paths: Paths | None = None) -> Severity:
    """Return how bad a fault is for those who compile: an error where that happens at run time.

    With flashinfer-jit-cache most operators are prebuilt, and only those outside it are compiled. Of a launch
    it may be known that it runs some; where it is not, a fault of theirs is no reason not to start it.
    """
    return Severity.ERROR if "flashinfer" in who and _compiles(packages, paths) else Severity.WARNING


def _compiles(packages: Packages, paths: Paths | None) -> bool:
    """Return whether FlashInfer is to compile at run time."""
    prebuilt = packages.flashinfer is not None and packages.flashinfer.jit_cache
    return not prebuilt and (paths is None or paths.flashinfer is True)


def of_launch(who: tuple[str, ...], paths: Paths | None) -> tuple[Evidence, ...]:
    """Return why a fault of FlashInfer's is judged as it is for this launch."""
    if paths is None or "flashinfer" not in who:
        return ()
    runs = "runs FlashInfer" if paths.flashinfer else "is not known to run FlashInfer"
    return (Evidence("the launch", f"{runs}: {paths.why}"),)


def link_misses(library: str, scene: Scene, paths: Paths | None = None) -> Iterator[Finding]:
    """Yield one finding for `-lLIBRARY`, whoever misses it; raise where nothing links or none can tell."""
    active = {*consumers(scene.packages, scene.toolkits, scene.environ), "triton"}
    failed, unsure = ([m for m in found if m.line.consumer in active] for found in misses(library, scene))
    if failed:
        yield _finding(library, failed, scene, paths)
    elif unsure:
        raise CannotTell(f"{LABELS[unsure[0].line.consumer]}: {unsure[0].resolution.why}")
    elif not any(line.consumer in active for line in link_lines(scene)):
        raise Skip(nothing_compiles(scene.packages))


def _finding(library: str, failed: list[Miss], scene: Scene, paths: Paths | None) -> Finding:
    first = failed[0]
    who = tuple(dict.fromkeys(miss.line.consumer for miss in failed))
    remedy = _remedy(library, failed, scene)
    return Finding(
        f"{' and '.join(LABELS[consumer] for consumer in who)}: {_says(first)}",
        _severity(failed, scene.packages, paths),
        (*_evidence(library, first, scene), *of_launch(who, paths)),
        (remedy,) if remedy else (),
    )


def _says(miss: Miss) -> str:
    """Return what ld will say."""
    if miss.resolution.verdict == "fatal":
        return f"ld stops at {miss.resolution.path}: {miss.resolution.why}"
    lost = next((m for m in miss.resolution.members if m.ends != "found"), miss.resolution)
    return (
        f"the link will stop with: cannot find {lost.name if lost.name.startswith('/') else '-l' + lost.name}"
    )


def _severity(failed: list[Miss], packages: Packages, paths: Paths | None) -> Severity:
    """An error where it is linked at run time; with a jit-cache only operators outside it are."""
    at_run_time = [miss for miss in failed if miss.line.when == RUN_TIME]
    used = _compiles(packages, paths)
    if all(miss.line.consumer == "flashinfer" and not used for miss in at_run_time):
        return Severity.WARNING
    return Severity.ERROR


def _evidence(library: str, miss: Miss, scene: Scene) -> Iterator[Evidence]:
    libraries, environ = scene.libraries, scene.environ
    yield Evidence(miss.line.source, miss.line.command)
    for folder in miss.line.own:
        if not folder.endswith("/torch/lib"):
            yield Evidence(folder, _state(library, libraries.directories.get(folder)))
    for passed in miss.resolution.passed:
        yield Evidence(passed.path, f"ld goes past it: {passed.why}")
    if miss.resolution.verdict == "fatal":
        return
    if value := environ.get("LIBRARY_PATH"):
        yield Evidence(environ.where("LIBRARY_PATH"), f"{value}: no usable lib{library}.so in any of it")
    if environ.get("LD_LIBRARY_PATH") and not environ.get("LIBRARY_PATH"):
        yield Evidence("LD_LIBRARY_PATH", "is read by the loader at run time; the linker does not look there")
    for place in links.places(library, scene.toolkits.toolkits, libraries)[:2]:
        short = "" if place.name.endswith(".so") else f", which -l{library} does not match"
        yield Evidence(place.folder, f"has {place.name}{short}")
    if library == "cuda" and not libraries.driver:
        yield Evidence("/etc/ld.so.cache", "no libcuda.so.1: the loader knows no NVIDIA driver here")


def _state(library: str, directory: LinkDirectory | None) -> str:
    if directory is None:
        return "was not looked at"
    if not directory.exists:
        return "no such folder"
    if directory.reason:
        return directory.reason
    near = sorted(name for name in directory.files if name.startswith(f"lib{library}.so."))
    return f"no lib{library}.so" + (f", only {near[0]}" if near else "")


def _remedy(library: str, failed: list[Miss], scene: Scene) -> Remedy | None:
    """Return the least change that clears the misses, with what would do as well instead of it."""
    first, *others = [*_cures(library, failed, scene), None]
    return structs.replace(first, instead=tuple(filter(None, others))) if first else None


def _cures(library: str, failed: list[Miss], scene: Scene) -> Iterator[Remedy]:
    """Yield what clears the misses, the least change first, each tried on the model.

    A wrong CUDA_HOME is put right before all else. A right one stays as long as one link, or a variable that
    adds to what is there, does.
    """
    line, name = failed[0].line, failed[0].resolution.name
    lines = [miss.line for miss in failed if miss.line.root == line.root]
    home = links.better_home(line, name, scene)
    wrong = links.is_wrong_home(line, scene)
    cures = [export("cuda-home", CUDA_HOME=home)] if home and wrong else []
    link = links.new_link(line, library, scene)
    if link is not None and all(links.cured(each, name, link, scene) for each in lines):
        cures.append(toolkit_link(link))
    if path := links.library_path(lines, name, scene):
        cures.append(export("library-path", LIBRARY_PATH=path))
    elif flags := links.link_flags(lines, name, scene):
        cures.append(export("link-flags", FLASHINFER_EXTRA_LDFLAGS=flags))
    if home and not wrong:
        cures.append(export("cuda-home", CUDA_HOME=home))
    yield from cures
    if (package := _package(library, line.root, scene)) and (not cures or _brings(library, line, scene)):
        yield package


def toolkit_link(link: links.NewLink, *instead: Remedy) -> Remedy:
    """Return the remedy that makes one link in a toolkit."""
    return Remedy("toolkit-links", {"path": link.path, "text": link.text}, link.command, instead)


def _brings(library: str, line: LinkLine, scene: Scene) -> bool:
    """Return whether a package alone will do: the line looks into the toolkit, and no link name is there."""
    toolkit = scene.toolkits.at(line.root)
    looks = (scene.libraries.directories.get(folder) for folder in line.own if folder.startswith(line.root))
    if toolkit is None or not any(directory is not None and directory.exists for directory in looks):
        return False
    return not any(place.is_link_name for place in links.places(library, [toolkit], scene.libraries))


def _package(library: str, root: str, scene: Scene) -> Remedy | None:
    """Return the package that brings the library, for the toolkit that the line uses or should use."""
    toolkit = scene.toolkits.at(root) or toolkit_to_use(scene.toolkits, scene.packages)
    if toolkit is None:
        return another_toolkit(scene.packages)
    if library not in PACKAGES:
        return None
    conda, apt = PACKAGES[library]
    version = ".".join(toolkit.version.split(".")[:2])
    if toolkit.layout.startswith("conda"):
        return conda_install(toolkit.root.partition("/targets/")[0], f"{conda}={version}")
    if toolkit.layout in ("cuda", "debian"):
        package = apt.format(mm=version.replace(".", "-"))
        return Remedy("show", {}, f"the package {package} of NVIDIA's repository brings lib{library}.so")
    return None


def conda_install(prefix: str, *packages: str, again: bool = False) -> Remedy:
    """Return the command that installs packages into a conda or pixi environment.

    Where they are to be installed `again`, as conda thinks that it has them, it is shown and no more.
    """
    wanted = [package.removesuffix("=") for package in packages]
    said = " ".join([*(["--force-reinstall"] if again else []), _named(wanted)])
    project, pixi, _ = prefix.partition("/.pixi/envs/")
    if pixi:
        return Remedy("show", {}, f"pixi add --manifest-path {shlex.quote(project)} {said}")
    command = f"conda install -p {shlex.quote(prefix)} -c conda-forge {said}"
    if again:
        return Remedy("show", {}, command)
    return Remedy("conda-install", {"prefix": prefix, "packages": " ".join(wanted)}, command)


class Pip(Struct, frozen=True):
    """How packages get into an environment."""

    words: str  #: ".../bin/python3 -m pip" or "uv pip"; "" where there is no Python to install for
    option: str = ""  #: what stands behind `install`: "--python .../bin/python3 "
    first: str = ""  #: what brings pip itself: "conda install ... && "
    gone: str = ""  #: what helps where there is no Python


def pip_for(target: Target, packages: Packages) -> Pip:
    """Return what calls pip for an environment, by its own Python: what the fix would take, or names."""
    if not target.python:
        return Pip("", gone=f"make {target.prefix} anew: its Python is gone or cannot be run")
    python = shlex.quote(target.python)
    if any(each.name == "pip" and not each.problem for each in packages.distributions):
        return Pip(f"{python} -m pip")
    if target.kind == "uv":
        return Pip("uv pip", f"--python {python} ")
    if target.kind in ("conda", "pixi"):
        return Pip(f"{python} -m pip", first=f"{conda_install(target.prefix, 'pip').summary} && ")
    return Pip(f"{python} -m pip", first=f"{python} -m ensurepip --upgrade && ")


def pip_of(packages: Packages) -> Pip:
    """Return what calls pip for the environment that these packages are installed in."""
    return Pip("pip") if packages.target is None else pip_for(packages.target, packages)


def pip_install(
    to: Pip | str, *packages: str, again: bool = False, alone: bool = True, index: str = ""
) -> Remedy:
    """Return the command that installs packages into an environment; a text is the words that call pip.

    Where they are to be installed `again`, as pip thinks that it has them (`alone`, without what they
    require), or come from another `index`, it is shown and no more.
    """
    to = Pip(to) if isinstance(to, str) else to
    if to.gone:
        return Remedy("show", {}, to.gone)
    options = ["--force-reinstall"] * again + ["--no-deps"] * (again and alone)
    words = [*options, _named(packages), *(["--index-url", shlex.quote(index)] if index else [])]
    command = f"{to.first}{to.words} install {to.option}{' '.join(words)}"
    if again or index:
        return Remedy("show", {}, command)
    return Remedy("pip-install", {"packages": " ".join(packages)}, command)


def pip_uninstall(to: Pip | str, *names: str) -> str:
    """Return the command that removes packages from an environment; "" where it has no Python."""
    to = Pip(to) if isinstance(to, str) else to
    if to.gone:
        return ""
    return f"{to.first}{to.words} uninstall {to.option or '-y '}{_named(names)}"


def _named(packages: Sequence[str]) -> str:
    """Return packages as words of a shell line that no installer takes for an option."""
    odd = any(package.startswith("-") for package in packages)
    return shlex.join(["--", *packages] if odd else packages)


def another_toolkit(packages: Packages) -> Remedy | None:
    """Return what helps where no toolkit within reach is of torch's CUDA: one that is."""
    if packages.torch is None or not packages.torch.cuda:
        return None
    cuda = packages.torch.cuda
    return Remedy(
        "show",
        {},
        f"a CUDA {cuda} toolkit, which torch is built for (NVIDIA's cuda-toolkit-{cuda.replace('.', '-')})",
    )


def severity_without_gpu(packages: Packages) -> Severity:
    """Return how bad it is that no GPU can be used; raise Skip where what is installed uses none."""
    torch = packages.torch
    if torch is not None and not torch.cuda:
        raise Skip(nothing_compiles(packages))
    used = torch is not None or packages.flashinfer is not None or packages.find("vllm") is not None
    return Severity.ERROR if used else Severity.WARNING


def answered(driver: Driver) -> None:
    """Raise where the driver's own library told nothing: Skip without a GPU, else CannotTell and why."""
    nvml = driver.nvml
    if nvml.ended == "not-asked" or (nvml.ended == "refused" and not driver.signs()):
        raise Skip("no NVIDIA GPU is evident here")
    if nvml.ended != "answered":
        raise CannotTell(nvml.reason if not nvml.error else f"NVML: {nvml.error}")


def driver_to_get(driver: str, machine: Machine) -> Remedy:
    """Return how a driver is had on this system: at least version `driver`, where that is not ""."""
    least = f" {driver} or newer" if driver else ""
    if machine.container or machine.wsl:
        where = "Windows, outside WSL" if machine.wsl else "the host of this container"
        return Remedy("show", {}, f"an NVIDIA driver{least} on {where}")
    own = "the distribution or NVIDIA packages it" if least else "the distribution packages it"
    return Remedy("show", {}, f"an NVIDIA driver{least}, as {own}")
