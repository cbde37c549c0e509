"""What the hub says of a model, asked of a small server of our own that stands in for it (HF_ENDPOINT)."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import cudadoctor
from cudadoctor.engine import TIMEOUT_S
from cudadoctor.facts import Environ, Machine
from cudadoctor.facts.model import HubAnswer, Model
from cudadoctor.outcomes import Inconclusive
from cudadoctor.probes.credentials import token_for
from cudadoctor.probes.online import TOTAL_S, ask
from cudadoctor.probes.surroundings import Surroundings
from cudadoctor.probes.target import Asked
from cudadoctor.testing import judge
from tests.probes.checkpoints import COMMIT, DEPLOYED, INDEX, PLAIN, Home, launch
from tests.real.conftest import _do_without

NAME = "Qwen/Qwen2.5-32B-Instruct-AWQ"
Reply = tuple[int, dict[str, str], bytes]


@pytest.fixture
def library() -> None:
    if find_spec("huggingface_hub") is None:
        _do_without("huggingface_hub, of the extra `online`, is not installed")


class Hub:
    """A server with files of models; what else a test wants is in `replies`, by the end of the path."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.replies: dict[str, Reply] = {}
        self.asked: list[tuple[str, str]] = []
        self.tokens: set[str] = set()
        self.wait_s = 0.0
        self.trickle_s, self.trickles = 0.0, ""  #: between two bytes, and the end of which paths
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.answer(self, True)

            def do_HEAD(self) -> None:
                hub.answer(self, False)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def has(self, name: str, content: Mapping[str, Any], total: int = 0, single: int = 0) -> None:
        """Serve a model's config, and its index or one file of weights whose body nobody may ask for."""
        self.files[f"/{name}/resolve/main/config.json"] = json.dumps(content).encode()
        if total:
            index = {
                "metadata": {"total_size": total},
                "weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"},
            }
            self.files[f"/{name}/resolve/main/{INDEX}"] = json.dumps(index).encode()
        if single:
            headers = {**self.headers(b""), "Content-Length": str(single)}
            self.replies["/model.safetensors"] = (200, headers, b"")

    @staticmethod
    def headers(body: bytes) -> dict[str, str]:
        return {
            "X-Repo-Commit": COMMIT, "ETag": f'"{abs(hash(body)):040x}"', "Content-Length": str(len(body)),
            "Content-Type": "application/json",
        }  # fmt: skip

    def answer(self, request: BaseHTTPRequestHandler, body: bool) -> None:
        self.asked.append((request.command, request.path))
        self.tokens.add(request.headers.get("Authorization") or "")
        time.sleep(self.wait_s)
        status, headers, content = self.reply(request.path.partition("?")[0])
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        if body:
            slow = self.trickle_s and request.path.partition("?")[0].endswith(self.trickles)
            try:
                for at in range(0, len(content), 1) if slow else ():
                    request.wfile.write(content[at : at + 1])
                    time.sleep(self.trickle_s)
                request.wfile.write(b"" if slow else content)
            except OSError:
                pass  # the other side has had enough

    def reply(self, path: str) -> Reply:
        for end, reply in self.replies.items():
            if path.endswith(end):
                return reply
        if path in self.files:
            return 200, self.headers(self.files[path]), self.files[path]
        known = {each.partition("/resolve/")[0] for each in self.files}
        if path.partition("/resolve/")[0] in known:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT, "Content-Length": "0"}, b""
        return 401, {"X-Error-Message": "Invalid username or password.", "Content-Length": "0"}, b""


@pytest.fixture
def hub(library: None) -> Iterator[Hub]:
    hub = Hub()
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def asked(home: Home, hub: Hub, name: str = NAME, **variables: str) -> Model:
    return home.model(launch(name, {"HF_ENDPOINT": hub.url, **variables}), online=True)


def answer(model: Model) -> HubAnswer:
    assert model.online is not None
    return model.online


def test_config_and_size_come_from_the_hub_and_nothing_is_kept(home: Home, hub: Hub) -> None:
    hub.has(NAME, DEPLOYED[NAME], total=19_309_000_000)
    model = asked(home, hub)
    assert answer(model).ended == "found" and model.commit == COMMIT and model.state == "absent"
    assert model.config == DEPLOYED[NAME] and model.quantization and model.quantization.method == "awq"
    assert model.weights and model.weights.to_come_bytes == model.weights.tensor_bytes == 19_309_000_000
    assert model.weights.files == 2 and model.room
    assert list(home.path.iterdir()) == []
    assert not [path for _, path in hub.asked if path.endswith((".safetensors", ".bin"))]


def test_one_file_of_weights_is_asked_for_its_size_alone(home: Home, hub: Hub) -> None:
    hub.has(NAME, PLAIN, single=5_200_000_000)
    model = asked(home, hub)
    assert (
        model.weights
        and model.weights.tensor_bytes == 5_200_000_000
        and "the size of" in model.weights.source
    )
    assert {method for method, path in hub.asked if path.endswith("/model.safetensors")} == {"HEAD"}


def test_what_is_in_the_cache_is_not_asked_for(home: Home, hub: Hub) -> None:
    from tests.probes.checkpoints import cached

    cached(home.cache, NAME)
    assert asked(home, hub).online is None and hub.asked == []


def test_without_being_told_to_nobody_is_asked(home: Home, hub: Hub) -> None:
    assert home.model(launch(NAME, {"HF_ENDPOINT": hub.url})).online is None and hub.asked == []


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_a_launch_that_may_not_download_asks_nobody(home: Home, hub: Hub, name: str) -> None:
    found = answer(asked(home, hub, **{name: "1"}))
    assert found.ended == "unreachable" and name in found.message and hub.asked == []


def test_a_wrong_name_and_a_private_one_are_refused_alike(home: Home, hub: Hub) -> None:
    found = answer(asked(home, hub, "Qwen/Qwen2.5-32B-AWQ"))
    assert (found.ended, found.status) == ("refused", 401) and "Invalid username" in found.message


def test_with_a_token_a_wrong_name_is_known_to_be_wrong(home: Home, hub: Hub) -> None:
    hub.replies["/config.json"] = (404, {"X-Error-Code": "RepoNotFound", "Content-Length": "0"}, b"")
    found = answer(asked(home, hub, HF_TOKEN="hf_abc"))
    assert (found.ended, found.status) == ("absent", 404) and hub.tokens == {"Bearer hf_abc"}


# --- whose token goes where ---------------------------------------------------------------------------------

OWN, LAUNCHED = "hf_theUsersOwn", "hf_theLaunchsOwn"


def written(home: Home, hub: Hub, text: str, own: Mapping[str, str], stored: bool = True) -> Model:
    """Return the model of a launch that a file says, as `preflight --online` gets it."""
    hub.has(NAME, PLAIN, total=5)
    if stored:
        file = home.path / ".cache/huggingface/token"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{OWN}\n")
    compose = text.startswith("services:")
    path = home.path / ("compose.yml" if compose else "run.sh")
    path.write_text(text)
    home.environ.update(own)
    asked = Asked(compose=str(path), online=True) if compose else Asked(script=str(path), online=True)
    model = home.preflight(asked)
    assert OWN not in repr(model) and LAUNCHED not in repr(model)
    return model


def run_sh(*lines: str) -> str:
    return "\n".join(("#!/bin/sh", *lines, f"vllm serve {NAME}", ""))


def test_the_launch_s_own_token_goes_to_its_own_hub(home: Home, hub: Hub) -> None:
    text = run_sh(f"export HF_ENDPOINT={hub.url}", f"export HF_TOKEN={LAUNCHED}")
    found = answer(written(home, hub, text, {}))
    assert found.ended == "found" and hub.tokens == {f"Bearer {LAUNCHED}"} and not found.withheld


def test_the_launch_s_own_token_goes_to_the_user_s_hub(home: Home, hub: Hub) -> None:
    text = run_sh(f"export HF_TOKEN={LAUNCHED}")
    found = answer(written(home, hub, text, {"HF_ENDPOINT": hub.url}))
    assert found.ended == "found" and hub.tokens == {f"Bearer {LAUNCHED}"}


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize(
    "line",
    ["", "export HF_TOKEN=$HF_TOKEN", "export HF_TOKEN=${MY_OWN}", "export HF_TOKEN=x${MY_OWN}",
     "export HF_TOKEN_PATH=$HOME/.cache/huggingface/token", "export HF_HOME=$HOME/.cache/huggingface"],
)  # fmt: skip
def test_a_file_does_not_decide_where_the_user_s_token_goes(
    home: Home, hub: Hub, line: str, stored: bool
) -> None:
    own = {"MY_OWN": OWN} if stored else {"HF_TOKEN": OWN, "MY_OWN": OWN}
    found = answer(written(home, hub, run_sh(f"export HF_ENDPOINT={hub.url}", line), own, stored))
    assert hub.asked and not any(OWN in each for each in hub.tokens)
    assert "HF_ENDPOINT" in found.withheld and "run.sh" in found.withheld


def test_a_compose_file_does_not_decide_it_either(home: Home, hub: Hub) -> None:
    text = f"""services:
  vllm:
    image: vllm/vllm-openai:v0.12.0
    environment: {{HF_ENDPOINT: "{hub.url}", HF_TOKEN: "${{HF_TOKEN}}"}}
    command: ["--model", "{NAME}"]
"""
    found = answer(written(home, hub, text, {"HF_TOKEN": OWN}))
    assert hub.tokens == {""} and "compose.yml" in found.withheld
    assert (
        written(home, hub, text.replace("${HF_TOKEN}", LAUNCHED), {}) and f"Bearer {LAUNCHED}" in hub.tokens
    )


def test_a_token_of_the_env_file_beside_goes_to_no_hub_of_another_file(home: Home, hub: Hub) -> None:
    (home.path / ".env").write_text(f"MINE={OWN}\n")
    text = f"""services:
  vllm:
    image: vllm/vllm-openai:v0.12.0
    environment: {{HF_ENDPOINT: "{hub.url}", HF_TOKEN: "${{MINE}}"}}
    command: ["--model", "{NAME}"]
"""
    found = answer(written(home, hub, text, {}))
    assert hub.tokens == {""} and ".env" in found.withheld


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "http_proxy", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_file_does_not_put_itself_in_between_either(home: Home, hub: Hub, name: str) -> None:
    own = {"HF_ENDPOINT": hub.url, "HF_TOKEN": OWN, "NO_PROXY": "127.0.0.1"}
    value = "/nowhere.pem" if name.startswith(("REQ", "SSL")) else "http://127.0.0.1:9"
    found = answer(written(home, hub, run_sh(f"export {name}={value}"), own))
    assert name in found.withheld and not any(OWN in each for each in hub.tokens)


def test_the_user_s_token_goes_to_the_user_s_hub(home: Home, hub: Hub) -> None:
    for text in (run_sh(), run_sh("export HF_ENDPOINT=$HF_ENDPOINT HF_TOKEN=$HF_TOKEN")):
        hub.tokens.clear()
        found = answer(written(home, hub, text, {"HF_ENDPOINT": hub.url, "HF_TOKEN": OWN}))
        assert found.ended == "found" and hub.tokens == {f"Bearer {OWN}"} and not found.withheld


def test_a_file_that_a_script_takes_for_a_token_is_sent_nowhere(home: Home, hub: Hub) -> None:
    (home.path / "key").write_text("-----BEGIN KEY-----\nabc\n")
    text = run_sh("export HF_TOKEN_PATH=$HOME/key")
    found = answer(written(home, hub, text, {"HF_ENDPOINT": hub.url}))
    assert hub.tokens == {""} and "looks like a token" in found.withheld


def test_no_token_goes_over_the_net_in_clear(home: Home) -> None:
    machine = Machine("x86_64", "Linux", "", "", 1, 1, 1, None, None, home=str(home.path))
    seen = Surroundings(home.host(), launch(NAME, {"HF_TOKEN": OWN}), Environ({}, ""), machine)
    for address, sent in (
        ("https://huggingface.co", True), ("http://127.0.0.1:80", True), ("http://localhost", True),
        ("http://[::1]:80", True), ("http://mirror.example", False), ("http://127.0.0.1.example", False),
        ("http://127.0.0.1@mirror.example", False), ("ftp://h", False),
    ):  # fmt: skip
        assert bool(token_for(seen, address).value) == sent == (not token_for(seen, address).withheld), (
            address
        )


def test_a_token_that_is_not_known_is_said_so(home: Home, hub: Hub) -> None:
    text = run_sh("export HF_TOKEN=$(cat /nowhere/token)")
    found = answer(written(home, hub, text, {"HF_ENDPOINT": hub.url}))
    assert hub.tokens == {""} and "HF_TOKEN" in found.withheld


def test_what_is_refused_without_the_token_is_no_finding(home: Home, hub: Hub) -> None:
    hub.replies["/config.json"] = (401, {"X-Error-Code": "GatedRepo", "Content-Length": "0"}, b"")
    model = written(home, hub, run_sh(f"export HF_ENDPOINT={hub.url}"), {})
    sections: dict[str, Any] = {"launch": launch(NAME), "model": model, "environ": Environ({}, "")}
    told = judge("hub-token-missing", **sections)
    assert isinstance(told, Inconclusive) and "without a token" in told.reason
    assert not judge("model-not-found", **sections).findings


# --- what is not there --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_model_is_told_as_such(home: Home, hub: Hub, status: int) -> None:
    message = "Access to model x is restricted."
    headers = {"X-Error-Code": "GatedRepo", "X-Error-Message": message, "Content-Length": "0"}
    hub.replies["/config.json"] = (status, headers, b"")
    found = answer(asked(home, hub))
    assert (found.ended, found.status, found.message) == ("gated", status, message)


def test_a_token_that_may_not_is_refused(home: Home, hub: Hub) -> None:
    hub.replies["/config.json"] = (403, {"X-Error-Message": "No.", "Content-Length": "0"}, b"")
    assert answer(asked(home, hub, HF_TOKEN="hf_abc")).ended == "refused"


def test_the_token_of_the_users_file_is_sent_too(home: Home, hub: Hub) -> None:
    hub.has(NAME, PLAIN, total=5)
    file = home.path / ".cache/huggingface/token"
    file.parent.mkdir(parents=True)
    file.write_text("hf_file\n")
    model = asked(home, hub)
    assert (
        answer(model).ended == "found" and hub.tokens == {"Bearer hf_file"} and "hf_file" not in repr(model)
    )


def test_a_revision_or_a_config_that_is_not_there_is_told(home: Home, hub: Hub) -> None:
    hub.replies["/config.json"] = (404, {"X-Error-Code": "RevisionNotFound", "Content-Length": "0"}, b"")
    assert answer(asked(home, hub)).ended == "no-revision"
    hub.replies["/config.json"] = (404, {"X-Error-Code": "EntryNotFound", "Content-Length": "0"}, b"")
    assert answer(asked(home, hub)).ended == "no-config"


def test_a_renamed_model_is_followed(home: Home, hub: Hub) -> None:
    hub.has("Qwen/New", PLAIN, total=7)
    for file in ("config.json", INDEX):
        headers = {"Location": f"/Qwen/New/resolve/main/{file}", "Content-Length": "0"}
        hub.replies[f"{NAME}/resolve/main/{file}"] = (307, headers, b"")
    model = asked(home, hub)
    assert answer(model).ended == "found" and model.weights and model.weights.tensor_bytes == 7


def test_redirects_without_end_are_given_up(home: Home, hub: Hub) -> None:
    where = {"Location": f"/{NAME}/resolve/main/config.json", "Content-Length": "0"}
    hub.replies["/config.json"] = (307, where, b"")
    assert answer(asked(home, hub)).ended in ("broken", "unreachable")


@pytest.mark.parametrize("body", [b"", b"<html>login</html>", b"[]", b"\xff\xfe", b"{" * 50_000])
def test_a_config_that_is_none_is_told(home: Home, hub: Hub, body: bytes) -> None:
    hub.files[f"/{NAME}/resolve/main/config.json"] = body
    model = asked(home, hub)
    assert answer(model).ended == "broken" and model.config is None and answer(model).message


def test_a_config_of_twenty_megabytes_is_told(home: Home, hub: Hub) -> None:
    hub.files[f"/{NAME}/resolve/main/config.json"] = b'{"a": "' + b"x" * (20 << 20) + b'"}'
    assert "larger than 8 MiB" in answer(asked(home, hub)).message


def test_a_password_in_the_address_is_not_told(home: Home, hub: Hub) -> None:
    address = hub.url.replace("//", "//ada:secret@")
    for name in (NAME, "Qwen/Nowhere"):
        hub.has(NAME, PLAIN, total=5)
        model = home.model(launch(name, {"HF_ENDPOINT": address}), online=True)
        assert "secret" not in repr(model) and answer(model).endpoint == hub.url


def test_something_that_is_no_hub_is_told(home: Home, hub: Hub) -> None:
    hub.replies["/config.json"] = (200, {"Content-Length": "5"}, b"hello")
    assert answer(asked(home, hub)).ended == "broken"


def test_an_index_that_is_none_leaves_the_config(home: Home, hub: Hub) -> None:
    hub.has(NAME, PLAIN)
    hub.files[f"/{NAME}/resolve/main/{INDEX}"] = b"garbage"
    model = asked(home, hub)
    assert model.config == PLAIN and model.weights is None


def test_an_index_that_grows_without_end_is_cut_off(home: Home, hub: Hub) -> None:
    hub.has(NAME, PLAIN)
    hub.files[f"/{NAME}/resolve/main/{INDEX}"] = b" " * (80 << 20)
    model = asked(home, hub)
    assert model.config == PLAIN and model.weights is None


def test_a_server_that_takes_its_time_is_not_waited_for(home: Home, hub: Hub) -> None:
    hub.has(NAME, PLAIN)
    hub.wait_s = 30
    began = time.monotonic()
    variables = {"HF_ENDPOINT": hub.url}
    machine = Machine("x86_64", "Linux", "", "", 1, 1, 1, None, None, home=str(home.path))
    seen = Surroundings(home.host(), launch(NAME, variables), Environ({}, ""), machine)
    found = ask(seen, NAME, "main", timeout_s=3).asked
    assert found.ended == "unreachable" and time.monotonic() - began < 8


def test_an_answer_that_trickles_is_not_waited_for(home: Home, hub: Hub) -> None:
    hub.has(NAME, PLAIN, total=5)
    hub.trickle_s = 0.2
    began = time.monotonic()
    machine = Machine("x86_64", "Linux", "", "", 1, 1, 1, None, None, home=str(home.path))
    seen = Surroundings(home.host(), launch(NAME, {"HF_ENDPOINT": hub.url}), Environ({}, ""), machine)
    answered = ask(seen, NAME, "main", timeout_s=4)
    assert answered.asked.ended == "unreachable" and "no whole answer within" in answered.asked.message
    assert hub.asked and time.monotonic() - began < 5


def test_what_came_before_the_time_was_over_is_kept(home: Home, hub: Hub) -> None:
    hub.has(NAME, PLAIN, total=5)
    hub.trickle_s, hub.trickles = 0.2, INDEX
    machine = Machine("x86_64", "Linux", "", "", 1, 1, 1, None, None, home=str(home.path))
    seen = Surroundings(home.host(), launch(NAME, {"HF_ENDPOINT": hub.url}), Environ({}, ""), machine)
    answered = ask(seen, NAME, "main", timeout_s=5)
    assert answered.asked.ended == "found" and answered.config == PLAIN and answered.weights is None
    assert "no whole answer within" in answered.asked.message


def test_the_hub_has_less_time_than_a_section() -> None:
    assert TOTAL_S <= TIMEOUT_S - 6


def test_where_nobody_listens_nothing_is_reached(home: Home, hub: Hub) -> None:
    hub.server.shutdown()
    hub.server.server_close()
    found = answer(asked(home, hub))
    assert found.ended == "unreachable" and found.endpoint == hub.url


def test_quantisation_may_be_stated_in_a_file_of_its_own(home: Home, hub: Hub) -> None:
    hub.has(NAME, PLAIN, total=5)
    beside = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}
    hub.files[f"/{NAME}/resolve/main/hf_quant_config.json"] = json.dumps(beside).encode()
    found = asked(home, hub).quantization
    assert found and found.method == "modelopt"


def test_without_huggingface_hub_it_says_so() -> None:
    order = {"path": [], "limit_bytes": 1 << 20}
    script = Path(cudadoctor.__file__).parent / "child/hub.py"
    ran = subprocess.run([sys.executable, "-I", script, json.dumps(order)], capture_output=True, check=True)
    assert json.loads(ran.stdout)["ended"] == "not-installed"


@pytest.mark.parametrize(
    ("code", "token", "ended"),
    [("GatedRepo", "", "hub-token-missing"), ("GatedRepo", "hf_abc", "hub-token-missing"),
     ("", "", "hub-token-missing"), ("RepoNotFound", "hf_abc", "model-not-found")],
)  # fmt: skip
def test_what_the_hub_refuses_is_one_finding(home: Home, hub: Hub, code: str, token: str, ended: str) -> None:
    status = 404 if code == "RepoNotFound" else 401
    hub.replies["/config.json"] = (status, {"X-Error-Code": code, "Content-Length": "0"}, b"")
    given = launch(NAME, {"HF_ENDPOINT": hub.url, "HF_TOKEN": token})
    sections: dict[str, Any] = {
        "launch": given,
        "model": home.model(given, online=True),
        "environ": Environ({}, ""),
    }
    names = ("hub-token-missing", "model-not-found")
    found = {name: judge(name, **sections).findings for name in names}
    (finding,) = found.pop(ended)
    assert list(found.values()) == [()] and "hf_abc" not in repr(finding)
