"""A machine with a driver, as far as files tell: what containers without a GPU never show."""

from pathlib import Path

from cudadoctor.facts import Packages, Triton
from cudadoctor.host import RealHost
from cudadoctor.probes import compilers, environ, libraries, machine, target, toolkits
from cudadoctor.probes.conda import probe as conda_probe
from cudadoctor.probes.target import Request
from cudadoctor.testing import judge
from tests.elves import loader_cache


class WithDriver(RealHost):
    """This machine, with a loader's cache that knows a driver in `folder`."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        super().__init__(environ)
        self._cache = loader_cache(f"{folder}/libcuda.so.1")

    def read(self, path: str, limit_bytes: int = 4 << 20) -> bytes:
        return self._cache if path == "/etc/ld.so.cache" else super().read(path, limit_bytes)


def test_tritons_link_is_judged_where_a_driver_is(pip_cu13: Path, gxx: str, tmp_path: Path) -> None:
    driver = tmp_path / "driver"
    driver.mkdir()
    stub = next(iter(pip_cu13.glob("lib/python3.*/site-packages/nvidia/cu13/lib/libcudart.so.13")))
    (driver / "libcuda.so.1").write_bytes(stub.read_bytes())
    host = WithDriver(driver, {"PATH": "/usr/bin:/bin"})
    where = target.probe(host, Request(prefix=str(pip_cu13)))
    variables, held = environ.probe(host, where), Packages(())
    root = f"{where.site_packages[0]}/triton"
    for names, outcome in ((("libcuda.so.1",), "Passed"), (("cuda",), "Failed")):
        held = Packages((), triton=Triton("3.5.0", root, names, "driver.py"))
        found, here = compilers.probe(host, variables, held), machine.probe(host)
        kits = toolkits.probe(host, where, variables, held, conda_probe(host, where), here)
        seen = libraries.probe(host, variables, held, kits, found, here)
        ended = judge(
            "libcuda-link-missing",
            toolkits=kits, compilers=found, libraries=seen, environ=variables, packages=held,
        )  # fmt: skip
        assert type(ended).__name__ == outcome, ended
