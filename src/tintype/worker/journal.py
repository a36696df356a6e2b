"""What supervisors and the launcher write about themselves: one line an event, on stderr, with the ids that matter.

For people at a terminal it is coloured text, for everything else one JSON object a line.
"""

from __future__ import annotations

import logging
import sys

import structlog


def keep_journal() -> None:
    """Sets structlog up for this process."""
    at_terminal = sys.stderr.isatty()
    renderer = structlog.dev.ConsoleRenderer() if at_terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not at_terminal),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
