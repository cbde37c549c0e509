"""Where a cache can be moved to, by its variable."""

from __future__ import annotations

from collections.abc import Iterable

from cudadoctor.facts import Storage, StoragePlace

#: What a cache is moved to shall have room for many builds.
ROOM_BYTES = 4 << 30
#: The folder that a variable is given, below the new place. FlashInfer makes its `.cache` in it.
MOVED = {
    "FLASHINFER_WORKSPACE_BASE": "flashinfer",
    "TVM_FFI_CACHE_DIR": "tvm-ffi",
    "TRITON_CACHE_DIR": "triton",
    "VLLM_CACHE_ROOT": "vllm",
    "TORCH_EXTENSIONS_DIR": "torch_extensions",
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
    "HF_HUB_CACHE": "huggingface",
}


def moved(storage: Storage, places: Iterable[StoragePlace], *, elsewhere: bool = False) -> dict[str, str]:
    """Return the variables that move these places to a folder of this user's own; none where there is none.

    That folder can be written, has room, gives locks and lets libraries be loaded; `elsewhere`: it is on
    another file system than they are. "" unsets a variable.
    """
    places = list(places)
    taken = {place.device for place in places} if elsewhere else set()
    usable = [spare for spare in storage.spares if _will_do(spare) and spare.device not in taken]
    root = next((spare.path for spare in usable if spare.name != "temporary"), "")
    values = {
        place.variable: f"{root}/{MOVED[place.variable]}"
        for place in places
        if root and place.variable in MOVED
    }
    # A folder for temporary files has to be there already.
    if any(place.source == "TMPDIR" and place.name == "temporary" for place in places) and any(
        spare.name == "temporary" for spare in usable
    ):
        values["TMPDIR"] = ""
    return values


def _will_do(spare: StoragePlace) -> bool:
    room = spare.free_bytes is not None and spare.free_bytes >= ROOM_BYTES
    files = spare.free_files is None or spare.free_files >= 10_000
    executable = spare.name == "temporary" or not spare.no_exec
    return room and files and executable and not spare.blocked and not spare.unlocked
