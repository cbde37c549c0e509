"""What compiled packages were built for, and the way of FP8 tensors, as rows."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.compare.roots import Roots
from cudadoctor.compare.rows import Row, listed
from cudadoctor.facts import Builds, Dlpack, Hub


def builds(section: Builds, roots: Roots) -> Iterator[Row]:
    """Yield what each compiled package that both have was built for, and what does not suit."""
    if section.torch_abi is not None:
        told = "new" if section.torch_abi else "old"
        yield Row("abi", told, told, "C++ ABI of torch", ("torch",), asked=True)
    for each in section.built_for:
        what, names = f"{each.distribution} is built for", (each.distribution,)
        yield Row(each.distribution, each.stated, each.stated, what, names, asked=True)
    for part in section.flashinfer_parts:
        told = part.version if part.suits else f"{part.version}, which does not suit {part.wanted}"
        what, names = f"{part.distribution} for FlashInfer", (part.distribution,)
        yield Row(part.distribution, told, told, what, names, asked=True)
    if section.bitsandbytes is not None:
        told = listed(section.bitsandbytes.cuda) or "none"
        yield Row(
            "bitsandbytes", told, told, "CUDA of bitsandbytes' libraries", ("bitsandbytes",), asked=True
        )
    for unknown in section.vllm_unknown:
        what, group = f"{unknown.name}, which vLLM does not read", "variables that vLLM does not read"
        yield Row(unknown.name, 1, "set", what, (unknown.name,), group, "unset", item=unknown.name)
    for file in section.shared_files:
        plain, held = roots.plain(file.path), file.holds or "not known whose"
        yield Row(
            plain, held, held, f"owner of {file.path}", (plain,), "files of two packages", "one package"
        )


def dlpack(section: Dlpack, roots: Roots) -> Iterator[Row]:
    """Yield whether torch hands FP8 tensors on by itself, and otherwise who does."""
    told = {True: "yes", False: "no", None: "not known"}[section.native]
    yield Row("native", told, told, "torch hands FP8 tensors across dlpack by itself", ("torch",))
    for name in section.missing:
        what = f"{name}, to build tvm-ffi's add-on with"
        yield Row(f"missing {name}", 1, "missing", what, (name,), "", "there, or not needed", "native")
    for addon in section.addons:
        told = addon.problem or ("there" if addon.exists else "comes with a wheel" if addon.prebuilt else "")
        if told:
            what, names = f"tvm-ffi's add-on for {addon.device}", (roots.plain(addon.cached),)
            yield Row(f"addon {addon.device}", told, told, what, names, "", "not built", "native")


def hub(section: Hub, roots: Roots) -> Iterator[Row]:
    """Yield where models are cached, whether downloads are forbidden, and which models are not whole."""
    if section.path:
        plain = roots.plain(section.path)
        yield Row("path", plain, section.path, "folder of cached models", (plain,), asked=True)
    if section.offline:
        yield Row("offline", section.offline, section.offline, "downloads forbidden by", (section.offline,))
    for model in section.models:
        told = f"{len(model.incomplete)} files in part, {len(model.broken)} broken links"
        names, group = (model.name, roots.plain(model.path)), "incomplete models"
        yield Row(model.name, told, told, f"{model.name} in the cache", names, group, "whole, or not there")
