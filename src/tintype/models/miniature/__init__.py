"""The miniature families: base models small enough for a laptop, trained on pictures drawn by code."""

import os

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # its imports warn about packages that are not needed
