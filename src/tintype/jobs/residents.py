"""What is resident, with its type: contexts are built by halves of the house that must not import the models."""

from __future__ import annotations

from tintype.job import JobContext
from tintype.models.resident import Families


def residents(context: JobContext) -> Families:
    """Gives the context's Families."""
    families = context.families
    assert isinstance(families, Families)
    return families
