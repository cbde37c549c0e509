"""Distributions made by hand, for the checks of what is installed."""

from cudadoctor.facts import Distribution, Machine, Packages, Target

PREFIX = "/opt/env"
SITE = f"{PREFIX}/lib/python3.12/site-packages"
USER = "/home/ada/.local/lib/python3.12/site-packages"
MACHINE = Machine("x86_64", "Linux", "Debian GNU/Linux 12", "6.1.0", 8, 1 << 36, 1 << 35, 8192, None)


def target(kind: str = "venv", version: str = "3.12.4", *sites: str) -> Target:
    """Return an environment of this kind, with these folders on its path, or its own alone."""
    python = f"{PREFIX}/bin/python3"
    return Target(PREFIX, kind, python, version, "/usr", sites or (SITE,), "", "--prefix", True)


def one(name: str, version: str, *requires: str, at: str = SITE, installer: str = "pip") -> Distribution:
    """Return one distribution as its METADATA tells it."""
    file = f"{name.replace('-', '_')}-{version}.dist-info/METADATA"
    return Distribution(name, version, at, installer, requires, file=file)


def broken(name: str, version: str, problem: str) -> Distribution:
    """Return one whose METADATA is not what it should be."""
    entry = f"{name}-{version}.dist-info"
    return Distribution(name, version, SITE, problem=f"{entry}: {problem}", file=f"{entry}/METADATA")


def all_of(*found: Distribution) -> Packages:
    """Return the section that holds these, and pip behind them where there are any."""
    return Packages((*found, one("pip", "26.0")) if found else ())
