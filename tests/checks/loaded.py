"""A small environment of real ELF files, probed for real: the interpreter, torch and what a test adds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cudadoctor.engine import collect, needed
from cudadoctor.facts import Facts
from cudadoctor.host import RealHost
from cudadoctor.outcomes import Outcome
from cudadoctor.probes.target import Request
from cudadoctor.testing import judge
from tests.elves import LOADER, plant

TORCH = 'def _load_global_deps():\n    _preload_cuda_deps("nvjitlink", "libnvJitLink.so.*[0-9]")\n'


class Stack:
    """A venv in a folder of the test's; what is not planted is found on the machine, as libc.so.6 is."""

    def __init__(self, root: Path) -> None:
        self.root = root / "env"
        self.site = self.root / "lib" / "python3.12" / "site-packages"
        plant(self.root / "bin" / "python3", needed=["libc.so.6"], interpreter=LOADER).chmod(0o755)
        (self.root / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.12.1\n")
        self.site.mkdir(parents=True)
        self.wheel("pip", "26.0")
        self.pip = f"{self.root}/bin/python3 -m pip"

    def wheel(self, name: str, version: str, requires: Sequence[str] = ()) -> None:
        """Install the metadata of a distribution."""
        folder = self.site / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        lines = [f"Requires-Dist: {requirement}" for requirement in requires]
        text = "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines, "", ""])
        (folder / "METADATA").write_text(text)

    def library(self, path: str, *needed: str, **options: object) -> Path:
        """Plant a library in site-packages; its soname is its name."""
        return plant(self.site / path, Path(path).name, needed, **options)

    def torch(self, *needed: str, requires: Sequence[str] = (), **options: object) -> None:
        """Install a torch whose extension needs libtorch_cuda.so, which needs what is given."""
        self.wheel("torch", "2.9.0", requires)
        self.library("torch/_C.cpython-312-x86_64-linux-gnu.so", "libtorch_cuda.so", rpath="$ORIGIN/lib")
        self.library("torch/lib/libtorch_cuda.so", *needed, **options)
        (self.site / "torch" / "version.py").write_text("__version__ = '2.9.0+cu128'\ncuda = '12.8'\n")
        (self.site / "torch" / "__init__.py").write_text(TORCH)

    def facts(self, **variables: str) -> Facts:
        """Return what the probes see with these variables."""
        host = RealHost({"PATH": f"{self.root}/bin", "VIRTUAL_ENV": str(self.root), **variables})
        return collect(host, needed((), also=("objects",)), Request(prefix=str(self.root)))

    def judged(self, check: str, **variables: str) -> Outcome:
        """Return how a check ends on it with these variables."""
        return judge(check, self.facts(**variables))
