"""`python -m tintype.fal_proxy`: the process that answers on the sockets of a detour. It holds no state."""

from __future__ import annotations

import argparse
import asyncio
import sys

from tintype.fal_proxy.certificates import Authority
from tintype.fal_proxy.proxy import Gate
from tintype.installation import Signpost
from tintype.processes import watch_parent
from tintype.settings import load_settings


def main() -> None:
    """Until it is ended, or the process that started it is gone."""
    parser = argparse.ArgumentParser(prog="python -m tintype.fal_proxy", description=__doc__)
    parser.add_argument("--gate-fd", type=int, required=True, help="the proxy's socket")
    parser.add_argument("--fal-fd", type=int, required=True, help="the Unix socket that answers in fal's place")
    parser.add_argument("--tls-fd", type=int, help="a socket that answers as this server, behind TLS")
    parser.add_argument("--parent-fd", type=int, required=True, help="an inherited pipe; its end ends this process")
    options = parser.parse_args()
    watch_parent(options.parent_fd)
    data_dir = load_settings().data_dir
    signpost = Signpost.read(data_dir)
    if signpost is None:
        sys.exit(f"{data_dir} names no server that could be turned to.")
    gate = Gate(signpost, data_dir / "key", Authority.of(data_dir).server_context())
    asyncio.run(gate.serve(options.gate_fd, options.fal_fd, options.tls_fd))


if __name__ == "__main__":
    main()
