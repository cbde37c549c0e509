"""Which toolkit the consumers should use, and what the one they do use lacks."""

from __future__ import annotations

from cudadoctor.facts import Environ, HeaderDirectory, Packages, Selection, Toolkit, Toolkits


def consumers(packages: Packages, toolkits: Toolkits, environ: Environ) -> tuple[str, ...]:
    """Return who builds CUDA code with a CUDA_HOME here: flashinfer at run time, torch on demand.

    Both count where an nvcc, or a CUDA_HOME, shows that compiling is meant.
    """
    found = []
    if packages.torch is not None and not packages.torch.cuda:
        return ()
    prepared = any(
        s.consumer == "torch" and (s.has_nvcc or s.rule in ("CUDA_HOME", "CUDA_PATH"))
        for s in toolkits.selections
    )
    if packages.flashinfer is not None and prepared and not leaves_flashinfer(packages, toolkits, environ):
        found.append("flashinfer")
    if packages.torch is not None and prepared:
        found.append("torch")
    return tuple(found)


def leaves_flashinfer(packages: Packages, toolkits: Toolkits, environ: Environ) -> bool:
    """Return whether FlashInfer is installed but will compile nothing.

    vLLM looks for nvcc on PATH, and nowhere else, before it takes FlashInfer at all; with flashinfer-cubin
    it does not look (`has_flashinfer` in vllm/utils/flashinfer.py, 0.11 to 0.33).
    """
    if environ.get("FLASHINFER_DISABLE_JIT"):
        return True
    asks = packages.find("vllm") is not None and packages.find("flashinfer-cubin") is None
    return asks and toolkits.nvcc_on_path is None


def nothing_compiles(packages: Packages) -> str:
    """Return why `consumers` found none: for whom the question does not arise."""
    torch = packages.torch
    if torch is not None and torch.hip:
        return f"not applicable: torch is built for ROCm {torch.hip}"
    if torch is not None and not torch.cuda:
        return "not applicable: torch is a CPU-only build"
    if torch is not None or packages.flashinfer is not None:
        return "no nvcc and no CUDA_HOME: nothing here can compile CUDA code, and nothing tries to"
    return "nothing installed here compiles CUDA code"


def headers_at(root: str, toolkits: Toolkits) -> HeaderDirectory | None:
    """Return what `root/include` holds, by its spelling or through the toolkit it belongs to."""
    found = toolkits.headers.get(f"{root}/include")
    if found is None and (toolkit := toolkits.at(root)) is not None:
        found = toolkits.headers.get(f"{toolkit.root}/include")
    return found


def lacks(selection: Selection, toolkits: Toolkits) -> str:
    """Return why the selected root is no toolkit, or "" where it is one.

    A conda prefix is one although its headers are under targets/: that is for other checks to judge.
    """
    if selection.root.startswith(":"):
        return "it starts with a colon, and is used as it stands"
    if not selection.exists:
        return "no such folder"
    headers = headers_at(selection.root, toolkits)
    if headers is not None and "cuda_runtime.h" in headers.headers:
        return ""
    toolkit = toolkits.at(selection.root)
    if toolkit is not None and (toolkit.layout != "cuda" or _has_headers(toolkit, toolkits)):
        return ""
    return "no cuda_runtime.h there" if selection.has_nvcc else "no nvcc, no cuda_runtime.h there"


def complete(toolkit: Toolkit, toolkits: Toolkits) -> bool:
    """Return whether a toolkit has nvcc and, where a build would look, the runtime's header."""
    return bool(toolkit.nvcc) and _has_headers(toolkit, toolkits)


def _has_headers(toolkit: Toolkit, toolkits: Toolkits) -> bool:
    found = (toolkits.headers.get(folder) for folder in toolkit.include)
    return any(directory is not None and "cuda_runtime.h" in directory.headers for directory in found)


def usable(toolkit: Toolkit, toolkits: Toolkits, packages: Packages) -> bool:
    """Return whether a toolkit is complete and of torch's CUDA major."""
    major = packages.torch.cuda.partition(".")[0] if packages.torch else ""
    return complete(toolkit, toolkits) and (not major or toolkit.version.partition(".")[0] == major)


def toolkit_to_use(toolkits: Toolkits, packages: Packages) -> Toolkit | None:
    """Return the toolkit that CUDA_HOME should name: one with nvcc and headers, of torch's CUDA major.

    The one behind the nvcc on PATH comes first, then the environment's own, then those in the usual places.
    One of another major is never named: torch refuses to build with it.
    """
    found = [toolkit for toolkit in toolkits.toolkits if usable(toolkit, toolkits, packages)]
    order = ("nvcc on PATH", "the environment", "pip", "CUDA_HOME", "CUDA_PATH", "a usual place")
    return min(
        found,
        key=lambda toolkit: min((order.index(way) for way in toolkit.found_by if way in order), default=9),
        default=None,
    )


def judged(toolkits: Toolkits, packages: Packages, who: tuple[str, ...]) -> Toolkit | None:
    """Return the toolkit that checks of its parts judge.

    It is the selected one; where that is no toolkit (cuda-home-wrong says so), the one that should be
    selected, so that one cause gives one finding.
    """
    selection = toolkits.selected(who[0])
    if selection is not None and not lacks(selection, toolkits):
        return toolkits.at(selection.root)
    return toolkit_to_use(toolkits, packages)
