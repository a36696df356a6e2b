"""Builds the miniatures of the base models, and measures them: the world they draw, their training, their judge.

A developer's tool beside the product: run from the repository's root, not part of the wheel.
"""

import os

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # its imports warn about packages that are not needed
