"""Texts that are made to keep a reader busy, each in a process of its own: nothing stops `re` in this one."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    "code",
    [
        "requirements(*[f'a{\" \" * 1000}{n})' for n in range(40)])",
        "requirements(*[f'a[{\" \" * 900}x{n}' for n in range(40)])",
        "requirements('a' * 1000 + ')')",
        "requirements(python='>=' + ' ' * 1000 + 'x')",
        "pth('x' + ' ' * 65000 + '\\0')",
        "pth('import x' + ' ' * 65000 + '\\0')",
        "flashinfer('\\n' * 500_000)",
        "flashinfer('ldflags = [\\n' * 80_000)",
        "triton('libraries=[\\n' * 80_000)",
        "flash_attention('torch' + ' ' * 200_000 + 'x')",
        "vllm('VLLM_' + 'SERVICE_PORT' * 20_000 + '-')",
        "model_cache('${' * 100_000)",
        "model_cache('$A' * 65_000, A='x' * 131_000)",
        "loaders('\\t' + ' => ' * 100_000)",
    ],
)
def test_a_text_of_a_megabyte_is_read_in_the_time_of_one_look(code: str) -> None:
    subprocess.run(
        [sys.executable, "-c", f"from tests.hostile import *\n{code}"], check=True, timeout=20, cwd=ROOT
    )
