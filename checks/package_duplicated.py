"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import structs

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Distribution, Packages, Target
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.verdicts import Pip, pip_for, pip_install, pip_uninstall


@check
def package_duplicated(packages: Packages, target: Target) -> Iterator[Finding]:
    """Two versions of one package have their metadata in the same folder.

    ## What it means
    The second was unpacked over the first: by two installers, by `pip install --target`, by a copied
    environment, or by an install that could not remove what was there. The modules of both lie in one
    folder, those of the later one on top, and which version `importlib.metadata` answers with is the order
    in which the file system lists the folder. Removing one removes files of the other.

    ## How to tell
    `uv pip check` names the folders; `ls -d .../site-packages/NAME-*.dist-info` shows them.

    ## What helps
    Removing the package until nothing of it is left, then installing it once.
    """
    if not packages.distributions:
        raise Skip("no Python packages are installed")
    together: dict[tuple[str, str], list[Distribution]] = {}
    for each in packages.distributions:
        if not each.name.startswith("~"):
            together.setdefault((each.name, each.location), []).append(each)
    for twins in together.values():
        # Debian ships some packages with the metadata of one version twice, in an old and a new format.
        differ = len({each.version for each in twins}) > 1 or any(each.problem for each in twins)
        if differ and len(twins) > 1 and not any(each.conda for each in twins):
            yield _finding(twins, pip_for(target, packages))


def _finding(twins: list[Distribution], pip: Pip) -> Finding:
    name = twins[0].name
    versions = " and ".join(each.version or "?" for each in twins)
    live = [each for each in twins if each.own_file]
    wins = f"; the files are those of {live[0].version}" if len(live) == 1 else ""
    return Finding(
        f"{name} is installed twice in one folder, as {versions}{wins}",
        Severity.WARNING,
        tuple(_evidence(twins, live)),
        tuple(_remedies(name, (live or twins)[-1], pip)),
    )


def _evidence(twins: list[Distribution], live: list[Distribution]) -> Iterator[Evidence]:
    for each in twins:
        yield Evidence(each.path, each.problem.partition(": ")[2] or f"{each.name} {each.version}")
    for each in live:
        yield Evidence(f"{each.location}/{each.own_file}", f"is the file that {each.version} brought")


def _remedies(name: str, kept: Distribution, pip: Pip) -> Iterator[Remedy]:
    bare = structs.replace(pip, first="")
    again = pip_install(bare, f"{name}=={kept.version}" if kept.version else name)
    if not (remove := pip_uninstall(bare, name)):
        yield again
        return
    done = "Uninstalled" if pip.words == "uv pip" else "Success"
    command = f"{pip.first}while {remove} 2>&1 | grep -q {done}; do :; done; {again.summary}"
    yield Remedy("show", {}, command)
