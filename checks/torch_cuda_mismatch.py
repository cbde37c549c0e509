"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Builds, Environ, Packages, Toolkit, Toolkits
from cudadoctor.findings import Evidence, Finding, Remedy, Severity, export
from cudadoctor.simulate.choice import consumers, lacks, nothing_compiles, toolkit_to_use
from cudadoctor.verdicts import LABELS, another_toolkit
from cudadoctor.versions import series


@check
def torch_cuda_mismatch(
    packages: Packages, toolkits: Toolkits, environ: Environ, builds: Builds
) -> Iterator[Finding]:
    """The toolkit that builds will use is of another CUDA major than torch.

    ## What it means
    `torch.utils.cpp_extension` compares nvcc's release with the one torch was built for: with another major
    it raises a RuntimeError and builds nothing; with another minor it only warns, and this check is silent.
    FlashInfer compares nothing: what it compiles links `libcudart.so` of the toolkit's major, and is opened
    in a process that has torch's. For torch alone it is a note where nothing names the toolkit and it merely
    lies in /usr/local/cuda: wheels need none.

    ## How to tell
    `$CUDA_HOME/bin/nvcc --version` says 13.0, and `python -c "import torch; print(torch.version.cuda)"` says
    12.8.

    ## What helps
    CUDA_HOME set to a toolkit of torch's major.
    """
    who = consumers(packages, toolkits, environ)
    if not who or packages.torch is None:
        raise Skip(nothing_compiles(packages))
    torch = packages.torch
    wrong = {name: kit for name in who if (kit := _selected(name, toolkits)) and not _agrees(kit, torch.cuda)}
    if not wrong:
        return
    name, kit = next(iter(wrong.items()))
    selection = toolkits.selected(name)
    rule = selection.rule if selection else ""
    better = toolkit_to_use(toolkits, packages)
    remedy: Remedy | None
    remedy = export("cuda-home", CUDA_HOME=better.root) if better else another_toolkit(packages)
    labels = " and ".join(LABELS[each] for each in wrong)
    yield Finding(
        f"{labels}: nvcc is of CUDA {series(kit.version)}, torch is built for {torch.cuda}",
        # A toolkit that lies in /usr/local by itself says nothing of a wish to build with it.
        Severity.NOTE if rule.startswith("the default") and "flashinfer" not in wrong else Severity.WARNING,
        (
            Evidence(builds.torch_source, f"cuda is '{torch.cuda}'"),
            Evidence(kit.version_source, f"nvcc {kit.version}, at {kit.nvcc}"),
            Evidence(environ.where(rule) if environ.get(rule) else rule, f"selects {kit.root}"),
            Evidence(f"{torch.root}/utils/cpp_extension.py", "_check_cuda_version refuses another major"),
        ),
        (remedy,) if remedy else (),
    )


def _selected(consumer: str, toolkits: Toolkits) -> Toolkit | None:
    """Return the toolkit that this consumer's nvcc belongs to, where its own version is known.

    A root that is no toolkit is for cuda-home-wrong to tell, with the CUDA of the one that it leads to.
    """
    selection = toolkits.selected(consumer)
    if selection is None or not selection.has_nvcc or lacks(selection, toolkits):
        return None
    found = toolkits.at(selection.root)
    on_path = toolkits.nvcc_on_path
    if (found is None or not found.nvcc) and on_path and on_path.path == f"{selection.root}/bin/nvcc":
        found = toolkits.at(on_path.runs.rpartition("/bin/")[0])  # a script that starts another's nvcc
    if found is None or not found.nvcc or found.version_source.endswith("cuda_runtime_api.h"):
        return None
    return found


def _agrees(toolkit: Toolkit, cuda: str) -> bool:
    return not toolkit.version or toolkit.version.partition(".")[0] == cuda.partition(".")[0]
