"""`python -m tintype.web`."""

from __future__ import annotations

from tintype.web.server import main

if __name__ == "__main__":
    main()
