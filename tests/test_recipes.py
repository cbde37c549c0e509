"""The recipes of docs/: the page shows its files whole, and each is run as far as it can be without a GPU.

The files name /opt/cudadoctor and /opt/vllm. They are run from a copy that names folders of the test's own,
with a `vllm` that says that it was started beside the source that its options are read off.
"""

from __future__ import annotations

import http.server
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cudadoctor.commands.preflight import asked_for
from cudadoctor.facts import Launch
from cudadoctor.host import RealHost
from cudadoctor.probes.launch import read
from cudadoctor.registry import load
from tests.commands.test_fix import conda, library, variables
from tests.commands.test_run import blocked, healthy, vllm
from tests.probes.checkpoints import DEPLOYED, cached, shards
from tests.real.conftest import _do_without

__all__ = ["blocked", "conda", "healthy", "library", "vllm"]
ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/recipes.md"
FILES = {path.name: path for path in sorted((ROOT / "docs/recipes").iterdir())}
SHELL = [name for name, path in FILES.items() if path.read_text().startswith("#!")]
MODEL = "Qwen/Qwen2.5-7B-Instruct-AWQ"
GONE = "--use-v2-block-manager"  #: an option that vLLM once had
STARTED = re.compile(r"vllm is (\d+): (.*)\n")


# --- the page -----------------------------------------------------------------------------------------------


def blocks() -> dict[str, str]:
    """Return what the page shows of each file, by the link above it."""
    found = re.findall(r"^\[(\S+)\]\(recipes/\1\):\n\n```\w+\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    return dict(found)


@pytest.mark.parametrize("name", FILES)
def test_the_page_shows_a_file_whole(name: str) -> None:
    assert blocks().get(name) == FILES[name].read_text(), f"docs/recipes.md does not show docs/recipes/{name}"


def test_the_page_shows_no_file_that_is_not_there() -> None:
    assert set(blocks()) == set(FILES)
    assert PAGE.read_text().count("\n```\n") == len(FILES) + 1, "one block more: how cudadoctor is installed"


def test_every_section_says_how_far_it_was_tried() -> None:
    sections = PAGE.read_text().split("\n## ")[1:]
    assert len(sections) == 7 and all("\n*Tried:* " in section for section in sections)


@pytest.mark.parametrize(
    "text", ["sudo", "LD_LIBRARY_PATH", "|| true", "pip install cudadoctor", "--privileged", "chmod 777"]
)
def test_nothing_is_advised_that_makes_things_worse(text: str) -> None:
    assert [name for name, path in {**FILES, "page": PAGE}.items() if text in path.read_text()] == []


def test_the_image_is_the_same_everywhere() -> None:
    named = {
        image for path in FILES.values() for image in re.findall(r"vllm/vllm-openai\S*", path.read_text())
    }
    assert named == {"vllm/vllm-openai:v0.12.0"}


# --- a machine for them -------------------------------------------------------------------------------------


class Stage:
    """A folder with the recipes in it, and what they start on PATH."""

    def __init__(self, folder: Path, environment: Path) -> None:
        self.folder, self.environment, self.bin = folder, environment, folder / "path"
        self.doctor, self.home = folder / "opt/cudadoctor/bin", folder / "home"
        for path in (self.bin, self.doctor, self.home):
            path.mkdir(parents=True)
        self.program(self.doctor / "cudadoctor", f'exec {sys.executable} -m cudadoctor "$@"')
        self.program(self.doctor / "python", f'exec {sys.executable} "$@"')
        (self.bin / "cudadoctor").symlink_to(self.doctor / "cudadoctor")
        # Which ports other processes hold on this machine is not the recipes' doing.
        (folder / "cudadoctor.toml").write_text('ignore = ["port-in-use"]\n')
        self.environ = {
            "PATH": f"{self.bin}:{environment}/bin:/usr/bin:/bin",
            "HOME": str(self.home),
            "VIRTUAL_ENV": str(environment),
        }

    def program(self, path: Path | str, text: str) -> None:
        """Put a shell program at a path, or on PATH under a name."""
        path = self.bin / path
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def recipe(self, name: str, **instead: str) -> Path:
        """Return a copy of a file in which its paths, and any other words, are those of this machine."""
        text = FILES[name].read_text()
        for here, there in {
            "/opt/vllm": str(self.environment),
            "/opt/cudadoctor/bin": str(self.doctor),
            "PATH=/usr/bin:/bin\n": f"PATH={self.bin}:/usr/bin:/bin\n",
            **instead,
        }.items():
            text = text.replace(here, there)
        path = self.folder / name
        path.write_text(text)
        path.chmod(FILES[name].stat().st_mode)
        return path

    def run(self, *argv: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder, with nothing on stdin."""
        return subprocess.run(
            argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=self.folder,
            env={**self.environ, **more}, timeout=120,
        )  # fmt: skip


@pytest.fixture
def stage(tmp_path: Path, healthy: Path, vllm: str) -> Stage:
    """Return a machine with a small vLLM in an environment that `activate` takes into use."""
    found = Stage(tmp_path / "stage", healthy)
    found.program(Path(vllm), 'echo "vllm is $$: $*"')
    activate = f"VIRTUAL_ENV={healthy}\nexport VIRTUAL_ENV\nPATH=$VIRTUAL_ENV/bin:$PATH\nexport PATH\n"
    (healthy / "bin/activate").write_text(activate)
    return found


def tree(name: str) -> Any:
    """Return a YAML file's content."""
    return yaml.safe_load(FILES[name].read_text())


def setting(path: Path, name: str) -> list[str]:
    """Return the words that a unit file gives a setting, as systemd splits plain words."""
    (value,) = re.findall(rf"^{name}=((?:.*\\\n)*.*)$", path.read_text(), re.M)
    return shlex.split(value.replace("\\\n", " "))


def array(path: Path, name: str) -> list[str]:
    """Return the words of an instruction of a Dockerfile that is written as an array."""
    (value,) = re.findall(rf"^{name} (\[.*\])$", path.read_text(), re.M)
    words: list[str] = json.loads(value)
    return words


def pod() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the init container and the container of the deployment."""
    spec = tree("kubernetes.yaml")["spec"]["template"]["spec"]
    return spec["initContainers"][0], spec["containers"][0]


def argv_of(stage: Stage, name: str) -> list[str]:
    """Return the command that a recipe starts vLLM by."""
    path = stage.recipe(name)
    if name == "vllm.service":
        return setting(path, "ExecStart")
    if name == "Dockerfile":
        return [*array(path, "ENTRYPOINT"), *array(path, "CMD")]
    if name == "kubernetes.yaml":
        return [*pod()[1]["command"], *pod()[1]["args"]]
    return [str(path)]


WAYS = ["launch.sh", "vllm.service", "Dockerfile", "kubernetes.yaml"]


@pytest.mark.parametrize("name", WAYS)
def test_the_process_that_is_started_becomes_vllm(stage: Stage, name: str) -> None:
    process = subprocess.Popen(
        argv_of(stage, name), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=stage.environ, cwd=stage.folder,
    )  # fmt: skip
    out, err = process.communicate(timeout=120)
    told = STARTED.fullmatch(out)
    assert told is not None and process.returncode == 0, err
    assert int(told[1]) == process.pid and told[2].startswith(f"serve {MODEL} --max-model-len")


@pytest.mark.parametrize("name", WAYS)
def test_an_option_that_vllm_does_not_have_ends_it_with_1(stage: Stage, name: str) -> None:
    ran = stage.run(*argv_of(stage, name), GONE)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert f"this vLLM has no option {GONE}" in ran.stderr and "not started" in ran.stderr


@pytest.mark.parametrize("name", SHELL)
def test_a_script_is_one_for_its_shell_and_for_shellcheck(name: str) -> None:
    shell = FILES[name].read_text().partition("\n")[0].removeprefix("#!")
    assert subprocess.run([shell, "-n", FILES[name]], capture_output=True).stderr == b""
    assert os.access(FILES[name], os.X_OK) or name.endswith(".sbatch")
    if shutil.which("shellcheck") is None:
        _do_without("shellcheck is not on PATH")
    found = subprocess.run(["shellcheck", "-e", "SC1091", FILES[name]], capture_output=True, text=True)
    assert found.stdout == "", found.stdout


# --- systemd ------------------------------------------------------------------------------------------------


def test_the_look_before_the_start_lets_pass_and_stops(stage: Stage) -> None:
    argv = setting(stage.recipe("preflight.conf"), "ExecStartPre")
    ran = stage.run(*argv)
    assert (ran.returncode, ran.stderr) == (0, "") and "✗" not in ran.stdout
    ran = stage.run(*argv, GONE)
    assert ran.returncode == 1 and GONE in ran.stdout


def test_both_units_look_at_the_same_launch(stage: Stage) -> None:
    (start, before) = (FILES["vllm.service"], FILES["preflight.conf"])
    launches = [setting(path, name) for path, name in ((start, "ExecStart"), (before, "ExecStartPre"))]
    assert launches[0][launches[0].index("--") :] == launches[1][launches[1].index("--") :]


@pytest.mark.parametrize("with_the_drop_in", [False, True])
def test_systemd_takes_the_unit(stage: Stage, with_the_drop_in: bool) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not on PATH")
    unit = stage.recipe("vllm.service")
    if with_the_drop_in:
        drop_in = stage.folder / "vllm.service.d/preflight.conf"
        drop_in.parent.mkdir()
        stage.recipe("preflight.conf").rename(drop_in)
    found = stage.run(analyze, "verify", str(unit))
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


# --- containers ---------------------------------------------------------------------------------------------


def launch_in(name: str, option: str) -> Launch:
    """Return the launch that our own reader finds in a file."""
    from cudadoctor.cli import build_parser

    options = build_parser().parse_args(["preflight", option, str(FILES[name])])
    return read(RealHost({"HOME": "/home/ada"}), asked_for(options))


@pytest.mark.parametrize(
    ("name", "option", "image"),
    [
        ("Dockerfile", "--dockerfile", "vllm/vllm-openai:v0.12.0"),
        ("compose.yaml", "--compose", "vllm/vllm-openai:v0.12.0"),
        ("launch.sh", "--script", ""),
        ("vllm.sbatch", "--script", ""),
    ],
)
def test_preflight_finds_the_launch_in_the_file(name: str, option: str, image: str) -> None:
    launch = launch_in(name, option)
    assert (launch.kind, launch.model, launch.image) == ("vllm-serve", MODEL, image)
    assert (launch.integer("--max-model-len"), launch.integer("--max-num-seqs")) == (12288, 2)
    assert launch.notes == ()


def test_the_image_s_build_asks_only_what_can_be_told_without_a_gpu(stage: Stage) -> None:
    text = FILES["Dockerfile"].read_text().replace("\\\n", " ")
    (names,) = re.findall(r"^RUN cudadoctor check (.*)$", text, re.M)
    checks = [load().checks[name] for name in names.split()]
    assert not {"driver", "live", "card", "kernels"} & {need for check in checks for need in check.required}
    ran = stage.run("cudadoctor", "check", *names.split())
    assert ran.returncode == 0, ran.stdout
    metadata = stage.environment / "lib/python3.11/site-packages/vllm-0.12.0.dist-info/METADATA"
    metadata.write_text(f"{metadata.read_text()}Requires-Dist: torch==2.9.0\n")
    assert stage.run("cudadoctor", "check", *names.split()).returncode == 1


class _Answer(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(params=[200, 503])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """Return the address of a server and the status of its /health."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not on PATH")
    answer = type("Answer", (_Answer,), {"status": request.param})
    with http.server.HTTPServer(("127.0.0.1", 0), answer) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{found.server_port}", request.param
        found.shutdown()


@pytest.mark.parametrize("code", [None, 0, 1, 2, 3])
def test_a_health_check_says_0_or_1(stage: Stage, server: tuple[str, int], code: int | None) -> None:
    address, status = server
    if code is not None:
        stage.program("cudadoctor", f"echo the reason; exit {code}")
    ran = stage.run(str(stage.recipe("healthcheck.sh", **{"127.0.0.1:8000": address})))
    assert ran.returncode == int(code == 1 or status != 200), ran
    assert ("the reason" in ran.stdout) == (code is not None)


def test_a_server_that_is_not_there_is_not_healthy(stage: Stage, server: tuple[str, int]) -> None:
    ran = stage.run(str(stage.recipe("healthcheck.sh", **{"127.0.0.1:8000": "127.0.0.1:1"})))
    assert ran.returncode == 1


@pytest.fixture
def downloaded(stage: Stage) -> Stage:
    """Return the machine with the model in its cache: weights that are holes, and the real config."""
    cache = stage.home / ".cache/huggingface/hub"
    shards(cached(cache, MODEL, DEPLOYED[MODEL]), [3_990_000_000, 1_600_000_000])
    return stage


DOCKER = 'echo "docker $*"'


@pytest.mark.parametrize(("code", "starts"), [(0, True), (1, False), (2, False), (3, True)])
def test_compose_is_asked_only_for_what_will_start(stage: Stage, code: int, starts: bool) -> None:
    stage.program("docker", DOCKER)
    stage.program("cudadoctor", f"exit {code}")
    ran = stage.run(str(stage.recipe("up.sh")))
    started = "docker compose --file compose.yaml up --detach vllm\n"
    assert (ran.returncode, ran.stdout) == ((0, started) if starts else (code, ""))


def test_compose_is_looked_at_before_it_starts(downloaded: Stage) -> None:
    downloaded.program("docker", DOCKER)
    up = str(downloaded.recipe("up.sh", **{"preflight --compose": "preflight --gpu rtx-3060 --compose"}))
    downloaded.recipe("compose.yaml")
    ran = downloaded.run(up)
    assert ran.returncode == 0 and "RTX 3060" in ran.stdout and ran.stdout.endswith("--detach vllm\n")
    downloaded.recipe("compose.yaml", **{"--max-num-seqs=2": "--gpu-memory-utilization=0.3"})
    ran = downloaded.run(up)
    assert ran.returncode == 1 and "✗ kv-cache-does-not-fit" in ran.stdout
    assert "docker compose" not in ran.stdout


def test_the_init_container_is_the_container_s_twin_and_starts_nothing(stage: Stage) -> None:
    init, container = pod()
    same = ("image", "args", "resources", "volumeMounts")
    assert [init[name] for name in same] == [container[name] for name in same]
    assert init["command"] == ["cudadoctor", "run", "--dry-run", *container["command"][2:]]
    assert init["resources"]["limits"]["nvidia.com/gpu"] == 1
    ran = stage.run(*init["command"], *init["args"])
    assert (ran.returncode, ran.stdout) == (0, "") and "would start: vllm serve" in ran.stderr
    ran = stage.run(*init["command"], *init["args"], GONE)
    assert (ran.returncode, ran.stdout) == (1, "") and GONE in ran.stderr


# --- Slurm --------------------------------------------------------------------------------------------------


def as_slurm(lines: str, environ: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the variables of a task behind its prolog, and what was printed.

    What slurmstepd does with the lines (src/slurmd/slurmstepd/task.c): all behind `=` is the value.
    """
    found, printed = dict(environ), []
    for line in lines.splitlines():
        word, _, rest = line.partition(" ")
        assert word in ("export", "unset", "print"), line
        if word == "export":
            name, _, found_value = rest.partition("=")
            found[name] = found_value
        elif word == "unset":
            found.pop(rest, None)
        else:
            printed.append(rest)
    return found, printed


def test_a_task_gets_the_exports_and_nothing_else(blocked: Path) -> None:
    stage = Stage(blocked.parent / "stage", blocked)
    environ = {**stage.environ, **variables(blocked), "CONDA_PREFIX": str(blocked)}
    del environ["VIRTUAL_ENV"]
    stage.environ = environ
    wanted = json.loads(stage.run("cudadoctor", "env", "--shell", "json").stdout)
    ran = stage.run(str(stage.recipe("task-prolog.sh")))
    assert (ran.returncode, ran.stderr) == (0, "") and wanted
    assert as_slurm(ran.stdout, environ) == ({**environ, **wanted}, [])


ODD = {"A": "it's /a b", "B": None, "C": "two\nexport D=lines", "E": "a=b"}


@pytest.mark.parametrize("closed", ["", " 0<&-", " 0<&- 2>&-"])
def test_a_task_gets_each_value_as_it_is(stage: Stage, closed: str) -> None:
    (stage.folder / "odd.json").write_text(json.dumps(ODD))
    stage.program(stage.doctor / "cudadoctor", f"echo export F=1 >&2; cat {stage.folder}/odd.json")
    prolog = stage.recipe("task-prolog.sh")
    ran = stage.run("sh", "-c", f"exec {prolog}{closed}")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert as_slurm(ran.stdout, {"B": "1"}) == ({"A": "it's /a b", "E": "a=b"}, [])


def test_a_task_is_not_cancelled_where_the_doctor_fails(stage: Stage) -> None:
    stage.program(stage.doctor / "cudadoctor", "exit 2")
    ran = stage.run(str(stage.recipe("task-prolog.sh")))
    assert ran.returncode == 0
    assert as_slurm(ran.stdout, {}) == ({}, ["cudadoctor env: exit code 2, no variables are set"])


@pytest.mark.parametrize("code", [0, 1, 2, 3, 127])
def test_a_node_is_not_drained_whatever_is_found(stage: Stage, code: int) -> None:
    stage.program(stage.doctor / "cudadoctor", f"echo the reason; exit {code}")
    stage.program("logger", f'cat > {stage.folder}/log; echo "$*" >> {stage.folder}/log')
    ran = stage.run(str(stage.recipe("prolog.sh")))
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert (stage.folder / "log").read_text() == "the reason\n-t cudadoctor\n"


def test_the_node_s_checks_are_there_and_are_about_the_driver(stage: Stage) -> None:
    stage.program("logger", f"cat > {stage.folder}/log")
    stage.run(str(stage.recipe("prolog.sh")))
    assert "no check" not in (stage.folder / "log").read_text()


def test_a_batch_job_ends_as_its_step_does(stage: Stage) -> None:
    stage.program("srun", 'exec "$@"')
    job = stage.recipe("vllm.sbatch")
    ran = stage.run("bash", str(job))
    assert ran.returncode == 0 and STARTED.fullmatch(ran.stdout), ran.stderr
    job.write_text(job.read_text().replace("--max-num-seqs 2", f"--max-num-seqs 2 {GONE}"))
    ran = stage.run("bash", str(job))
    assert (ran.returncode, ran.stdout) == (1, "") and GONE in ran.stderr


def test_slurm_reads_the_options_before_the_first_command() -> None:
    lines = FILES["vllm.sbatch"].read_text().splitlines()
    told = [number for number, line in enumerate(lines) if line.startswith("#SBATCH ")]
    assert told == list(range(1, len(told) + 1))


# --- GitHub Actions -----------------------------------------------------------------------------------------


def steps(job: str) -> list[str]:
    """Return the commands of a job in their order, the installation aside."""
    found = tree("github-actions.yml")["jobs"][job]["steps"]
    return [step["run"] for step in found if "run" in step and "pip install" not in step["run"]]


def on_a_runner(stage: Stage, command: str) -> subprocess.CompletedProcess[str]:
    """Run a step as GitHub does where no shell is named; the hub is out of reach."""
    return stage.run(
        "bash", "-e", "-c", command, GITHUB_STEP_SUMMARY=str(stage.folder / "summary.md"),
        HF_ENDPOINT="http://127.0.0.1:1",
    )  # fmt: skip


@pytest.mark.parametrize(("length", "code"), [("12288", 0), ("131072", 1)])
def test_a_pull_request_is_judged_and_told_why(downloaded: Stage, length: str, code: int) -> None:
    compose = downloaded.recipe("compose.yaml", **{"=12288": f"={length}", "${HOME}": str(downloaded.home)})
    if importlib.util.find_spec("huggingface_hub") is None:
        _do_without("huggingface_hub, of the extra `online`, is not installed")
    gate, summary = steps("preflight")
    ran = on_a_runner(downloaded, gate)
    assert (ran.returncode, ran.stdout) == (code, ""), ran.stderr
    report = json.loads((downloaded.folder / "preflight.json").read_text())
    assert report["facts"]["launch"]["source"] == f"{compose.name}, service vllm"
    ran = on_a_runner(downloaded, summary)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    told = (downloaded.folder / "summary.md").read_text()
    assert told.startswith("## cudadoctor: 2 errors" if code else "## cudadoctor: 2 inconclusive"), told


def test_a_machine_s_report_is_kept(stage: Stage) -> None:
    (look,) = steps("check")
    ran = on_a_runner(stage, look.replace("/opt/cudadoctor/bin", str(stage.doctor)).replace(
        "/opt/vllm", str(stage.environment)))  # fmt: skip
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stderr
    assert json.loads((stage.folder / "check.json").read_text())["schema_version"] == 1
