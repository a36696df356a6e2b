"""What `tintype selftest` does: short checks of training and generating, on this machine's device and weights."""

import tintype.jobs  # noqa: F401 - before torch, whose threads would spin else
