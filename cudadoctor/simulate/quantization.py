"""Which method vLLM loads quantised weights with, given the checkpoint and `--quantization`.

The rules are those of vLLM 0.12.0 (`_verify_quantization` in config/model.py, awq_marlin.py, gptq_marlin.py,
and `get_quant_config` in model_loader/weight_utils.py, read 2026-11-21). Which values a method accepts, and
from which compute capability on, is read off the installed release.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from cudadoctor.facts.model import Methods, Quantization

#: Group sizes that the Marlin kernels have; -1 is the whole column (quantization/utils/marlin_utils.py).
_GROUPS = (-1, 32, 64, 128)
#: Quantises while it loads, as do those that look for no file.
_IN_FLIGHT = "bitsandbytes"
_CONVERTED = {"awq": "awq_marlin", "gptq": "gptq_marlin"}


class Loading(Struct, frozen=True, omit_defaults=True):
    """How the weights are loaded, or why vLLM stops before that."""

    ended: Literal["plain", "as-asked", "as-stated", "mismatch", "no-config", "not-a-method", "cannot-tell"]
    method: str = ""  #: that the weights are loaded with
    faster: str = ""  #: the method that they could be converted to, where `--quantization` prevents it
    files: tuple[str, ...] = ()  #: one of which would have to be there; none where config.json has to say it
    reason: str = ""


def loading(
    stated: Quantization | None,
    asked: str,
    methods: Methods,
    present: Sequence[str] = (),
    capability: int | None = None,
) -> Loading:
    """Return what becomes of `--quantization asked` ("" where it is not given) on this checkpoint.

    `present`: the files of `methods.files` that lie beside config.json. `capability`: 86 for 8.6, or None.
    """
    if stated is not None and methods.takes_over.get(stated.method) == ():
        return Loading("as-stated" if asked != stated.method else "as-asked", stated.method)
    if asked and methods.names and asked not in methods.names and asked != "marlin":
        return Loading("not-a-method", reason=f"{methods.source} does not name it")
    if stated is None:
        return _unstated(asked, methods, present)
    method = stated.method
    if converted := _converts(stated, methods, capability):
        if asked in methods.takes_over.get(converted, ()):
            return Loading("as-asked" if asked else "as-stated", converted)
        if asked == method:
            return Loading("as-asked", method, faster=converted)
    if not method:
        return Loading("cannot-tell", reason=f"{stated.source} has no quant_method")
    if asked and asked != method:
        return _otherwise(method, asked, methods, capability)
    if methods.names and method not in methods.names:
        return Loading("not-a-method", method, reason=f"{methods.source} does not name it")
    return Loading("as-asked" if asked else "as-stated", method)


def _otherwise(method: str, asked: str, methods: Methods, capability: int | None) -> Loading:
    """Return what becomes of weights of one method where another is asked for."""
    if not methods.names:
        return Loading("cannot-tell", reason="this vLLM's source does not tell which methods it has")
    least = methods.least_capability.get(asked, 0)
    if asked == _CONVERTED.get(method) and capability is not None and capability < least:
        return Loading("mismatch", method, reason=f"{asked} needs compute capability {least / 10}")
    if asked in _CONVERTED.values() and asked != _CONVERTED.get(method):
        return Loading("mismatch", method)
    if asked == "marlin" or asked in methods.takes_over:
        # It may take over under conditions that are not modelled.
        return Loading("cannot-tell", reason=f"{asked} may take over weights of {method}")
    return Loading("mismatch", method)


def _unstated(asked: str, methods: Methods, present: Sequence[str]) -> Loading:
    """Return what becomes of a checkpoint that says nothing of being quantised."""
    if not asked:
        return Loading("plain")
    files = methods.files.get(asked)
    if asked in methods.bare:
        return Loading("no-config", asked)
    if asked == _IN_FLIGHT or files == ():
        return Loading("as-asked", asked)
    if files is None:
        return Loading("cannot-tell", reason="this vLLM's source does not tell which file it looks for")
    if any(name.endswith(files) for name in present):
        return Loading("as-asked", asked)
    return Loading("no-config", asked, files=files)


def _converts(stated: Quantization, methods: Methods, capability: int | None) -> str:
    """Return the method that vLLM can convert these weights to while it loads them, "" for none."""
    wanted = _CONVERTED.get(stated.method, "")
    least = methods.least_capability.get(wanted)
    if not wanted or least is None or capability is None or capability < least:
        return ""
    config = stated.config
    if config.get("group_size") not in _GROUPS or isinstance(config.get("group_size"), bool):
        return ""
    if wanted == "awq_marlin":
        return wanted if config.get("bits") == 4 and config.get("zero_point") is True else ""
    symmetric = config.get("sym") is True and config.get("desc_act") is not None
    return wanted if symmetric and config.get("bits") in (4, 8) else ""
