"""Streams of pictures: neighbours that pass the networks together."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

MOST_TOGETHER = 16  # pictures that pass the networks at once, whatever their size


def grouped(items: Iterable[T], key: Callable[[T], Any], size: Callable[[T], int]) -> Iterator[list[T]]:
    """Neighbours with the same key, at most ``size`` of them; what came before a failure comes before it."""
    group: list[T] = []
    try:
        for item in items:
            if group and key(item) != key(group[0]):
                yield group
                group = []
            group.append(item)
            if len(group) >= size(item):
                yield group
                group = []
    except Exception:
        if group:
            yield group
        raise
    if group:
        yield group
