"""``python -m aecodec``: the command line."""

from .cli import app

app()
