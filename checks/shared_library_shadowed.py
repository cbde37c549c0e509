"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Environ, Packages, SharedObjects, Target
from cudadoctor.findings import Evidence, Finding, Severity
from cudadoctor.loading import loaded_extensions, short, take_out
from cudadoctor.simulate.imports import Imported, Shadow, displaced, imports, needers


@check
def shared_library_shadowed(
    objects: SharedObjects, environ: Environ, packages: Packages, target: Target
) -> Iterator[Finding]:
    """LD_LIBRARY_PATH puts another library before the one that came with the package.

    ## What it means
    The loader goes through `LD_LIBRARY_PATH` before the folders that a library names in its RUNPATH. A
    toolkit's or another environment's folder in it can so take the place of what a wheel brought. An older
    one lacks symbols: ``libcusparse.so.12: undefined symbol: __nvJitLinkComplete_12_4``. Where nothing is
    lacking it is a note: other code runs than was tested with the package. pip's torch is safe from most of
    this: its libraries have an RPATH, which comes before `LD_LIBRARY_PATH`, and what it loads first counts
    for all that follow. That is taken into account here.

    ## How to tell
    `LD_DEBUG=libs python -c "import torch" 2>&1 | grep 'calling init'` lists the files that get loaded.

    ## What helps
    `LD_LIBRARY_PATH` without that folder.
    """
    library_path = environ.get("LD_LIBRARY_PATH")
    if not library_path:
        raise Skip("LD_LIBRARY_PATH is not set")
    now = loaded_extensions(objects, environ)
    bare = imports(objects, environ, "")
    for shadow in displaced(now, bare, target):
        yield _finding(shadow, bare, objects, environ, packages)


def _finding(
    shadow: Shadow, bare: list[Imported], objects: SharedObjects, environ: Environ, packages: Packages
) -> Finding:
    missing = objects.undefined.get(shadow.taken.file, ())
    users = [short(one.path, packages) for one in needers(shadow.name, bare)]
    breaks = f": {users[0]} will find no {missing[0]} in it" if missing and users else ""
    evidence = [
        Evidence(environ.where("LD_LIBRARY_PATH"), f"LD_LIBRARY_PATH={environ.get('LD_LIBRARY_PATH')}"),
        Evidence(shadow.taken.path, f"is loaded as {shadow.name}"),
        Evidence(shadow.own.path, "would be loaded without LD_LIBRARY_PATH"),
    ]
    evidence += [Evidence(user, f"needs {shadow.name}") for user in users[:3]]
    if len(missing) > 1:
        evidence.append(Evidence(shadow.taken.path, f"lacks {', '.join(missing[:5])}"))
    remedy = take_out({shadow.taken.folder}, objects, environ)
    return Finding(
        f"{shadow.taken.path} takes the place of {short(shadow.own.path, packages)}{breaks}",
        Severity.ERROR if missing else Severity.NOTE,
        tuple(evidence),
        (remedy,) if remedy and missing else (),
    )
