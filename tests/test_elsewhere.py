"""Systems without what Unix has: at least, the tests can be found there, each of which says what it needs."""

import subprocess
import sys
from pathlib import Path

import pytest

WINDOWS = """
import multiprocessing.context, os, signal, sys, pytest
for name in ("fchmod", "fork", "geteuid", "mkfifo", "O_DIRECTORY"):
    delattr(os, name)
for name in ("alarm", "SIGALRM", "SIGHUP"):
    delattr(signal, name)
for name in ("fork", "forkserver"):
    del multiprocessing.context._concrete_contexts[name]
multiprocessing.get_all_start_methods = lambda: ["spawn"]
sys.modules["fcntl"] = sys.modules["resource"] = None
sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider"]))
"""


@pytest.mark.slow
def test_the_tests_are_found() -> None:
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", WINDOWS], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
