"""Commands as they are typed: whatever is wrapped around them, the same launch is read."""

from __future__ import annotations

import shlex

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cudadoctor.facts.launch import Launch
from cudadoctor.launch import commands, containers, wrappers
from cudadoctor.testing import FakeHost
from tests.launch.read import noted, small, typed, values, variables

SERVE = "vllm serve Qwen/Qwen3-4B --max-model-len 4096 -tp 2"


@pytest.mark.parametrize(
    "line",
    [
        SERVE,
        f"/opt/venv/bin/{SERVE}",
        f"python /opt/venv/bin/{SERVE}",
        "python -m vllm.entrypoints.cli.main serve Qwen/Qwen3-4B --max-model-len 4096 -tp 2",
        "python3.12 -u -X dev -m vllm.entrypoints.cli.main serve Qwen/Qwen3-4B --max-model-len=4096 -tp 2",
        f"nohup {SERVE}",
        f"exec -a name {SERVE}",
        f"time {SERVE}",
        f"time -f %e {SERVE}",
        f"nice -n 10 {SERVE}",
        f"nice --adjustment=10 {SERVE}",
        f"stdbuf -oL -e 0 {SERVE}",
        f"taskset -c 0-7 {SERVE}",
        f"numactl --cpunodebind=0 -m 0 {SERVE}",
        f"timeout -k 5 10m {SERVE}",
        f"env {SERVE}",
        f"env -S '{SERVE}'",
        f"uv run {SERVE}",
        f"uv run --with vllm -p 3.12 --no-sync -- {SERVE}",
        "uv run -m vllm.entrypoints.cli.main serve Qwen/Qwen3-4B --max-model-len 4096 -tp 2",
        f"uvx --from vllm {SERVE}",
        f"uv tool run {SERVE}",
        f"cudadoctor run -- {SERVE}",
        f"/opt/cudadoctor/bin/cudadoctor run --strict --ignore port-in-use -n vllm -- {SERVE}",
        f"python3 -m cudadoctor run --prefix=/opt/vllm --no-env {SERVE}",
        f"srun -n 1 cudadoctor run -- nice {SERVE}",
        f"conda run -n vllm --no-capture-output {SERVE}",
        f"conda run -p /opt/conda/envs/vllm --cwd /srv {SERVE}",
        f"micromamba run -n vllm {SERVE}",
        f"srun -n 1 --gres=gpu:2 {SERVE}",
        f"sudo -E -u ada {SERVE}",
        f"torchrun --nproc-per-node 2 --no-python {SERVE}",
        "torchrun --standalone -m vllm.entrypoints.cli.main serve Qwen/Qwen3-4B --max-model-len 4096 -tp 2",
        f"bash -c '{SERVE}'",
        f"bash -lc 'exec {SERVE} > log 2>&1'",
        f"sh -euc 'cd /srv && {SERVE} &'",
        f"nohup nice conda run -n a env A=b bash -c '{SERVE}'",
        "docker run --rm -it --gpus all vllm/vllm-openai:v0.14.0 Qwen/Qwen3-4B --max-model-len 4096 -tp 2",
        f"docker run --entrypoint '' some/image {SERVE}",
        f"docker -H tcp://x container run -d some/image bash -c '{SERVE}'",
        f"podman run --device nvidia.com/gpu=all --replace nvcr.io/nvidia/vllm:25.09-py3 {SERVE}",
    ],
)
def test_every_wrapper_leads_to_the_same_launch(line: str) -> None:
    launch = typed(line, known=small())
    assert (launch.kind, launch.model) == ("vllm-serve", "Qwen/Qwen3-4B"), launch
    assert values(launch) == {"--max-model-len": "4096", "--tensor-parallel-size": "2"}
    assert (launch.text("--tensor-parallel-size"), launch.options["--tensor-parallel-size"].spelled) == (
        "2",
        "-tp",
    )


def test_the_api_server_takes_its_model_from_an_option_alone() -> None:
    line = "python3 -m vllm.entrypoints.openai.api_server --model Qwen/Qwen3-4B --port 8001"
    launch = typed(line, known=small())
    assert (launch.kind, launch.model, launch.integer("--port")) == ("vllm-api-server", "Qwen/Qwen3-4B", 8001)
    lost = typed("python3 -m vllm.entrypoints.openai.api_server Qwen/Qwen3-4B", known=small())
    assert (lost.model, noted(lost)) == ("", {"model-ignored"})


def test_leading_variables_and_those_of_env_are_the_command_s_own() -> None:
    line = "CUDA_VISIBLE_DEVICES=0,1 env -u HF_TOKEN VLLM_USE_V1=1 A= vllm serve m"
    launch = typed(line, environ={"HF_TOKEN": "x"})
    assert variables(launch) == {"CUDA_VISIBLE_DEVICES": "0,1", "VLLM_USE_V1": "1", "A": ""}
    assert (launch.unset, launch.clean) == (("HF_TOKEN",), False)
    emptied = typed("A=1 env -i B=2 vllm serve m")
    assert (variables(emptied), emptied.clean) == ({"B": "2"}, True)


def test_what_was_passed_through_is_told_outermost_first() -> None:
    launch = typed("nohup conda run -n 'my env' nice vllm serve m")
    assert launch.wrappers == ("nohup", "conda run -n 'my env'", "nice")


def test_the_doctor_s_own_options_are_known_as_its_parser_has_them() -> None:
    from cudadoctor.cli import build_parser

    (commands_of,) = (each.choices for each in build_parser()._actions if isinstance(each.choices, dict))
    options = [each for each in commands_of["run"]._actions if each.option_strings]
    valued = {name for each in options if each.nargs != 0 for name in each.option_strings}
    assert wrappers.WRAPPERS["cudadoctor run"].valued == valued


def test_a_look_before_the_launch_is_not_taken_for_it() -> None:
    text = "/opt/cudadoctor/bin/cudadoctor preflight -q -- vllm serve other && exec vllm serve m"
    assert (typed(f"bash -c '{text}'").model, noted(typed(f"bash -c '{text}'"))) == ("m", set())


def test_a_folder_that_the_command_changes_to_is_where_it_runs() -> None:
    assert typed("env -C /srv vllm serve ./m").folder == "/srv"
    assert typed("conda run --cwd /srv vllm serve m").folder == "/srv"
    assert typed("bash -c 'cd models && vllm serve ./m'").folder == "models"


@pytest.mark.parametrize(
    "line",
    ["ls -l", "vllm bench serve", "vllm", "python train.py --model x", "docker ps", "python -c 'import vllm'",
     "cudadoctor preflight -- vllm serve m", "cudadoctor check", "python -m cudadoctor env", "cudadoctor",
     "env A=b", "nohup", "make serve", "docker run", "python", "bash", "vllm chat"],
)  # fmt: skip
def test_any_other_command_is_left_alone(line: str) -> None:
    launch = typed(line)
    assert (launch.kind, launch.options, launch.model) == ("other", {}, "")


def test_a_container_has_its_own_variables_and_its_own_resources() -> None:
    line = (
        "docker run -d --gpus '\"device=0,1\"' --ipc=host --shm-size 8g -m 32g "
        "-itp 127.0.0.1:8000:8000/tcp -v /models:/m:ro "
        "--mount type=bind,src=/hf,dst=/root/.cache/huggingface --network=host -e HF_TOKEN -e GONE -e A=b=c "
        "--env-file ~/e vllm/vllm-openai:latest Qwen/Qwen3-4B"
    )
    launch = typed(
        line, {"e": '# comment\nQUOTED="kept"\nHOME_TOO\n'}, {"HF_TOKEN": "t", "OTHER": "not inherited"}
    )
    assert variables(launch) == {"QUOTED": '"kept"', "HF_TOKEN": "t", "A": "b=c"}
    assert launch.clean and launch.variables["QUOTED"].origin == "/home/ada/e:2"
    assert noted(launch) == {"variable-absent"}
    container = launch.container
    assert container is not None and launch.image == "vllm/vllm-openai:latest"
    assert (container.gpus, container.ipc, container.shm_size, container.memory) == (
        "device=0,1",
        "host",
        "8g",
        "32g",
    )
    assert [(port.host, port.container) for port in container.ports] == [("8000", "8000")]
    assert [(m.source, m.target, m.read_only) for m in container.mounts] == [
        ("/models", "/m", True),
        ("/hf", "/root/.cache/huggingface", False),
    ]
    assert launch.model == "Qwen/Qwen3-4B"


def test_an_image_s_vllm_is_not_judged_by_the_installed_one() -> None:
    launch = typed("docker run vllm/vllm-openai m --use-v2-block-manager", known=small())
    assert (launch.refused, launch.options_from) == ((), "")


def test_older_images_start_the_api_server() -> None:
    for tag in ("v0.6.6", "v0.8.5.post1", "0.10.2"):
        launch = typed(f"docker run vllm/vllm-openai:{tag} --model m")
        assert (launch.kind, launch.model) == ("vllm-api-server", "m")
    assert typed("docker run registry:5000/mirror/vllm-openai@sha256:00 m").kind == "vllm-serve"


def test_an_unknown_image_s_arguments_are_not_guessed_at() -> None:
    launch = typed("docker run some/image --model m")
    assert (launch.kind, noted(launch)) == ("other", {"not-followed"})


def test_a_script_is_followed_as_far_as_it_can_be_read() -> None:
    files = {
        "run.sh": "#!/usr/bin/env bash\nexport A=1\nvllm serve $1 --port ${PORT:-8000} $2\n",
        "n.sh": "echo",
    }
    launch = typed("bash ~/run.sh m --headless", files)
    assert (launch.model, values(launch)) == ("m", {"--port": "8000", "--headless": "True"})
    assert launch.options["--port"].origin == "/home/ada/run.sh:3"
    assert typed("~/run.sh m", files).kind == "vllm-serve"
    assert "no line of" in typed("bash ~/n.sh", files).notes[0].text
    inside = typed("docker run image bash /srv/run.sh")
    assert (inside.kind, noted(inside)) == ("other", {"not-followed"})


def test_scripts_that_start_each_other_come_to_an_end() -> None:
    launch = typed("bash ~/a.sh", {"a.sh": "bash /home/ada/a.sh\n"})
    assert launch.kind == "other"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("bash ~/gone.sh", "/home/ada/gone.sh: No such file or directory"),
        ("python ~/gone.py", "/home/ada/gone.py: No such file or directory"),
        ("docker run --env-file ~/gone x vllm serve m", "/home/ada/gone: No such file or directory"),
        ("bash -c 'vllm serve \"m'", 'command line: the " is never closed'),
        ("python ~/a.py", "/home/ada/a.py:1: no valid Python: "),
    ],
)
def test_a_command_that_cannot_be_read_is_another_one_with_the_reason(line: str, said: str) -> None:
    launch = typed(line, {"a.py": "x = ="})
    assert (launch.kind, noted(launch)) == ("other", {"unreadable"})
    assert launch.notes[0].text.startswith(said)


def test_a_config_that_cannot_be_read_is_refused() -> None:
    (found,) = typed("vllm serve m --config ~/gone.yaml", known=small()).refused
    assert (found.why, found.expects) == ("config", "/home/ada/gone.yaml: No such file or directory")
    (found,) = typed("vllm serve m --config ~/c.yml", {"c.yml": "a: [\n"}, known=small()).refused
    assert found.expects.startswith("/home/ada/c.yml:2: no valid YAML: ")


def test_a_launch_can_be_kept_and_read_again() -> None:
    line = "docker run -e A=b -v /a:/b:ro -p 1:2 vllm/vllm-openai m --port 1 --use-v2-block-manager"
    served = f"vllm serve {line.partition('openai ')[2]}"
    for launch in (typed(line, known=small()), typed(served, known=small())):
        assert msgspec.json.decode(msgspec.json.encode(launch), type=Launch) == launch


def test_compose_is_followed_to_its_file() -> None:
    services = "services:\n  a: {image: x, command: vllm serve m}\n  b: {image: x, command: vllm serve n}\n"
    files = {"docker-compose.yml": services}
    for line in (
        "docker compose -f ~/docker-compose.yml -p x up -d b",
        "env -C /home/ada docker-compose up b",
    ):
        launch = typed(line, files)
        assert (launch.model, launch.container and launch.container.service) == ("n", "b")
    assert typed("docker compose -f ~/docker-compose.yml up", files).kind == "other"
    assert typed("docker compose down").kind == "other"


def test_uv_s_env_file_leaves_alone_what_is_set() -> None:
    launch = typed(
        "uv run --env-file ~/e vllm serve m", {"e": "A='1 $X'\nB=${A}2\nHOME=/x\n"}, {"HOME": "/home/ada"}
    )
    assert variables(launch) == {"A": "1 $X", "B": "1 $X2"}


WORDS = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"]), max_size=8),
    max_size=5,
)


@given(WORDS)
def test_words_that_were_joined_for_a_shell_are_the_same_words_again(words: list[str]) -> None:
    words = [word for word in words if "\r" not in word]
    host, line = FakeHost(), shlex.join(["vllm", "serve", "m", "--served-model-name", "x", *words])
    launch = commands.read(host, ["bash", "-c", line])
    assert list(launch.argv[5:]) == words


@given(
    st.lists(
        st.sampled_from(["-it", "-d", "--rm", "-e", "A=b", "--gpus", "all", "-p8000:8000", "--", "-", ""])
    )
)
def test_any_options_of_docker_are_gone_through_without_an_error(words: list[str]) -> None:
    commands.read(FakeHost(), ["docker", "run", *words])


def test_docker_s_own_flags_are_known_here() -> None:
    """The real client's help is the judge: what takes no value there is a flag here, and nothing else is."""
    import re
    import shutil
    import subprocess

    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("there is no docker")
    text = subprocess.run([docker, "run", "--help"], capture_output=True, text=True).stdout
    flags = set(re.findall(r"^ +(?:-\w, )?(--[\w-]+)(?: {2,}|$)", text, re.MULTILINE))
    if not flags:
        pytest.skip("this docker has no help for run")
    assert flags <= containers._FLAGS
    valued = set(re.findall(r"^ +(?:-\w, )?(--[\w-]+) \S", text, re.MULTILINE))
    assert not valued & containers._FLAGS


@pytest.mark.parametrize(
    "wrapper",
    ["sudo -E -u vllm", "sudo -Eu vllm A=b", "sudo -D /srv -u vllm --", "doas -u vllm", "gosu vllm",
     "setpriv --reuid=1 --regid 2 --clear-groups", "prlimit --nofile=9:9 -n=5", "flock -n -w 3 /l",
     "pdm run", "hatch run", "rye run", "tini -g -e 143 --", "dumb-init -v"],
)  # fmt: skip
def test_a_wrapper_s_own_words_are_not_taken_for_the_program(wrapper: str) -> None:
    launch = typed(f"{wrapper} {SERVE}")
    assert (launch.kind, launch.model, launch.argv[0]) == ("vllm-serve", "Qwen/Qwen3-4B", "vllm")


def test_flock_s_text_is_a_shell_s() -> None:
    assert typed("flock /l -c 'vllm serve m'").model == "m"


@pytest.mark.parametrize(
    "line",
    [f"su -c '{SERVE}'", f"runuser -u ada -- {SERVE}", f"strace -f {SERVE}", f"mpirun -n 2 {SERVE}",
     "gdb --args python -m vllm.entrypoints.openai.api_server", f"ssh host {SERVE}", f"tmux new '{SERVE}'",
     f"apptainer exec i.sif {SERVE}", f"docker exec c {SERVE}", "docker compose up",
     "python -c 'from vllm import LLM'", f"py-spy record -- {SERVE}"],
)  # fmt: skip
def test_what_may_start_vllm_and_is_not_followed_is_told(line: str) -> None:
    launch = typed(line)
    assert (launch.kind, launch.may_start_vllm) == ("other", True)
    assert noted(launch) & {"not-followed", "unreadable"}


def test_a_command_that_starts_no_vllm_is_none_that_may() -> None:
    for line in (
        "sleep 1",
        "echo vllm serve m",
        "vllm bench serve",
        "make serve",
        "cudadoctor preflight -- vllm serve m",
    ):
        assert not typed(line).may_start_vllm
