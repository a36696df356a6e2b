"""Which tests stay with one worker of pytest-xdist, and in which order groups of them begin."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

# Acceptance tests that start a server of their own; all others use one, whose processes some of them kill and whose
# lanes others fill, so one worker runs them.
OWN_SERVER = ("test_bad_urls", "test_bucket", "test_previous_version", "test_restart", "test_wheel")
# What takes longest begins first, or one core would idle while another ends it.
LONGEST_FIRST = ("acceptance", "crash", "models", "jobs", "training", "inference", "miniature", "worker", "bench")


class ByGroup(LoadScopeScheduling):  # type: ignore[misc]
    """Gives a worker a module's tests, which share fixtures, or all tests that use the one server."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def group_of(nodeid: str) -> str:
    """Returns the group of a test: "server", or its module."""
    module = nodeid.partition("::")[0]
    room, name = module.split("/")[-2:]
    return "server" if room == "acceptance" and name.removesuffix(".py") not in OWN_SERVER else module


def begins_at(nodeid: str) -> int:
    """Returns the place of a test's group in the order in which groups begin."""
    room = nodeid.split("/")[1]
    return LONGEST_FIRST.index(room) if room in LONGEST_FIRST else len(LONGEST_FIRST)
