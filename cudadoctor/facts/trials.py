"""What the real programs did, which `--deep` started."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from cudadoctor.facts.section import Section


class Trial(Struct, frozen=True, omit_defaults=True):
    """One real command that `--deep` ran, and how it ended."""

    name: str
    consumer: str
    command: tuple[str, ...]
    ended: str  #: ok, error, segfault, killed, memory, disk, crash, timeout, not-run
    status: int = 0
    message: str = ""  #: the line of the output that tells
    level: str = ""  #: optimisation level, where it is one rung of the ladder
    compiler: str = ""  #: the host compiler, as `Compilers` calls it
    seconds: float = 0.0  #: how long it ran


class Deep(Section, frozen=True):
    """What happened when the real compiler and linker were run in a temporary folder."""

    trials: tuple[Trial, ...]


class Stage(Struct, frozen=True, omit_defaults=True):
    """One step of the child process that takes the stack into use, and how it ended."""

    name: str  #: driver, torch, gpu, dlpack, flashinfer, vllm
    ended: Literal["passed", "failed", "not-reached"]
    message: str = ""  #: what it found, how it failed, or why it was not reached
    seconds: float = 0.0
    stderr: tuple[str, ...] = ()  #: the last lines that it printed before it failed


class LoadedLibrary(Struct, frozen=True, omit_defaults=True):
    """One CUDA library that the child process had loaded."""

    path: str
    distribution: str = ""  #: whose file it is; "" where no distribution of the environment has it
    elsewhere: tuple[str, ...] = ()  #: files of the same name that the environment's distributions have


class Live(Section, frozen=True):
    """What happened when the target's own interpreter took the stack into use."""

    stages: tuple[Stage, ...]
    libraries: tuple[LoadedLibrary, ...] = ()
    fp8: str = ""  #: who took an FP8 tensor across dlpack: torch, add-on, nobody; "": not tried

    def stage(self, name: str) -> Stage | None:
        """Return the stage called `name`."""
        return next((stage for stage in self.stages if stage.name == name), None)


class UndefinedSymbol(Struct, frozen=True, omit_defaults=True):
    """One symbol that is defined nowhere where the loader looks for it."""

    name: str
    version: str = ""  #: the version that is asked for
    library: str = ""  #: the soname of the library that must define it, where the loader says so
    alike: str = ""  #: torch's symbol for the same function, with other parameters or by the other C++ ABI


class Unresolved(Struct, frozen=True, omit_defaults=True):
    """One library with symbols that the loader cannot resolve."""

    path: str  #: as the loader opened it
    extension: str  #: the path of the extension that brings it along, or its own
    symbols: tuple[UndefinedSymbol, ...]  #: in the loader's order, the first ones
    count: int  #: of all of them
    distribution: str = ""  #: whose file it is; "" where no distribution lists it


class Untraced(Struct, frozen=True):
    """One extension that the loader was not asked about, or did not answer for."""

    extension: str
    reason: str


class Symbols(Section, frozen=True):
    """What the real loader said when it was to resolve every symbol of the stack's extensions."""

    unresolved: tuple[Unresolved, ...] = ()
    untraced: tuple[Untraced, ...] = ()
    traced: int = 0  #: extensions that it did answer for
