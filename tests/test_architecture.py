"""Who may import whom, and that a check never touches the machine."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PURE = {
    "__future__", "collections", "enum", "functools", "itertools", "math", "posixpath", "re", "shlex",
    "typing",
}  # fmt: skip

#: What each room may import beside the standard library; the longest matching name counts.
MAY: dict[str, set[str]] = {
    "cudadoctor/facts": {"msgspec", "cudadoctor.facts"},
    "cudadoctor/findings.py": {"msgspec"},
    "cudadoctor/outcomes.py": {"msgspec", "cudadoctor.findings"},
    "cudadoctor/host.py": {"psutil", "distro"},
    "cudadoctor/nvml.py": {"pynvml"},
    "cudadoctor/child": set(),
    "cudadoctor/latest.py": set(),
    "cudadoctor/versions.py": set(),
    "cudadoctor/simulate": {
        "msgspec",
        "packaging",
        "cudadoctor.facts",
        "cudadoctor.latest",
        "cudadoctor.simulate",
        "cudadoctor.versions",
    },
    "cudadoctor/knowledge": {"msgspec", "cudadoctor.knowledge", "cudadoctor.versions"},
    "cudadoctor/actions.py": {"msgspec"},
    "cudadoctor/exports": {"msgspec", "cudadoctor.actions", "cudadoctor.exports"},
    "cudadoctor/declare.py": {
        "msgspec",
        "cudadoctor.actions",
        "cudadoctor.facts",
        "cudadoctor.findings",
        "cudadoctor.outcomes",
    },
    "cudadoctor/ground.py": {"cudadoctor.actions"},
    "cudadoctor/journal.py": {"msgspec", "cudadoctor.actions", "cudadoctor.ground"},
    "cudadoctor/places.py": {"cudadoctor.host"},
    "cudadoctor/overlay.py": {"msgspec", "cudadoctor.actions", "cudadoctor.host"},
    "cudadoctor/remembering.py": {"cudadoctor.host", "cudadoctor.overlay"},
    "cudadoctor/lowering.py": {
        "msgspec",
        "cudadoctor.actions",
        "cudadoctor.exports",
        "cudadoctor.facts",
        "cudadoctor.ground",
        "cudadoctor.host",
        "cudadoctor.report",
    },
    "cudadoctor/plan.py": {
        "msgspec",
        "cudadoctor.actions",
        "cudadoctor.declare",
        "cudadoctor.exports",
        "cudadoctor.facts",
        "cudadoctor.findings",
        "cudadoctor.ground",
        "cudadoctor.host",
        "cudadoctor.installers.choice",
        "cudadoctor.lowering",
        "cudadoctor.report",
        "cudadoctor.simulate",
    },
    "cudadoctor/transaction.py": {
        "msgspec",
        "cudadoctor.actions",
        "cudadoctor.ground",
        "cudadoctor.journal",
    },
    "cudadoctor/values.py": {
        "cudadoctor.actions",
        "cudadoctor.exports",
        "cudadoctor.facts",
        "cudadoctor.findings",
    },
    "cudadoctor/verdicts.py": {
        "msgspec",
        "cudadoctor.declare",
        "cudadoctor.facts",
        "cudadoctor.findings",
        "cudadoctor.knowledge",
        "cudadoctor.simulate",
    },
    "fixes": {
        "msgspec",
        "cudadoctor.actions",
        "cudadoctor.declare",
        "cudadoctor.facts",
        "cudadoctor.findings",
        "cudadoctor.values",
    },
    "cudadoctor/installers": {
        "msgspec",
        "cudadoctor.actions",
        "cudadoctor.facts",
        "cudadoctor.host",
        "cudadoctor.installers",
        "cudadoctor.knowledge",
        "cudadoctor.probes",
    },
    "cudadoctor/elf.py": {"cudadoctor.facts", "cudadoctor.host"},
    "cudadoctor/launch": {
        "msgspec",
        "yaml",
        "cudadoctor.facts",
        "cudadoctor.host",
        "cudadoctor.launch",
        "cudadoctor.mistakes",
    },
    "cudadoctor/loading.py": {
        "msgspec",
        "cudadoctor.declare",
        "cudadoctor.facts",
        "cudadoctor.findings",
        "cudadoctor.knowledge",
        "cudadoctor.latest",
        "cudadoctor.simulate",
        "cudadoctor.verdicts",
    },
    "cudadoctor/fetching.py": {
        "msgspec",
        "cudadoctor.declare",
        "cudadoctor.facts",
        "cudadoctor.findings",
    },
    "cudadoctor/secrets.py": set(),
    "cudadoctor/forms.py": {"cudadoctor.secrets"},
    "cudadoctor/addresses.py": set(),
    "cudadoctor/redact.py": {
        "msgspec",
        "cudadoctor.addresses",
        "cudadoctor.facts",
        "cudadoctor.forms",
        "cudadoctor.secrets",
    },
    "cudadoctor/compare": {
        "msgspec",
        "cudadoctor.compare",
        "cudadoctor.declare",
        "cudadoctor.facts",
        "cudadoctor.findings",
        "cudadoctor.knowledge",
        "cudadoctor.outcomes",
        "cudadoctor.versions",
    },
    "cudadoctor/planned.py": {"msgspec"},
    "cudadoctor/attention.py": {
        "cudadoctor.declare",
        "cudadoctor.facts",
        "cudadoctor.knowledge",
        "cudadoctor.simulate",
        "cudadoctor.versions",
    },
    "cudadoctor/tasks.py": {
        "msgspec",
        "cudadoctor.attention",
        "cudadoctor.declare",
        "cudadoctor.facts",
        "cudadoctor.knowledge",
        "cudadoctor.latest",
        "cudadoctor.simulate",
        "cudadoctor.versions",
    },
    "cudadoctor/planning.py": {
        "msgspec",
        "cudadoctor.attention",
        "cudadoctor.declare",
        "cudadoctor.facts",
        "cudadoctor.findings",
        "cudadoctor.knowledge",
        "cudadoctor.latest",
        "cudadoctor.planned",
        "cudadoctor.simulate",
        "cudadoctor.tasks",
    },
    "cudadoctor/probes": {
        "msgspec",
        "cudadoctor.actions",
        "packaging",
        "cudadoctor.attention",
        "cudadoctor.bounded",
        "cudadoctor.elf",
        "cudadoctor.exports",
        "cudadoctor.facts",
        "cudadoctor.host",
        "cudadoctor.journal",
        "cudadoctor.launch",
        "cudadoctor.places",
        "cudadoctor.probes",
        "cudadoctor.knowledge",
        "cudadoctor.simulate",
        "cudadoctor.versions",
        "cudadoctor.secrets",
    },
    "cudadoctor/explain": {
        "ahocorasick_rs",
        "msgspec",
        "cudadoctor.explain",
        "cudadoctor.findings",
        "cudadoctor.mistakes",
        "cudadoctor.outcomes",
    },
    "cudadoctor/render": {
        "cudadoctor.explain.model",
        "msgspec",
        "rich",
        "cudadoctor.actions",
        "cudadoctor.compare",
        "cudadoctor.declare",
        "cudadoctor.facts",
        "cudadoctor.findings",
        "cudadoctor.outcomes",
        "cudadoctor.plan",
        "cudadoctor.planned",
        "cudadoctor.planning",
        "cudadoctor.render",
        "cudadoctor.repair",
        "cudadoctor.report",
        "cudadoctor.show",
        "cudadoctor.simulate",
        "cudadoctor.tasks",
        "cudadoctor.words",
    },
    "cudadoctor/words.py": {"cudadoctor.actions"},
    "checks": {
        "msgspec",
        "cudadoctor.attention",
        "cudadoctor.declare",
        "cudadoctor.facts",
        "cudadoctor.fetching",
        "cudadoctor.findings",
        "cudadoctor.knowledge",
        "cudadoctor.loading",
        "cudadoctor.planning",
        "cudadoctor.simulate",
        "cudadoctor.tasks",
        "cudadoctor.verdicts",
        "cudadoctor.versions",
    },
}


def sources() -> list[Path]:
    files = [*ROOT.glob("cudadoctor/**/*.py"), *ROOT.glob("checks/**/*.py"), *ROOT.glob("fixes/*.py")]
    return [file for file in files if "__pycache__" not in file.parts]


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import hides who imports whom"
            found |= {f"{node.module}"}
    return found


def third_party(name: str) -> bool:
    return name.split(".")[0] in {
        "rich",
        "msgspec",
        "packaging",
        "psutil",
        "distro",
        "pynvml",
        "shtab",
        "yaml",
        "cudadoctor",
    }


@pytest.mark.parametrize("room", MAY)
def test_a_room_imports_only_what_its_layer_may(room: str) -> None:
    files = [file for file in sources() if str(file.relative_to(ROOT)).startswith(room)]
    assert files
    for file in files:
        for name in filter(third_party, imports(file)):
            assert any(name == ok or name.startswith(f"{ok}.") for ok in MAY[room]), f"{file} imports {name}"


@pytest.mark.parametrize(
    "room",
    [
        "checks",
        "fixes",
        "cudadoctor/simulate",
        "cudadoctor/compare",
        "cudadoctor/fetching.py",
        "cudadoctor/loading.py",
        "cudadoctor/planning.py",
        "cudadoctor/tasks.py",
        "cudadoctor/values.py",
        "cudadoctor/verdicts.py",
    ],
)
def test_what_judges_touches_no_machine(room: str) -> None:
    for file in sources():
        if not str(file.relative_to(ROOT)).startswith(room):
            continue
        used = {name for name in imports(file) if not third_party(name)}
        assert {name.split(".")[0] for name in used} <= PURE, f"{file} imports {used}"
        calls = {node.id for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Name)}
        assert not calls & {"open", "print", "input", "exec", "eval", "__import__"}, file


def test_only_the_page_imports_rich() -> None:
    users = {file for file in sources() if any(name.split(".")[0] == "rich" for name in imports(file))}
    assert {str(file.relative_to(ROOT)) for file in users} <= {"cudadoctor/render/page.py"}


def test_only_one_reader_of_launches_imports_yaml_and_only_when_it_is_called() -> None:
    users = {str(file.relative_to(ROOT)) for file in sources() if "yaml" in imports(file)}
    assert users == {"cudadoctor/launch/yaml_text.py"}
    tree = ast.parse((ROOT / "cudadoctor/launch/yaml_text.py").read_text())
    assert not any(isinstance(node, ast.Import) for node in tree.body)


def test_core_never_imports_a_check_or_a_fix() -> None:
    for file in sources():
        for name in imports(file):
            assert not name.startswith(("checks", "fixes", "cudadoctor.checks", "cudadoctor.fixes")), file


def test_the_stack_is_never_imported() -> None:
    for file in sources():
        tops = {name.split(".")[0] for name in imports(file)}
        assert not tops & {"torch", "vllm", "flashinfer", "triton", "tvm_ffi"}, file
