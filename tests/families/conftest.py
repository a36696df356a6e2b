"""Loaded before this room's tests import torch: its threads must not spin while other processes want the cores."""

from __future__ import annotations

import tintype.jobs  # noqa: F401
