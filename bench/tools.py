"""Programs of others that are run on files, where they are installed."""

import hashlib
import shutil
import subprocess
from pathlib import Path


def version(name: str) -> str | None:
    """What identifies a program: its content, since not all of them tell their version. None if not installed."""
    path = shutil.which(name)
    return f"{name}, SHA-256 {hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]}" if path else None


def run(name: str, *arguments: str) -> str:
    """What a program prints. Raises OSError where it fails."""
    done = subprocess.run([name, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{name} ended with {done.returncode}: {done.stderr.strip()[-200:]}")
    return done.stdout
