"""Imports diffusers, transformers and accelerate without SciPy and boto3, which they import where they find them.

What they want them for is not used here, and it takes a fifth of the time in which a process that computes begins.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["diffusers"]


@contextmanager
def _absent(*packages: str) -> Iterator[None]:
    """Makes packages seem not to be installed."""
    imported = {name: sys.modules.pop(name) for name in packages if name in sys.modules}
    sys.modules.update(dict.fromkeys(packages))  # type: ignore[arg-type]  # None is how Python marks what is not there
    try:
        yield
    finally:
        for name in packages:
            del sys.modules[name]
        sys.modules.update(imported)


with _absent("scipy", "boto3"):  # each looks once, and remembers
    import accelerate  # noqa: F401
    import diffusers
    import transformers

    transformers.utils.is_scipy_available()

# Progress bars and remarks of the libraries would land in a server's log; what matters is checked and said by us.
diffusers.utils.logging.set_verbosity_error()
diffusers.utils.logging.disable_progress_bar()
transformers.utils.logging.disable_progress_bar()
