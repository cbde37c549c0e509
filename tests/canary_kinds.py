"""Secrets of every kind in their right form, made up from a seed: none of them was ever anybody's."""

from __future__ import annotations

import base64
import json
import string
from collections.abc import Callable, Iterator
from random import Random

from msgspec import Struct

SEED = 8
EACH = 5  #: secrets of each kind
_ALL = string.ascii_letters + string.digits
_URL = f"{_ALL}-_"
_HEX = "0123456789abcdef"


class Canary(Struct, frozen=True):
    """One secret: what must be in no output, and the text in which it usually stands."""

    kind: str
    parts: tuple[str, ...]
    text: str


def _mixed(random: Random, length: int, of: str = _ALL) -> str:
    """Return random characters with small letters, capitals and digits among them, as real keys have."""
    while True:
        word = "".join(random.choices(of, k=length))
        some = (str.islower, str.isupper, str.isdigit) if of not in (_HEX, _CAPITALS) else (str.isdigit,)
        # A key may begin with a dash, but no generator here: it would be an option to a shell.
        if word[0] not in "-_" and all(any(map(test, word)) for test in some):
            return word


_CAPITALS = string.ascii_uppercase + "234567"


def _bare(before: str, length: int, of: str = _ALL) -> Callable[[Random], tuple[str, str]]:
    def make(random: Random) -> tuple[str, str]:
        key = _mixed(random, length, of)
        return key, f"{before}{key}"

    return make


def _around(form: str, length: int, of: str = _ALL) -> Callable[[Random], tuple[str, str]]:
    def make(random: Random) -> tuple[str, str]:
        key = _mixed(random, length, of)
        return key, form.replace("§", key)

    return make


def _base64(form: str, length: int) -> Callable[[Random], tuple[str, str]]:
    def make(random: Random) -> tuple[str, str]:
        key = base64.b64encode(random.randbytes(length)).decode()
        return key, form.replace("§", key)

    return make


def _old_ngc(random: Random) -> tuple[str, str]:
    """Return what NGC gave out before nvapi-: base64 of letters and a UUID, 84 characters."""
    words = "".join(random.choices(string.ascii_lowercase + string.digits, k=26))
    parts = "-".join("".join(random.choices(_HEX, k=length)) for length in (8, 4, 4, 4, 12))
    key = base64.b64encode(f"{words}:{parts}".encode()).decode()
    return key, key


def _jwt(random: Random) -> tuple[str, str]:
    head, body = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({"alg": "HS256", "typ": "JWT"}, {"sub": str(random.randrange(10**9)), "iat": 1516239022})
    )
    sign = _mixed(random, 43, _URL)
    return sign, f"{head}.{body}.{sign}"


def _pem(kind: str, form: str = "TEXT") -> Callable[[Random], tuple[str, str]]:
    def make(random: Random) -> tuple[str, str]:
        body = base64.b64encode(random.randbytes(150)).decode()
        lines = [body[at : at + 64] for at in range(0, len(body), 64)]
        text = "\n".join((f"-----BEGIN {kind}-----", *lines, f"-----END {kind}-----"))
        return "\n".join(lines), form.replace("TEXT", json.dumps(text)[1:-1] if form != "TEXT" else text)

    return make


def _basic(form: str) -> Callable[[Random], tuple[str, str]]:
    def make(random: Random) -> tuple[str, str]:
        key = base64.b64encode(f"ada:{_mixed(random, 20)}".encode()).decode()
        return key, form.replace("§", key)

    return make


KINDS: dict[str, Callable[[Random], tuple[str, str]]] = {
    "Hugging Face": _bare("hf_", 34),
    "Hugging Face, organisation": _bare("api_org_", 34),
    "Hugging Face by name": _around("HF_TOKEN=§", 20),
    "NGC": _bare("nvapi-", 64, _URL),
    "NGC, old": _old_ngc,
    "NGC by name": _around("NVIDIA_NGC_KEY=§", 12),
    "torch by name": _around("TORCH_CREDENTIALS=§", 12),
    "AWS id": _bare("AKIA", 16, _CAPITALS),
    "AWS temporary id": _bare("ASIA", 16, _CAPITALS),
    "AWS secret": _base64("AWS_SECRET_ACCESS_KEY=§", 30),
    "AWS session": _base64("AWS_SESSION_TOKEN=IQoJ§", 300),
    "GitHub": _bare("ghp_", 36),
    "GitHub, app": _bare("ghs_", 36),
    "GitHub, fine-grained": _bare("github_pat_", 82, f"{_ALL}_"),
    "GitLab": _bare("glpat-", 20, _URL),
    "GitLab, deploy": _bare("gldt-", 20, _URL),
    "GitLab, runner": _bare("glrt-", 20, _URL),
    "GitLab, job": _bare("glcbt-64_", 20, _URL),
    "OpenAI": _bare("sk-proj-", 48),
    "Anthropic": _bare("sk-ant-api03-", 95, _URL),
    "OpenRouter": _bare("sk-or-v1-", 64, _HEX),
    "Slack": _around("xoxb-2431234567-§", 24),
    "Slack webhook": _around("https://hooks.slack.com/services/T0123ABCD/B0123ABCD/§", 24),
    "Discord webhook": _around("https://discord.com/api/webhooks/123456789012345678/§", 68, _URL),
    "Teams webhook": _around("https://x.webhook.office.com/webhookb2/0a1b@2c3d/Incoming/§/x", 32, _HEX),
    "Google": _bare("AIza", 35, _URL),
    "Google, OAuth": _bare("ya29.", 120, _URL),
    "Google, service account": _pem("PRIVATE KEY", '{"type": "service_account", "private_key": "TEXT"}'),
    "Azure storage": _base64("EndpointsProtocol=https;AccountName=x;AccountKey=§;EndpointSuffix=y", 64),
    "Azure shared access": _base64("Endpoint=sb://x/;SharedAccessKeyName=all;SharedAccessKey=§", 32),
    "Azure SAS": _around("https://x.blob.core.windows.net/c?sv=2024&sig=§%3D&se=1", 44),
    "npm": _bare("npm_", 36),
    "PyPI": _bare("pypi-AgEIcHlwaS5vcmc", 120, _URL),
    "JWT": _jwt,
    "W&B": _around("WANDB_API_KEY=§", 40, _HEX),
    "W&B login": _around("wandb login §", 40, _HEX),
    "URL password": _around("https://ada:§@pypi.acme.example/simple", 16),
    "URL token": _around("https://§@pypi.acme.example/simple", 12),
    "URL query": _around("https://files.acme.example/x.whl?token=§&page=2", 16),
    "URL signature": _around("https://b.s3.amazonaws.com/x?X-Amz-Signature=§&X-Amz-Date=1", 64, _HEX),
    "conda": _around("https://conda.acme.example/t/ac-§/channel", 24),
    "private key": _pem("RSA PRIVATE KEY"),
    "SSH key": _pem("OPENSSH PRIVATE KEY"),
    "basic header": _basic("Authorization: Basic §"),
    "bearer header": _around("Authorization: Bearer §", 32, _URL),
    "digest header": _around('Authorization: Digest username="ada", realm="r", response="§"', 32, _HEX),
    "key header": _around("X-Api-Key: §", 24),
    "cookie": _around("Cookie: session=§; theme=dark", 32),
    "netrc": _around("machine pypi.acme.example login ada password §", 16),
    "pgpass": _around("db.acme.example:5432:runs:ada:§", 16),
    "postgres": _around("postgresql://ada:§@db.acme.example/runs", 16),
    "redis": _around("redis://:§@cache.acme.example:6379/0", 16),
    "mongodb": _around("mongodb+srv://ada:§@cluster0.acme.example/x", 16),
    "Ray": _around("ray start --redis-password § --head", 16),
    "redis-cli": _around("redis-cli -h cache -a § ping", 16),
    "docker": _basic('{"auths": {"nvcr.io": {"auth": "§"}}}'),
    "curl": _around("curl -u ada:§ https://pypi.acme.example", 16),
    "random": _bare("", 48),
    "random, base64url": _bare("cache-key: ", 64),
}  # fmt: skip


def canaries(seed: int = SEED, each: int = EACH) -> Iterator[Canary]:
    """Yield so many secrets of each kind."""
    random = Random(seed)
    for kind, make in KINDS.items():
        for _ in range(each):
            secret, text = make(random)
            yield Canary(kind, tuple(secret.split("\n")), text)


def leaked(output: str, planted: list[Canary]) -> dict[str, int]:
    """Return how many secrets of each kind an output holds."""
    found: dict[str, int] = {}
    for canary in planted:
        if any(part in output for part in canary.parts):
            found[canary.kind] = found.get(canary.kind, 0) + 1
    return found
