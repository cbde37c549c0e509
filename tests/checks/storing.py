"""Places that the stack writes to, made by hand: healthy ones, each with what the test is about."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from cudadoctor.facts import Storage, StoragePlace

ROOM = 100 << 30
PLACES = {
    "flashinfer": ("/home/ada/.cache/flashinfer/0.5.3", "FLASHINFER_WORKSPACE_BASE"),
    "tvm-ffi": ("/home/ada/.cache/tvm-ffi", "TVM_FFI_CACHE_DIR"),
    "triton": ("/home/ada/.triton/cache", "TRITON_CACHE_DIR"),
    "vllm": ("/home/ada/.cache/vllm", "VLLM_CACHE_ROOT"),
    "temporary": ("/tmp", "TMPDIR"),
    "torch-extensions": ("/home/ada/.cache/torch_extensions", "TORCH_EXTENSIONS_DIR"),
    "torchinductor": ("/tmp/torchinductor_ada", "TORCHINDUCTOR_CACHE_DIR"),
    "hf-hub": ("/home/ada/.cache/huggingface/hub", "HF_HUB_CACHE"),
}
SPARES = (
    StoragePlace(
        "environment", "/opt/env/var/cache", "", "the default", "/opt/env", device=2, free_bytes=ROOM
    ),
    StoragePlace("home", "/home/ada/.cache/stack", "", "the default", "/home/ada", device=1, free_bytes=ROOM),
    StoragePlace("temporary", "/tmp", "", "the default", "/tmp", device=3, free_bytes=ROOM),
)


def place(name: str, **changes: Any) -> StoragePlace:
    """Return one place at which all is well, but for the changes."""
    path, variable = PLACES[name]
    made = StoragePlace(name, path, variable, "the default", path, device=1, free_bytes=ROOM)
    return structs.replace(made, **changes)


def storage(*changed: StoragePlace, **more: Any) -> Storage:
    """Return every place, these instead of the healthy ones."""
    held = {**{name: place(name) for name in PLACES}, **{each.name: each for each in changed}}
    return Storage(tuple(held.values()), **{"user": 1000, "spares": SPARES, **more})
