"""The bench: rate-distortion, speed, memory and multiply-accumulates, ours and the peers' in one run."""

from importlib.util import find_spec

_MISSING = [name for name in ("matplotlib", "scipy", "skimage") if not find_spec(name)]
if _MISSING:
    raise SystemExit(f'the bench needs {", ".join(_MISSING)}: pip install ".[bench]"')
