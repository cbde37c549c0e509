"""The link lines and include paths that the stack's builds will use, from facts alone."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from msgspec import Struct

from cudadoctor.facts import (
    Compiler,
    Compilers,
    Environ,
    Libraries,
    Packages,
    Toolkits,
)
from cudadoctor.simulate.linker import Linker, Resolution

RUN_TIME = "run time"
OWN_BUILD = "a build you start"


class Scene(Struct, frozen=True):
    """Everything that decides how a link ends here."""

    toolkits: Toolkits
    compilers: Compilers
    libraries: Libraries
    environ: Environ
    packages: Packages


class LinkLine(Struct, frozen=True):
    """One link as its consumer writes it, and the compiler driver that runs it."""

    consumer: str  #: flashinfer, torch, triton
    when: str  #: RUN_TIME or OWN_BUILD
    root: str  #: the CUDA_HOME it was written with; "" where it uses none
    flags: tuple[str, ...]
    compiler: Compiler
    source: str  #: where the form of the line is known from

    @property
    def own(self) -> tuple[str, ...]:
        """Return the folders that the line itself names, as `-Ldir` or as `-L dir`."""
        pairs = zip(self.flags, (*self.flags[1:], ""), strict=True)
        return tuple(flag[2:] or following for flag, following in pairs if flag.startswith("-L"))

    @property
    def names(self) -> tuple[str, ...]:
        """Return the libraries it names with -l, once each."""
        return tuple(dict.fromkeys(flag[2:] for flag in self.flags if flag.startswith("-l")))

    @property
    def command(self) -> str:
        """Return the line as one would type it."""
        return " ".join([self.compiler.command, *self.flags])


def link_lines(scene: Scene) -> Iterator[LinkLine]:
    """Yield every link that this target's packages will do by themselves, or that torch's builder would."""
    for consumer in ("flashinfer", "torch"):
        selection = scene.toolkits.selected(consumer)
        if selection is not None:
            yield from lines_with(selection.root, consumer, scene)
    yield from _triton(scene)


def lines_with(root: str, consumer: str, scene: Scene) -> Iterator[LinkLine]:
    """Yield the consumer's link as it would be with CUDA_HOME=`root`."""
    used, packages = scene.compilers.used_by(consumer, "link"), scene.packages
    if used is None:
        return
    if consumer == "flashinfer" and packages.flashinfer is not None:
        yield _flashinfer(root, used[1], scene)
    if consumer == "torch" and packages.torch is not None and packages.torch.cuda:
        yield _torch(root, used[1], scene)


def _flashinfer(root: str, compiler: Compiler, scene: Scene) -> LinkLine:
    flashinfer, torch = scene.packages.flashinfer, scene.packages.torch
    assert flashinfer is not None
    fixed = [
        flag.replace("$cuda_home", root).replace("$torch_home", torch.root if torch else "")
        for flag in flashinfer.ldflags
    ]
    extra = words(scene.environ.get("FLASHINFER_EXTRA_LDFLAGS") or "")
    return LinkLine("flashinfer", RUN_TIME, root, (*fixed, *extra), compiler, flashinfer.ldflags_source)


def words(flags: str) -> list[str]:
    """Split as FlashInfer does: by the shell's rules, at blanks where they do not hold."""
    try:
        return shlex.split(flags)
    except ValueError:
        return flags.split()


def _torch(root: str, compiler: Compiler, scene: Scene) -> LinkLine:
    """Write the line of torch.utils.cpp_extension: lib64, or lib where only that exists."""
    torch, folders = scene.packages.torch, scene.libraries.directories
    assert torch is not None
    lib64, lib = folders.get(f"{root}/lib64"), folders.get(f"{root}/lib")
    only_lib = lib is not None and lib.exists and not (lib64 is not None and lib64.exists)
    flags = [
        "-shared",
        f"-L{torch.root}/lib",
        "-lc10",
        "-lc10_cuda",
        "-ltorch_cpu",
        "-ltorch_cuda",
        "-ltorch",
    ]
    flags += [f"-L{root}/{'lib' if only_lib else 'lib64'}", "-lcudart"]
    source = f"{torch.root}/utils/cpp_extension.py"
    return LinkLine("torch", OWN_BUILD, root, tuple(flags), compiler, source)


def _triton(scene: Scene) -> Iterator[LinkLine]:
    """Yield the link of Triton's launcher, where the loader knows a driver for it to link against."""
    used, triton = scene.compilers.used_by("triton", "stub"), scene.packages.triton
    if used is None or triton is None or not triton.libraries:
        return
    configured = scene.environ.get("TRITON_LIBCUDA_PATH")
    folders = [configured] if configured else [path.rpartition("/")[0] for path in scene.libraries.driver]
    if not folders:
        return
    names = [f"-l:{name}" if re.search(r"\.so(\.\d+)*$", name) else f"-l{name}" for name in triton.libraries]
    flags = (
        "-shared",
        *names,
        f"-L{triton.root}/backends/nvidia/lib",
        *(f"-L{folder}" for folder in folders),
    )
    yield LinkLine("triton", RUN_TIME, "", flags, used[1], triton.source)


def resolve(line: LinkLine, name: str, scene: Scene) -> Resolution:
    """Return how `-lNAME` ends on this line."""
    search = line.compiler.search
    if search is None:
        why = line.compiler.problem or "the compiler did not show its linker's command line"
        return Resolution(name, "unknown", why=f"{line.compiler.command}: {why}")
    model = Linker.of(search, line.own, scene.environ.get("LIBRARY_PATH"), scene.libraries)
    return model.find(name)


def include_folders(root: str, environ: Environ) -> list[str]:
    """Return where a host compiler finds CUDA headers for a consumer with CUDA_HOME=`root`, in its order.

    nvcc adds the folders of its own nvcc.profile; the C++ files of FlashInfer and tvm-ffi see only these.
    They name the toolkit's folder with `-isystem`, which GCC searches after CPATH.
    """
    folders: list[str] = []
    for variable in ("CPATH", "CPLUS_INCLUDE_PATH"):
        folders += [folder for folder in (environ.get(variable) or "").split(":") if folder]
    return [*folders, f"{root}/include"]


class Miss(Struct, frozen=True):
    """One library that one link line will not find, or will stop at."""

    line: LinkLine
    resolution: Resolution


def misses(name: str, scene: Scene) -> tuple[list[Miss], list[Miss]]:
    """Return the lines on which `-lNAME` fails, and those on which there is no telling."""
    failed, unsure = [], []
    for line in link_lines(scene):
        for wanted in line.names:
            if wanted.lstrip(":") not in (name, f"lib{name}.so", f"lib{name}.so.1"):
                continue
            resolution = resolve(line, wanted, scene)
            if resolution.ends == "unknown":
                unsure.append(Miss(line, resolution))
            elif resolution.ends != "found":
                failed.append(Miss(line, resolution))
    return failed, unsure
