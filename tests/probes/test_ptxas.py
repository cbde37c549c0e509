"""Which ptxas Triton runs, by the words of its own files."""

from __future__ import annotations

from collections.abc import Mapping

from cudadoctor.facts import Driver, Gpu, Packages, Ptxas, PtxasUse, Toolkits, TorchBuild, Triton
from cudadoctor.host import Ran
from cudadoctor.probes import ptxas
from cudadoctor.testing import FakeHost, Program
from tests.checks.build import environ, no_toolkits, toolkit, toolkits

SITE = "/env/lib/python3.12/site-packages"
ROOT = f"{SITE}/triton"
BIN = f"{ROOT}/backends/nvidia/bin"
RULE = "def get_ptxas():\n    return knobs.nvidia.ptxas\n"
SPLIT = (
    "def get_ptxas(arch):\n    return knobs.nvidia.ptxas_blackwell if arch >= 100 else knobs.nvidia.ptxas\n"
)
KNOBS = 'ptxas: env_nvidia_tool = env_nvidia_tool("ptxas")\n'


def says(version: str) -> str:
    return f"ptxas: Ptx optimizing assembler\nCuda compilation tools, release {version}, V{version}.1\n"


def ended(ran: Ran) -> Program:
    return lambda argv, variables: ran


def look(
    *capabilities: str,
    rule: str = RULE,
    files: Mapping[str, object] | None = None,
    programs: Mapping[str, Program | str] | None = None,
    kits: Toolkits | None = None,
    **variables: str,
) -> Ptxas:
    tree = {f"{ROOT}/backends/nvidia/compiler.py": rule, f"{ROOT}/knobs.py": KNOBS, **(files or {})}
    own = {f"{BIN}/ptxas": says("12.8"), f"{BIN}/ptxas-blackwell": says("12.9")}
    host = FakeHost(tree, programs={**own, **(programs or {})})
    packages = Packages(
        (), TorchBuild("2.9.0", f"{SITE}/torch", "12.8"), None, Triton("3.5.0", ROOT, (), "driver.py")
    )
    gpus = tuple(Gpu(number, "GPU", each) for number, each in enumerate(capabilities))
    held = Driver("580.95.05", "/proc", gpus=gpus)
    return ptxas.probe(host, environ(**variables), packages, kits or no_toolkits(), held)


def test_nothing_is_run_for_gpus_that_every_ptxas_knows() -> None:
    assert look("8.6", "8.9", "9.0") == look() == Ptxas()


def test_one_ptxas_serves_all_up_to_triton_3_5() -> None:
    found = look("12.1", "10.0")
    expected = [PtxasUse(kind, f"{BIN}/ptxas", "12.8", "TRITON_PTXAS_PATH") for kind in ("10.0", "12.1")]
    assert list(found.uses) == expected and found.source == f"{ROOT}/backends/nvidia/compiler.py"


def test_blackwell_has_its_own_later() -> None:
    (old, new) = look("8.8", "12.1", rule=SPLIT).uses
    assert (old.capability, old.path, old.version) == ("8.8", f"{BIN}/ptxas", "12.8")
    assert (new.path, new.version) == (f"{BIN}/ptxas-blackwell", "12.9")
    assert new.variable == "TRITON_PTXAS_BLACKWELL_PATH"


def test_the_variable_of_the_one_does_not_name_the_other() -> None:
    named = {"/cuda/bin/ptxas": says("13.0")}
    (use,) = look("12.1", rule=SPLIT, programs=named, TRITON_PTXAS_PATH="/cuda/bin/ptxas").uses
    assert use.version == "12.9"
    (use,) = look("12.1", rule=SPLIT, programs=named, TRITON_PTXAS_BLACKWELL_PATH="/cuda/bin/ptxas").uses
    assert (use.path, use.version, use.passed_over) == ("/cuda/bin/ptxas", "13.0", "")


def test_what_cannot_be_run_is_passed_over() -> None:
    failed = ended(Ran(1, says("13.0"), ""))
    broken: dict[str, Program | str] = {"/broken/ptxas": failed, "/odd/ptxas": "hello\n"}
    for path in ("/nowhere/ptxas", "/broken/ptxas", "/odd/ptxas"):
        (use,) = look("12.1", programs=broken, TRITON_PTXAS_PATH=path).uses
        assert (use.path, use.version, use.passed_over) == (f"{BIN}/ptxas", "12.8", path)
    (use,) = look("12.1", programs={f"{BIN}/ptxas": "hello\n"}).uses
    assert (use.path, use.version) == ("", "")


def test_what_may_not_be_run_makes_triton_raise() -> None:
    closed = {"/closed/ptxas": ended(Ran(127, "", "", problem="Permission denied"))}
    (use,) = look("8.6", programs=closed, TRITON_PTXAS_PATH="/closed/ptxas").uses
    assert (use.capability, use.path, use.problem) == ("8.6", "/closed/ptxas", "Permission denied")
    own = {f"{BIN}/ptxas": closed["/closed/ptxas"]}
    (use,) = look("12.1", programs=own).uses
    assert (use.path, use.version, use.problem) == (f"{BIN}/ptxas", "", "Permission denied")


def test_the_one_that_torch_compile_takes_is_seen() -> None:
    path = f"{SITE}/torch/bin/ptxas"
    found = look("12.1", files={path: ""}, programs={path: says("13.0")})
    assert found.uses[0].compile_version == "13.0"
    named = look("12.1", files={path: ""}, programs={path: says("13.0")}, TRITON_PTXAS_PATH=f"{BIN}/ptxas")
    assert named.uses[0].compile_version == ""


def test_those_of_toolkits_are_listed() -> None:
    kit = toolkit("/cuda", "13.0.88")
    found = look("12.1", files={"/cuda/bin/ptxas": ""}, kits=toolkits(kit))
    assert found.others == {"/cuda/bin/ptxas": "13.0.88"}
    assert look("12.1", kits=toolkits(kit)).others == {}


def test_another_rule_is_not_guessed_at() -> None:
    assert "in another way" in look("12.1", rule="def path_to_ptxas():\n").doubt
