#!/usr/bin/env bash
# Every gate: style, types, all tests, and how much of the package the quick ones reach.
set -euo pipefail
cd "$(dirname "$0")/.."
ruff check .
ruff format --check .
mypy
# side by side: either keeps about one core busy
pytest -m slow &
slow=$!
pytest --cov
wait "$slow"
