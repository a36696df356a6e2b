"""`python -m tintype.fal_proxy`: the process that answers on the sockets of the fal proxy. It holds no state."""

from __future__ import annotations

import argparse
import asyncio
import sys

from tintype.fal_proxy.certificates import CertificateAuthority
from tintype.fal_proxy.proxy import Proxy
from tintype.installation import ServerInfo, key_file
from tintype.processes import keep_files_private, watch_parent
from tintype.settings import load_settings


def main() -> None:
    """Answers until it is ended, or the process that started it is gone."""
    parser = argparse.ArgumentParser(prog="python -m tintype.fal_proxy", description=__doc__)
    parser.add_argument("--proxy-fd", type=int, required=True, help="the proxy's socket")
    parser.add_argument("--fal-fd", type=int, required=True, help="the Unix socket that answers in fal's place")
    parser.add_argument("--tls-fd", type=int, help="a socket that answers as this server, behind TLS")
    parser.add_argument("--parent-fd", type=int, required=True, help="an inherited pipe; its end ends this process")
    options = parser.parse_args()
    keep_files_private()
    watch_parent(options.parent_fd)
    data_dir = load_settings().data_dir
    server = ServerInfo.read(data_dir)
    if server is None:
        sys.exit(f"{data_dir} names no server whose requests could be relayed.")
    proxy = Proxy(server, key_file(data_dir), CertificateAuthority.open(data_dir).server_context())
    asyncio.run(proxy.serve(options.proxy_fd, options.fal_fd, options.tls_fd))


if __name__ == "__main__":
    main()
