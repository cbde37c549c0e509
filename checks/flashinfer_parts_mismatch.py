"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Builds, Environ, FlashInferPart
from cudadoctor.findings import Evidence, Finding, Remedy, Severity


@check
def flashinfer_parts_mismatch(builds: Builds, environ: Environ) -> Iterator[Finding]:
    """flashinfer-cubin or flashinfer-jit-cache is of another version than flashinfer-python.

    ## What it means
    Both bring kernels for one version of FlashInfer and no other. From 0.4.0 on importing FlashInfer raises a
    RuntimeError where the versions differ; 0.7.2.post1 leaves the part aside with a warning, downloads cubins
    and compiles operators instead. Which of the two the installed one does is read from its own
    `flashinfer/jit/env.py`. An upgrade of flashinfer-python leaves the others behind: the package index has
    had no flashinfer-cubin since 0.6.13.

    ## How to tell
    `python -c "import flashinfer"`.

    ## What helps
    The part in FlashInfer's version, or without it: it saves time and is not needed. With
    `FLASHINFER_DISABLE_VERSION_CHECK=1` kernels of another version are used.
    """
    if not builds.flashinfer_parts:
        raise Skip("flashinfer-cubin and flashinfer-jit-cache are not installed")
    if environ.get("FLASHINFER_DISABLE_VERSION_CHECK"):
        raise Skip("FLASHINFER_DISABLE_VERSION_CHECK is set")
    for part in builds.flashinfer_parts:
        if not part.suits and part.otherwise:
            yield _finding(part)


def _finding(part: FlashInferPart) -> Finding:
    raises = part.otherwise == "raises"
    ends = "importing FlashInfer will raise a RuntimeError" if raises else "it is not used"
    return Finding(
        f"{part.distribution} {part.version} does not suit FlashInfer {part.wanted}: {ends}",
        Severity.ERROR if raises else Severity.WARNING,
        (
            Evidence(part.source, f"{part.distribution} {part.version}"),
            Evidence(part.wanted_source, f"FlashInfer {part.wanted}"),
            Evidence(part.rule, "the RuntimeError" if raises else "the warning"),
        ),
        (Remedy("show", {}, f"pip uninstall {part.distribution}", (_replacement(part),)),),
    )


def _replacement(part: FlashInferPart) -> Remedy:
    label = part.version.partition("+")[2]
    wanted = f"{part.distribution}=={part.wanted}" + (f"+{label}" if label else "")
    return Remedy("show", {}, f"{wanted}, from https://flashinfer.ai/whl{f'/{label}' if label else ''}")
