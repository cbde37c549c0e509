"""What is a secret is told by its name, and masked where it stands."""

import json

import pytest

from cudadoctor.secrets import SECRET, in_text, in_words, is_secret, named


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN", "HFTOKEN", "HF_TOKEN_WORK", "MYSECRET", "DBPASS", "DB_PASS", "PASSW", "MY_PW",
        "MYSQL_PWD",
        "OPENAI_API_KEY", "OPENAIKEY", "S3_SECRET_ACCESS_KEY", "S3_ACCESS_KEY_ID", "API_KEY_2", "BASIC_AUTH",
        "SLACK_WEBHOOK_URL", "AZURE_STORAGE_CONNECTION_STRING", "--api-key", "--hf-token", "--ray-secret",
        "--ssl-keyfile-password", "--hf-overrides.token", "aws_secret_access_key", "awsSecretAccessKey",
        "clientSecret", "password", "passphrase", "Authorization", "X-Api-Key", "Cookie",
    ],
)  # fmt: skip
def test_a_name_that_says_secret_is_one(name: str) -> None:
    assert named(name)


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer", "--tokenizer-mode", "max_tokens", "--max-num-batched-tokens", "MAX_TOKENS", "bypass",
        "BYPASS", "compass", "COMPASS", "monkey", "MONKEY", "HF_TOKEN_PATH", "TOKENIZERS_PARALLELISM",
        "eos_token", "image_token_id", "forward_pass", "pass_config", "PWD", "OLDPWD", "SSH_AUTH_SOCK",
        "--ssl-keyfile", "--tokens-only", "--return-tokens-as-token-ids", "--skip-tokenizer-init",
        "VLLM_SHARED_EXPERTS_STREAM_TOKEN_THRESHOLD", "author", "keyboard", "", "-", "key_value_heads",
    ],
)  # fmt: skip
def test_a_name_that_only_sounds_like_it_is_none(name: str) -> None:
    assert not named(name)


def test_switches_and_numbers_of_tokens_are_no_secrets() -> None:
    assert not is_secret("USE_TOKEN", "1") and not is_secret("HF_TOKEN", "")
    assert not is_secret("TOKEN", "8192") and is_secret("DB_PASSWORD", "12345678")


@pytest.mark.parametrize(
    ("words", "masked"),
    [
        (["--api-key", "a", "--api-key", "b"], ["--api-key", SECRET, "--api-key", SECRET]),
        (["--api-key", "a", "b", "--port", "1"], ["--api-key", SECRET, SECRET, "--port", "1"]),
        (["--ssl-keyfile-password", "x", "m"], ["--ssl-keyfile-password", SECRET, "m"]),
        (["--hf-overrides.token", "x"], ["--hf-overrides.token", SECRET]),
        (["curl", "-H", "Authorization: Bearer x"], ["curl", "-H", f"Authorization: Bearer {SECRET}"]),
        (["curl", "-H", "X-Api-Key:x"], ["curl", "-H", f"X-Api-Key:{SECRET}"]),
        (["curl", "-u", "ada:x", "h"], ["curl", "-u", f"ada:{SECRET}", "h"]),
        (["ls", "-u", "ada:x"], ["ls", "-u", "ada:x"]),
        (["-eMY_PW=x", "--env=DBPASS=x"], [f"-eMY_PW={SECRET}", f"--env=DBPASS={SECRET}"]),
        (["-v", "secrets:/run/secrets"], ["-v", "secrets:/run/secrets"]),
        (
            ["sh", "-c", "MYSECRET='x y' run --token z1"],
            ["sh", "-c", f"MYSECRET='{SECRET}' run --token {SECRET}"],
        ),
        (["--max-num-batched-tokens", "8192"], ["--max-num-batched-tokens", "8192"]),
        (["--tokenizer", "m", "http://h:80/v1"], ["--tokenizer", "m", "http://h:80/v1"]),
    ],
)  # fmt: skip
def test_the_words_of_a_command_are_masked_in_their_places(words: list[str], masked: list[str]) -> None:
    assert list(in_words(words, set())) == masked
    assert list(in_words(masked, set())) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ('{"token": "x", "max_tokens": 5}', {"token": SECRET, "max_tokens": 5}),
        ('{"a": {"headers": {"Authorization": "Bearer x"}}}', {"a": {"headers": {"Authorization": SECRET}}}),
        ('{"api_keys": ["x", "y"], "eos_token": "</"}', {"api_keys": [SECRET, SECRET], "eos_token": "</"}),
        ('{"args": ["--api-key", "x"]}', {"args": ["--api-key", SECRET]}),
        ('{"password": 12345678, "layers": 12345678}', {"password": SECRET, "layers": 12345678}),
        (json.dumps({"inner": json.dumps({"secret": "x"})}), {"inner": json.dumps({"secret": SECRET})}),
    ],
)  # fmt: skip
def test_json_keeps_its_keys_and_numbers(text: str, masked: object) -> None:
    told = in_text(text, set())
    assert json.loads(told) == masked and in_text(told, set()) == told


@pytest.mark.parametrize("text", ["plain", '{"a": 1}', "{'a'", '{"tokenizer": "x"', "[" * 5000, "--a 'b"])
def test_what_holds_no_secret_stays(text: str) -> None:
    assert in_text(text, set()) == text


def test_json_without_an_end_is_masked_too() -> None:
    assert in_text('{"token": "canary", "a"', set()) == f'{{"token": "{SECRET}", "a"'


def test_a_secret_in_quotes_of_a_shell_is_not_missed() -> None:
    assert "canary" not in in_text(r'export DB_PASSWORD="x\"canary" && run', set())
