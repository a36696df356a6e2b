"""One recipe per endpoint. A recipe reads top to bottom and contains no plumbing."""

import os

# Read when torch loads OpenMP, which is after this. Idle threads sleep instead of spinning: two lanes that share the
# cores of one computer would otherwise slow each other down threefold; alone, a step takes the same time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
