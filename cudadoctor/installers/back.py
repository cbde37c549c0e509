"""The way back from an install: the commands that leave everything as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cudadoctor.actions import Install, Version
from cudadoctor.installers.inventory import OF_CONDA, changed


def undo_argvs(step: Install, now: Sequence[Version]) -> tuple[tuple[str, ...], ...]:
    """Return the commands that bring everything back to how it was before `step`: none where it is so."""
    conda = step.tool == "conda"
    before = [version for version in step.before if bool(version.build) == conda]
    added, removed, altered = changed(before, [version for version in now if bool(version.build) == conda])
    away = tuple(version.name for version in added)
    back = (*removed, *(was for was, _ in altered))
    commands = _conda_back(step, away, back) if conda else _pip_back(step, away, back)
    return tuple(commands)


def _conda_back(step: Install, away: tuple[str, ...], back: tuple[Version, ...]) -> Iterator[tuple[str, ...]]:
    """Yield what conda, mamba and micromamba understand alike.

    `--force` leaves those that depend on what goes, `--no-deps` those that what comes depends on.
    """
    client, prefix = step.argv[0], step.argv[step.argv.index("-p") + 1]
    if away:
        yield (client, "remove", "-p", prefix, "--force", "-y", *away)
    if back:
        specs = (f"{v.source}::" * bool(v.source) + f"{v.name}={v.version}={v.build}" for v in back)
        yield (client, "install", "-p", prefix, "--no-deps", "-y", *specs)


def _pip_back(step: Install, away: tuple[str, ...], back: tuple[Version, ...]) -> Iterator[tuple[str, ...]]:
    if step.tool == "uv":
        python = step.argv[step.argv.index("--python") + 1]
        remove: tuple[str, ...] = (step.argv[0], "pip", "uninstall", "--python", python)
        install: tuple[str, ...] = (step.argv[0], "pip", "install", "--python", python, "--reinstall")
    else:
        pip = (step.argv[0], "-m", "pip")
        remove = (*pip, "uninstall", "--no-input", "--disable-pip-version-check", "-y")
        install = (*pip, "install", "--no-input", "--disable-pip-version-check", "--force-reinstall")
    if away:
        yield (*remove, *away)
    if back:
        # By force: another source of the same version would count as installed already.
        yield (*install, "--no-deps", *(word for version in back for word in _requirement(version)))


def _requirement(version: Version) -> tuple[str, ...]:
    if version.source.startswith("/"):
        return ("-e", version.source)
    if version.source and version.source != OF_CONDA:
        return (f"{version.name} @ {version.source}",)
    return (f"{version.name}=={version.version}",)
