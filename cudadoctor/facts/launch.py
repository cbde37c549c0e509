"""The launch as it was read: the program, its options, and what the command sets around it."""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct

from cudadoctor.facts.environment import Variable
from cudadoctor.facts.section import Section

Kind = Literal["vllm-serve", "vllm-api-server", "vllm-llm", "other"]


class Given(Struct, frozen=True, omit_defaults=True):
    """One option as it was given. A flag that is on has the value "True", one that is off "False"."""

    values: tuple[str, ...]
    origin: str  #: "command line", or file and line: "compose.yaml:12"
    spelled: str  #: as it was written: "--max_model_len", "-tp", "max_model_len"
    reason: str = ""  #: why the values are not known: they come about only when the program runs


class Note(Struct, frozen=True, omit_defaults=True):
    """What is to be known of how the launch was read, or what could not be followed."""

    text: str
    origin: str = ""
    name: str = ""  #: for what a check may look for: "cmd-not-json", "variable-empty"
    span: tuple[int, int] = (0, 0)  #: which words of the launch it is about, from and up to; none: (0, 0)


class Refused(Struct, frozen=True, omit_defaults=True):
    """An option, or its value, that the installed vLLM will not take."""

    name: str  #: "--kv-cache-dtype"; as written where no option has that name
    spelled: str
    origin: str
    why: Literal["unknown", "ambiguous", "choice", "number", "range", "json", "values", "config", "alone"]
    value: str = ""
    nearest: str = ""  #: the valid name or value that is closest, where one is close
    choices: tuple[str, ...] = ()  #: the values it takes, or the names that it may stand for
    expects: str = ""  #: in words: "a whole number", "> 0, <= 1"
    uncertain: bool = False  #: only one of several launches gives it, and which of them runs is not known


class Port(Struct, frozen=True):
    """One published port; either side may be a range, the host's side is "" where the engine chooses."""

    host: str
    container: str


class Mount(Struct, frozen=True, omit_defaults=True):
    """A folder or volume that the container sees."""

    source: str  #: a path of the host, a volume's name, or "" for one without a name
    target: str
    read_only: bool = False


class Container(Struct, frozen=True, omit_defaults=True):
    """What the container is given; sizes and devices as written, "" where nothing is said."""

    engine: str  #: docker, podman, compose, dockerfile
    image: str
    service: str = ""
    shm_size: str = ""
    ipc: str = ""
    network: str = ""
    memory: str = ""
    gpus: str = ""  #: "all", "2", "device=0,1"
    runtime: str = ""
    user: str = ""
    platform: str = ""
    ports: tuple[Port, ...] = ()
    mounts: tuple[Mount, ...] = ()


class Held(Struct, frozen=True):
    """How much of one GPU is free."""

    index: int  #: its number in the order of the bus, as nvidia-smi has it
    free_bytes: int


class Card(Section, frozen=True):
    """The cards that the launch is planned for: those it will see here, or one that was named."""

    name: str
    total_bytes: int | None  #: as CUDA reports it, of the one with the least; None: not known
    capability: str = ""
    count: int = 1
    free_bytes: int | None = None
    unified: bool = False  #: its memory is the system's
    source: str = ""  #: "NVML", or the option that named it
    index: int | None = None  #: the number of the GPU that `free_bytes` is of, of those used the fullest
    alike: tuple[Held, ...] = ()  #: all of this kind that are visible, in their order


class Paths(Section, frozen=True):
    """Which parts of the stack a launch of vLLM's runs, as far as that is known before."""

    #: whether FlashInfer's operators are run, which are compiled at first use; None: not known
    flashinfer: bool | None
    why: str
    attention: str = ""  #: the backend of its attention, like FLASH_ATTN; "" where it is not known


_HUMAN = {
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "K": 1 << 10,
    "M": 1 << 20,
    "G": 1 << 30,
    "T": 1 << 40,
}
_LONGEST, _MOST = 32, 1e18  #: characters of a whole number; more than anything here is counted in


_NO_START = frozenset(
    ("vllm", "cudadoctor", "echo", "printf", "grep", "pgrep", "pkill", "which", "man", "pip")
)
#: Compiled where it is asked for: every check loads this module.
_STARTS = (
    r"(?:^|[\s'\"/])vllm\s+(?:\S+\s+)*?serve\b|vllm\.entrypoints|\b(?:from|import)\s+vllm\b"
    r"|compose\s(?:.*\s)?up\b"
)


class Launch(Section, frozen=True):
    """A command that starts vLLM, or another one, with everything around it taken off."""

    kind: Kind
    argv: tuple[str, ...]  #: the program itself and its arguments
    source: str  #: "command line", or the file: "compose.yaml, service vllm"
    options: dict[str, Given]  #: by full name: "--max-model-len"; of those given twice the last
    variables: dict[str, Variable]  #: what the command itself sets
    nearby: dict[str, Variable]  #: what a `.env` beside the file sets: compose's values, not the program's
    model: str = ""  #: "" where none is named, or not known
    model_origin: str = ""
    unset: tuple[str, ...] = ()
    clean: bool = False  #: nothing is inherited from the environment it is started in
    folder: str = ""  #: where it runs, where that is said
    activated: str = ""  #: the environment that its script activates: a folder, or the name of one of conda's
    image: str = ""
    container: Container | None = None
    wrappers: tuple[str, ...] = ()  #: what was passed through, outermost first: "conda run -n vllm"
    refused: tuple[Refused, ...] = ()
    options_from: str = ""  #: the source of the installed vLLM; "" where none could be read
    notes: tuple[Note, ...] = ()
    partial: str = ""  #: why more options may be given than are known: "EXTRA at run.sh:3 ..."
    #: variables that the command sets to what is not known, with the reason; `variables` has none of them
    doubtful: dict[str, str] = {}

    @property
    def contained(self) -> bool:
        """Return whether the program runs in a container, whose files and variables are its own."""
        return self.container is not None or bool(self.image)

    @property
    def may_start_vllm(self) -> bool:
        """Return whether another command than vLLM's has words that start it, which were not followed."""
        program = self.argv[0].rpartition("/")[2] if self.argv else ""
        return (
            self.kind == "other"
            and program not in _NO_START
            and bool(re.search(_STARTS, " ".join(self.argv)))
        )

    def unknown(self, name: str) -> str:
        """Return why an option's value, or whether it is given, is not known; "" where it is known."""
        given = self.options.get(name)
        if given is None:
            return self.partial
        return "" if given.values else given.reason or "its value is not known"

    def text(self, name: str) -> str | None:
        """Return the last value of an option, or None where it is not given or not known."""
        given = self.options.get(name)
        return given.values[-1] if given is not None and given.values else None

    def flag(self, name: str) -> bool | None:
        """Return whether a flag is on, or None where it is not given."""
        value = self.text(name)
        return None if value is None else value not in ("False", "None", "0", "")

    def integer(self, name: str) -> int | None:
        """Return an option as a whole number, as vLLM reads it: "32k" is 32000, "32K" 32768.

        None for what is none, and for one of more digits than anything here is counted in.
        """
        text = self.text(name) or ""
        match = (
            re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)([kKmMgGtT]?)\s*", text) if len(text) < _LONGEST else None
        )
        if match is None or ("." in match[1] and not match[2]):
            return None
        return int(float(match[1]) * _HUMAN[match[2]]) if match[2] else int(match[1])

    def number(self, name: str) -> float | None:
        """Return an option as a number, or None where it is none, or one without an end."""
        try:
            number = float(self.text(name) or "")
        except ValueError:
            return None
        return number if abs(number) < _MOST else None
