"""Base models: which there are, and each in this process."""

import os

# Read when transformers is imported, which then does not warn about packages that are not needed.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
