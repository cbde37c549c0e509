"""The model that a launch names: its config, its weights, and what the installed stack makes of both."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from cudadoctor.facts.caches import Download
from cudadoctor.facts.section import Section


class Flaw(Struct, frozen=True, omit_defaults=True):
    """One file of the weights that cannot be loaded as it is."""

    path: str
    kind: Literal["missing", "broken-link", "empty", "truncated", "garbled", "unreadable"]
    detail: str = ""  #: "its header tells of 4,976 bytes, the file has 1,000"


class Weights(Struct, frozen=True, omit_defaults=True):
    """The files that vLLM would load, and how much there is in them."""

    form: Literal["safetensors", "consolidated", "bin", "pt"]
    tensor_bytes: int | None = None  #: of all of them; None: not known
    source: str = ""  #: what tells so: an index, or headers, or the sizes of files
    index: str = ""  #: the path of the index; "" where there is none
    files: int = 0  #: that the index names, or without one those that are there
    present: int = 0
    present_bytes: int = 0  #: the sizes of the files that are there
    to_come_bytes: int | None = 0  #: what is missing of the tensors; None: not known
    flaws: tuple[Flaw, ...] = ()
    flawed: int = 0  #: how many files have a flaw; `flaws` names the first of them
    notes: tuple[str, ...] = ()


class Quantization(Struct, frozen=True, omit_defaults=True):
    """What a checkpoint says of how its weights are quantised."""

    method: str  #: as vLLM calls it: awq, gptq, fp8, compressed-tensors, modelopt; "" where it does not say
    source: str  #: the file and the key
    config: dict[str, Any] = {}  #: without its long lists


class Methods(Struct, frozen=True, omit_defaults=True):
    """What the installed vLLM can do with quantised weights, read off its source."""

    source: str  #: the file that names them; "" where none could be read
    names: tuple[str, ...] = ()
    takes_over: dict[
        str, tuple[str, ...]
    ] = {}  #: by method: the `--quantization` it accepts, "" for none given
    least_capability: dict[str, int] = {}  #: by method: 75 for compute capability 7.5
    files: dict[str, tuple[str, ...]] = {}  #: by method: where it looks without a quantization_config
    bare: tuple[str, ...] = ()  #: those that look for no file and cannot do without a quantization_config
    dtypes: dict[str, tuple[str, ...]] = {}  #: by method: what it computes in: "float16"
    doubt: str = ""  #: why one that is not among the names may be known all the same


class Architecture(Struct, frozen=True, omit_defaults=True):
    """What the installed vLLM knows of the architectures that config.json names."""

    asked: tuple[str, ...]
    verdict: Literal["known", "fallback", "unknown", "cannot-tell"]
    source: str = ""  #: vLLM's registry
    taken: str = ""  #: the known architecture that it is run as
    former: str = ""  #: the last version of vLLM that had it
    nearest: tuple[str, ...] = ()
    reason: str = ""  #: why it may work by transformers, or why it cannot be told


class Room(Struct, frozen=True, omit_defaults=True):
    """Whether what is still to come can be stored where it would go."""

    folder: str  #: the nearest one that exists
    free_bytes: int | None  #: None: not known
    writable: bool | None  #: for the user that will run the program; None: not known
    why: Literal["", "read-only", "mounted-read-only", "refused", "made-for-root"] = ""  #: why it cannot be
    detail: str = ""  #: the same in words


class Token(Struct, frozen=True, omit_defaults=True):
    """Where a token for the hub would come from. Its value is nobody's business."""

    source: str = ""  #: HF_TOKEN, HUGGING_FACE_HUB_TOKEN, or the path of the token file; "": there is none
    blank: tuple[str, ...] = ()  #: variables and files that are there and hold nothing
    file: str = ""  #: where the file is looked for
    problem: str = ""  #: why that file cannot be read


class HubAnswer(Struct, frozen=True, omit_defaults=True):
    """What the hub answered (`--online`)."""

    #: refused: 401 or 403, which a private name, a wrong one and a wrong token all get
    ended: Literal[
        "found", "refused", "gated", "absent", "no-revision", "no-config", "unreachable", "broken",
        "not-installed",
    ]  # fmt: skip
    endpoint: str
    status: int = 0  #: of HTTP; 0 where there was no answer
    message: str = ""
    commit: str = ""
    withheld: str = ""  #: why it was asked without the token that is there


class Model(Section, frozen=True):
    """The model that the launch names, as far as files tell."""

    name: str  #: as the launch spells it; "" where it names none
    state: Literal["none", "folder", "cached", "absent", "gguf", "elsewhere"]
    reason: str = ""  #: why there is no config to read
    path: str = ""  #: the folder or snapshot that config.json is in
    source: str = ""  #: what says that it is there: the launch, HF_HOME, the default
    cache: str = ""  #: the folder of cached models; "" where none is asked
    weights_cache: str = ""  #: where weights are kept, where `--download-dir` says otherwise
    revision: str = ""
    commit: str = ""
    config: dict[str, Any] | None = None  #: as read_shape takes it, without names of labels
    config_path: str = ""
    config_flaw: Flaw | None = None  #: what is wrong with config.json itself
    params: bool = False  #: Mistral's params.json is there too, which vLLM may read instead
    whole: bool = False  #: what no launch needs was fetched as well, so all of the repository was
    architectures: tuple[str, ...] = ()
    dtype: str = ""  #: as it says itself: bfloat16
    quantization: Quantization | None = None
    quantization_files: tuple[str, ...] = ()  #: those of `Methods.files` that are there
    tokenizer: bool | None = None  #: whether a file of a tokenizer is there; None: not looked
    generation_config: bool = False
    weights: Weights | None = None
    weights_path: str = ""  #: the folder that was looked into for them; "" where none was
    incomplete: tuple[Download, ...] = ()
    architecture: Architecture | None = None
    methods: Methods | None = None
    token: Token = Token()
    offline: str = ""  #: the variable that forbids downloads
    endpoint: str = ""  #: HF_ENDPOINT, where it is set
    similar: tuple[str, ...] = ()  #: cached names, or folders, that look like the one that is not there
    room: Room | None = None  #: where something is still to come, or where a lock is written
    online: HubAnswer | None = None
    notes: tuple[str, ...] = ()

    @property
    def may_download(self) -> bool:
        """Return whether vLLM would ask the hub for what is not here."""
        return bool(self.cache) and self.state in ("cached", "absent") and not self.offline

    @property
    def staying(self) -> tuple[Flaw, ...]:
        """Return the flaws that no download mends: what is in the hub's cache is not fetched again."""
        flaws = self.weights.flaws if self.weights is not None else ()
        kinds = ("missing", "broken-link") if self.may_download else ()
        return tuple(flaw for flaw in flaws if flaw.kind not in kinds)

    @property
    def to_come_bytes(self) -> int | None:
        """Return how much of the weights would be downloaded; None where that is not known."""
        if not self.may_download:
            return 0
        return None if self.weights is None else self.weights.to_come_bytes
