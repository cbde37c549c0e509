"""The variables that are judged: the current ones, or what activation makes of them, as a shell agrees."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from cudadoctor.actions import Export
from cudadoctor.exports import files
from cudadoctor.facts import Environ, Target
from cudadoctor.host import RealHost
from cudadoctor.probes.environ import probe
from cudadoctor.testing import FakeHost, Link

FOLDERS: dict[str, object] = {
    "/usr/bin/": "",
    "/bin": Link("usr/bin"),
    "/c/bin/": "",
    "/v/bin/": "",
    "/other/bin/": "",
}


def target(prefix: str = "/c", kind: str = "conda", active: bool = False) -> Target:
    return Target(prefix, kind, f"{prefix}/bin/python3", "3.12.4", prefix, (), "", "--prefix", active)


def seen(files: Mapping[str, object] | None = None, kind: str = "conda", **environ: str) -> Environ:
    prefix = "/c" if kind in ("conda", "pixi") else "/v"
    return probe(FakeHost({**FOLDERS, **(files or {})}, environ), target(prefix, kind))


def script(text: str, **environ: str) -> Environ:
    return seen({"/c/etc/conda/activate.d/x.sh": text}, **environ)


# --- whose variables ----------------------------------------------------------------------------------------


def test_vllm_s_variables_are_kept_but_for_those_that_hold_a_secret() -> None:
    private = ("API_KEY", "API_KEYS", "S3_TOKEN", "TOKENS", "AUTH", "PASSWORD_HASH", "HOST_IP")
    held = {"VLLM_ATTENTION_BACKEND": "XFORMERS", **{f"VLLM_{name}": "x" for name in private}}
    found = probe(FakeHost(FOLDERS, held), target(active=True))
    assert set(found.variables) == {"VLLM_ATTENTION_BACKEND"}


def test_an_active_target_is_judged_by_the_current_variables() -> None:
    files = {**FOLDERS, "/c/etc/conda/activate.d/x.sh": "export CUDA_HOME=/c\n"}
    host = FakeHost(files, {"CUDA_HOME": "/usr/local/cuda", "HF_TOKEN": "hf_x", "PATH": "/c/bin:/usr/bin"})
    found = probe(host, target(active=True))
    assert found.get("CUDA_HOME") == "/usr/local/cuda"
    assert found.where("CUDA_HOME") == "CUDA_HOME"
    assert found.path == ("/c/bin", "/usr/bin")
    assert "HF_TOKEN" not in found.variables


def test_an_inactive_conda_target_gets_what_activation_would_set() -> None:
    found = script("export CUDA_HOME=$CONDA_PREFIX\n", CUDA_HOME="/old")
    assert found.get("CUDA_HOME") == "/c"
    assert found.where("CUDA_HOME") == "CUDA_HOME (/c/etc/conda/activate.d/x.sh:1)"
    assert found.get("CONDA_PREFIX") == "/c"
    assert found.path[0] == "/c/bin"
    assert "activation would set" in found.judged


def test_an_inactive_virtual_environment_comes_first_on_path() -> None:
    found = seen(kind="venv", PYTHONHOME="/odd", VIRTUAL_ENV="/other", PATH="/other/bin:/usr/bin")
    assert found.path == ("/v/bin", "/usr/bin")
    assert (found.get("VIRTUAL_ENV"), found.get("PYTHONHOME")) == ("/v", None)


def test_activation_takes_the_place_of_the_active_conda_environment_only() -> None:
    for kind, path in (
        ("conda", ("/c/bin", "/v/bin", "/usr/bin")),
        ("venv", ("/v/bin", "/other/bin/", "/usr/bin")),
    ):
        now = "/v/bin:/other/bin/:/usr/bin"
        assert seen({}, kind, CONDA_PREFIX="/other", VIRTUAL_ENV="/v", PATH=now).path == path


def test_variables_of_the_environment_come_before_its_scripts() -> None:
    state = {"CC": "state-cc", "CXX": "state-c++", "MAX_JOBS": 4, "CPATH": "***unset***"}
    files: dict[str, object] = {
        "/c/etc/conda/env_vars.d/package.json": '{"CUDA_PATH": "/package", "CC": "p", "CXX": "p"}',
        "/c/conda-meta/state": json.dumps({"env_vars": state}),
        "/c/etc/conda/activate.d/a.sh": "export CXX=script-c++",
    }
    found = seen(files, CPATH="/mine")
    assert found.where("CUDA_PATH") == "CUDA_PATH (/c/conda-meta/state)"
    values = [found.get(name) for name in ("CUDA_PATH", "CC", "CXX", "MAX_JOBS", "CPATH")]
    assert values == ["/package", "state-cc", "script-c++", "4", "/mine"]


@pytest.mark.parametrize(
    "state", [b"", b"[]", b"{", b"\xff\xfe", b'{"env_vars": 3}', b'{"env_vars": [1]}', b"[" * 99999]
)
def test_a_damaged_state_file_sets_nothing(state: bytes) -> None:
    assert set(seen({"/c/conda-meta/state": state}).variables) == {"CONDA_PREFIX"}


def test_scripts_run_in_the_order_of_their_names_and_only_those_of_a_shell() -> None:
    folder = "/c/etc/conda/activate.d"
    files: dict[str, object] = {
        f"{folder}/b.sh": "export CC=$CC-b",
        f"{folder}/a.sh": "export CC=a",
        f"{folder}/c.fish": "export CC=fish",
        f"{folder}/~z.sh": "export CXX=$CC",
    }
    found = seen(files)
    assert (found.get("CC"), found.get("CXX")) == ("a-b", "a-b")


def test_a_script_may_put_a_folder_on_path() -> None:
    found = seen({"/c/etc/conda/activate.d/x.sh": 'export PATH="/cuda/bin:$PATH"\n', "/cuda/bin/": ""})
    assert found.path[:2] == ("/cuda/bin", "/c/bin")
    assert "PATH" not in found.variables


# --- PATH ---------------------------------------------------------------------------------------------------


def test_path_keeps_folders_that_exist_once_each_as_they_are_spelled() -> None:
    host = FakeHost(FOLDERS, {"PATH": "/usr/bin::/bin:/nowhere:/usr/bin:/usr/bin/:"}, cwd="/c")
    assert probe(host, target(active=True)).path == ("/usr/bin", ".", "/bin", "/usr/bin/")


def test_a_path_of_ten_thousand_entries_stays_small(tmp_path: Path) -> None:
    path = ":".join(f"{tmp_path}/{number}" for number in range(10_000)) + ":/usr/bin" * 100
    found = probe(RealHost({"PATH": path}), target(active=True))
    assert found.path == ("/usr/bin",)


def test_no_path_at_all_is_the_usual_one() -> None:
    host = FakeHost(FOLDERS)
    host.environ = {}
    assert probe(host, target(active=True)).path == ("/usr/bin", "/bin")
    host.environ = {"PATH": ""}
    assert probe(host, target(active=True)).path == ()


# --- plain lines of shell -----------------------------------------------------------------------------------

PLAIN = {
    "a value": "export CUDA_HOME=/c/cuda",
    "quotes": "export CUDA_HOME=\"/c/cu da\"\nexport CC='/c/$x'\n  export CXX=''",
    "pieces": "export LDFLAGS=\"-L$CONDA_PREFIX/lib\":'$x':/y",
    "a semicolon and a comment": "export CC=gcc;\nexport CXX=g++  # the compiler\n# export CFLAGS=-O0",
    "a hash inside": "export CC=a#b",
    "several at once": "export CC=gcc CXX=g++ MAX_JOBS",
    "later export": "CUDA_HOME=/c\nexport CUDA_HOME",
    "an intermediate variable": "root=/c/cuda-12\nexport CUDA_HOME=$root\nexport CUDA_PATH=${root}/x",
    "the usual idiom": 'export LD_LIBRARY_PATH="$CONDA_PREFIX/lib${LD_LIBRARY_PATH:+:${LD_LIBRARY_PATH}}"',
    "the idiom unquoted": "export LIBRARY_PATH=$CONDA_PREFIX/lib${LIBRARY_PATH:+:$LIBRARY_PATH}",
    "defaults": "export CC=${CC:-gcc}\nexport CXX=${CXX-g++}\nexport CFLAGS=${CFLAGS:+x} CPPFLAGS=${UN+x}",
    "defaults of empty": "EMPTY=\nexport CC=${EMPTY:-gcc}\nexport CXX=${EMPTY-g++}\nexport CFLAGS=${EMPTY+x}",
    "append": "export LIBRARY_PATH=$LIBRARY_PATH:/c/lib:",
    "unset": "unset CC CFLAGS\nexport CXX=x$CC",
    "unset and set": "unset CC\nexport CC=new",
    "an exported variable set plainly": "CC=plain",
    "an unexported one": "CUDNN_HOME=/c",
    "a condition": 'if [ -z "$CUDA_HOME" ]; then\n  export CUDA_HOME=/wrong\nfi\nexport CC=right',
    "a condition on one line": "if true; then export CC=inner; fi\nexport CXX=outer",
    "nested conditions": "if true; then\n if true; then\n  export CC=a\n fi\n export CC=b\nfi\nexport CXX=c",
    "a case": 'case "$CC" in\n a) export CC=1;;\n *) export CC=2;;\nesac\nexport CXX=c',
    "a function": "f() {\n  export CC=never\n  return 0\n}\nexport CXX=c",
    "a loop": "for d in a b; do\n export CC=$d\ndone\nexport CXX=c",
    "and": '[ -n "$CC" ] && export CC=and\nexport CXX=c',
    "a command": "export CC=$(echo gcc)\nexport CXX=`echo g++`\nexport CFLAGS=ok",
    "what a command told": "found=$(echo /x)\nexport CUDA_HOME=$found\nexport CC=ok",
    "what a condition told": "if true; then root=/x; fi\nexport CUDA_HOME=$root\nexport CC=ok",
    "an early end": "export CC=before\nreturn 0\nexport CC=after",
    "an early end under a condition": "export CC=a\nif true; then\n  return\nfi\nexport CC=b",
    "cutting": "export CC=${CUDA_HOME%/*}\nexport CXX=${CUDA_HOME/x/y}\nexport CFLAGS=${#CUDA_HOME}",
    "a home": "export CUDA_HOME=~/cuda\nexport CPATH=/a:~/b",
    "escapes": 'export CC=a\\ b\nexport CXX="a\\"b"\nexport CFLAGS=ok',
    "a prefix to a command": "CC=only true\nexport CXX=c",
    "garbage": "\x00\xff){\n;;;\nexport CC=ok",
    "special parameters": "export CC=$1$?$$\nexport CXX=ok",
}


@pytest.mark.parametrize("text", PLAIN.values(), ids=PLAIN)
def test_what_is_read_is_what_bash_makes_of_it(text: str, tmp_path: Path) -> None:
    if (bash := shutil.which("bash")) is None:
        pytest.skip("no bash on this machine")
    folder = tmp_path / "etc/conda/activate.d"
    folder.mkdir(parents=True)
    (folder / "x.sh").write_text(text, encoding="latin-1")
    environ = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "CUDA_HOME": "/old",
        "CC": "cc",
        "LIBRARY_PATH": "/l",
    }
    found = probe(RealHost(environ), target(str(tmp_path)))
    command = f'export CONDA_PREFIX="{tmp_path}"; . "{folder}/x.sh" 2>/dev/null; env -0'
    done = subprocess.run([bash, "-c", command], env=environ, capture_output=True)
    theirs = dict(line.split("=", 1) for line in os.fsdecode(done.stdout).split("\0") if line)
    ours = {
        name: variable.value for name, variable in found.variables.items() if variable.origin != "environment"
    }
    assert ours.items() <= theirs.items()
    for name in ("CC", "CUDA_HOME", "LIBRARY_PATH"):
        assert name in theirs or name not in found.variables


def test_plain_lines_are_not_missed() -> None:
    expected = {
        "quotes": {"CUDA_HOME": "/c/cu da", "CC": "/c/$x", "CXX": ""},
        "pieces": {"LDFLAGS": "-L/c/lib:$x:/y"},
        "several at once": {"CC": "gcc", "CXX": "g++"},
        "later export": {"CUDA_HOME": "/c"},
        "an intermediate variable": {"CUDA_HOME": "/c/cuda-12", "CUDA_PATH": "/c/cuda-12/x"},
        "the usual idiom": {"LD_LIBRARY_PATH": "/c/lib"},
        "defaults": {"CC": "gcc", "CXX": "g++", "CFLAGS": "", "CPPFLAGS": ""},
        "defaults of empty": {"CC": "gcc", "CXX": "", "CFLAGS": "x"},
        "nested conditions": {"CXX": "c"},
        "a case": {"CXX": "c"},
        "a function": {"CXX": "c"},
        "what a command told": {"CC": "ok"},
        "an early end": {"CC": "before"},
    }
    for name, values in expected.items():
        found = script(PLAIN[name])
        assert {key: v.value for key, v in found.variables.items() if key != "CONDA_PREFIX"} == values, name


def test_a_variable_that_cannot_be_told_stays_as_it_is() -> None:
    found = script("export CUDA_HOME=$(dirname $(which nvcc))\n", CUDA_HOME="/now")
    assert found.variables["CUDA_HOME"].origin == "environment"


def test_a_script_of_a_million_lines_or_characters_takes_no_time() -> None:
    script("export CC=x\n" * 80_000)
    script("export CC=" + "a" * 900_000)
    script('export CC="' + "$A" * 400_000 + "\n" + " " * 900_000)
    script("export CC=" + "${A:-" * 2_000 + "}" * 2_000)
    script("export " + "A " * 4_000 + "!")


# --- exports that this program has put into activation files ------------------------------------------------

SH = "etc/conda/activate.d/cudadoctor.sh"
VENV_SCRIPT = """\
deactivate () {
    unset VIRTUAL_ENV
}
deactivate nondestructive
VIRTUAL_ENV=/v
export VIRTUAL_ENV
"""
OURS = [
    Export("CUDA_HOME", "/c/cuda"),
    Export("CC", ""),
    Export("LIBRARY_PATH", add=("/c/lib",), remove=("/bad",)),
    Export("CUDA_TOOLKIT", "/nobody/reads/it"),
]


def persisted_in(kind: str, prefix: str, script: str = "") -> dict[str, object]:
    """Return the activation files of an environment with our exports in them."""
    before = {f"{prefix}/bin/activate": script.encode()} if script else {}
    return {**before, **files(kind, prefix, OURS, before.get).files}


@pytest.mark.parametrize("kind", ["conda", "pixi", "venv", "virtualenv", "uv"])
def test_exports_in_activation_files_are_applied(kind: str) -> None:
    conda = kind in ("conda", "pixi")
    prefix = "/c" if conda else "/v"
    tree = persisted_in(kind, prefix, "" if conda else VENV_SCRIPT)
    found = seen(tree, kind, CC="gcc", LIBRARY_PATH=":/mine:/bad", CUDA_HOME="/old")
    file = f"/c/{SH}" if conda else "/v/bin/activate"
    assert found.where("CUDA_HOME") == f"CUDA_HOME ({file})"
    assert (found.get("CUDA_HOME"), found.get("LIBRARY_PATH")) == ("/c/cuda", "/mine:/c/lib")
    assert found.get("CC") is None and "CUDA_TOOLKIT" not in found.variables


def test_exports_take_their_place_in_the_order_of_condas_scripts() -> None:
    folder = "/c/etc/conda/activate.d"
    tree = persisted_in("conda", "/c")
    tree |= {f"{folder}/a.sh": "export LIBRARY_PATH=/a\nexport CUDA_HOME=/a\nexport CC=a\n"}
    tree |= {f"{folder}/~z.sh": 'export LIBRARY_PATH="$LIBRARY_PATH:/z${CC:-}${CUDA_TOOLKIT}"\n'}
    found = seen(tree)
    assert found.get("LIBRARY_PATH") == "/a:/c/lib:/z/nobody/reads/it"
    assert found.get("CUDA_HOME") == "/c/cuda"


def test_a_list_that_cannot_be_told_before_cannot_be_told_after() -> None:
    tree = persisted_in("conda", "/c")
    tree |= {
        "/c/etc/conda/activate.d/a.sh": "export LIBRARY_PATH=$(computed)\nexport CUDA_HOME=$(computed)\n"
    }
    found = seen(tree, LIBRARY_PATH="/mine")
    assert (found.get("LIBRARY_PATH"), found.get("CUDA_HOME")) == ("/mine", "/c/cuda")


@pytest.mark.parametrize("kind", ["conda", "venv"])
def test_an_edited_file_of_ours_is_not_believed(kind: str) -> None:
    prefix, script = ("/c", "") if kind == "conda" else ("/v", VENV_SCRIPT)
    tree = persisted_in(kind, prefix, script)
    main = f"/c/{SH}" if kind == "conda" else "/v/bin/activate"
    text = tree[main]
    assert isinstance(text, bytes)
    edited = text.replace(b"/cuda'", b"/other'")
    assert edited != text
    found = seen({**tree, main: edited}, kind)
    assert (found.get("CUDA_HOME"), found.get("LIBRARY_PATH")) == (None, None)


def test_an_active_target_is_judged_without_its_files() -> None:
    found = probe(FakeHost({**FOLDERS, **persisted_in("conda", "/c")}), target(active=True))
    assert found.variables == {}
