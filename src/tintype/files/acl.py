"""Who may read a file besides the one it belongs to: fal's access list, a default and exceptions from it.

Most files have none: whoever knows the URL may read them. A list is kept and answered as JSON in fal's shape.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

MOST_RULES = 100
_LONGEST_USER = 255


class Decision(StrEnum):
    """What a reader without a signed URL meets."""

    ALLOW = "allow"
    FORBID = "forbid"  # told that the file may not be read
    HIDE = "hide"  # told that there is no such file


@dataclass(frozen=True)
class AccessList:
    """The first rule that names the reader decides, else the default."""

    default: Decision = Decision.ALLOW
    rules: tuple[tuple[str, Decision], ...] = ()

    @classmethod
    def from_json(cls, given: Any) -> AccessList:
        """Reads `{"default": …, "rules": [{"user": …, "decision": …}]}`. Raises ValueError."""
        if not isinstance(given, dict):
            raise ValueError("An access list is an object.")
        rules, default = given.get("rules"), given.get("default")
        rules = [] if rules is None else rules
        if not isinstance(rules, list) or len(rules) > MOST_RULES:
            raise ValueError(f"An access list has at most {MOST_RULES} rules.")
        return cls(
            _decision(Decision.ALLOW if default in (None, "") else default), tuple(_rule(rule) for rule in rules)
        )

    def to_json(self) -> dict[str, Any]:
        """Writes fal's shape, both parts always there."""
        rules = [{"user": user, "decision": decision.value} for user, decision in self.rules]
        return {"default": self.default.value, "rules": rules}

    def decide(self, users: Collection[str]) -> Decision:
        """Decides for a reader who goes by any of the names `users`; nobody in particular goes by none."""
        return next((decision for user, decision in self.rules if user in users), self.default)

    @property
    def is_open(self) -> bool:
        """Tells whether it keeps nobody out."""
        return self.default is Decision.ALLOW and all(decision is Decision.ALLOW for _, decision in self.rules)


def _decision(given: Any) -> Decision:
    try:
        return Decision(given.strip().lower() if isinstance(given, str) else given)
    except ValueError:
        raise ValueError(f"A decision is {', '.join(Decision)}.") from None


def _rule(given: Any) -> tuple[str, Decision]:
    user = given.get("user") if isinstance(given, dict) else None
    if not isinstance(user, str) or not 0 < len(user) <= _LONGEST_USER or not user.isprintable():
        raise ValueError("A rule names a user and a decision.")
    return user, _decision(given.get("decision"))
