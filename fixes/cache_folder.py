"""See the fix's own page."""

from __future__ import annotations

from collections.abc import Iterator

import cudadoctor.values as values
from cudadoctor.actions import Action, Export, Safety
from cudadoctor.declare import fix
from cudadoctor.facts import Facts
from cudadoctor.findings import Remedy

_VARIABLES = (
    "FLASHINFER_WORKSPACE_BASE", "TVM_FFI_CACHE_DIR", "TRITON_CACHE_DIR", "VLLM_CACHE_ROOT",
    "TORCH_EXTENSIONS_DIR", "TORCHINDUCTOR_CACHE_DIR", "HF_HUB_CACHE", "TMPDIR",
)  # fmt: skip


@fix(Safety.SAFE)
def cache_folder(remedy: Remedy, facts: Facts) -> Iterator[Action]:
    """Moves a cache to a folder that can be written to, by its variable.

    ## What it does
    The environment's activation files export the variables that the finding names, such as
    `FLASHINFER_WORKSPACE_BASE` or `VLLM_CACHE_ROOT`, with a folder in the environment or below the home
    folder. `TMPDIR` is unset, so that `/tmp` is used.

    ## Why it is safe
    A variable changes no file of anybody's package. What is in the old place stays there, and is made or
    downloaded anew in the new one; that takes minutes for compiled code and as long as a download for models.

    ## How it is undone
    The activation files get their former content back. The new folder stays, with what was put into it.
    """
    for name, value in values.only(remedy, _VARIABLES).items():
        if value or name != "TMPDIR":
            values.absolute(value, remedy)
        yield Export(name, value)
