"""Status answers kept for the next poll: fal's Python client asks ten times a second, mostly for what it knows."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

MOST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Answer:
    """A body that holds as long as the request has this version, and no longer than `until` (monotonic)."""

    version: int
    until: float
    code: int
    body: bytes


class Remembered:
    """Least recently used answers, within MOST_BYTES."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._answers: OrderedDict[tuple[str, ...], Answer] = OrderedDict()
        self._bytes = 0
        self._most_bytes = most_bytes

    def get(self, key: tuple[str, ...], version: int, now: float) -> Answer | None:
        """The answer, if it still holds."""
        answer = self._answers.get(key)
        if answer is None or answer.version != version or answer.until < now:
            return None
        self._answers.move_to_end(key)
        return answer

    def put(self, key: tuple[str, ...], answer: Answer) -> None:
        earlier = self._answers.pop(key, None)
        self._bytes += len(answer.body) - (len(earlier.body) if earlier else 0)
        self._answers[key] = answer
        while self._bytes > self._most_bytes:
            _, oldest = self._answers.popitem(last=False)
            self._bytes -= len(oldest.body)
