"""The environment that sends a program to the fal proxy: what `tintype run` sets and `tintype env` prints.

Only https is sent to the proxy, and only what is not in the program's own NO_PROXY; plain http stays as it was. Where a
variable of the person's own is replaced, its old value is kept in `_TINTYPE_FAL_PROXY`, so that changing a changed
environment again begins from the original one.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

from tintype.errors import SettingsError
from tintype.fal import DOMAINS, is_fal_host
from tintype.fal_proxy.certificates import ADDING, CertificateAuthority
from tintype.fal_proxy.proxy import UpstreamProxy
from tintype.installation import ServerInfo

HOOK_VARIABLE = "_TINTYPE_FAL_PROXY"  # read by the hooks; not TINTYPE_…, which are settings
PLACEHOLDER_KEY = "any-key-works-here"  # fal's Python client sends nothing without one
_HOOKS = Path(__file__).parent / "hooks"
_CREDENTIALS = ("FAL_KEY", "FAL_KEY_ID", "FAL_KEY_SECRET")


def variables(server: ServerInfo, authority: CertificateAuthority, environment: Mapping[str, str]) -> dict[str, str]:
    """Returns what to set in an environment. Raises SettingsError for a proxy of its own that cannot be chained."""
    own = original_environment(environment)
    upstream = UpstreamProxy.from_environment(own)
    if upstream.proxy and upstream.url.scheme not in ("http", "https"):
        raise SettingsError(
            f"The proxy of this environment, {_without_password(upstream.proxy)}, is neither http nor https.",
            remedy="Unset HTTPS_PROXY and ALL_PROXY for this program, or name an http proxy.",
        )
    proxy = f"http://{upstream.to_username()}:{server.password}@127.0.0.1:{server.proxy_port}"
    roots = str(authority.bundle(own))
    hook = str(_HOOKS / "node" / "fal_proxy.cjs")
    direct = _without_fal(upstream.direct)
    given = {
        "HTTPS_PROXY": proxy, "https_proxy": proxy, "NO_PROXY": direct, "no_proxy": direct,
        "SSL_CERT_FILE": roots, "REQUESTS_CA_BUNDLE": roots, "CURL_CA_BUNDLE": roots,
        ADDING: str(authority.addition(own)),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(_HOOKS / "python"), own.get("PYTHONPATH")))),
        "NODE_OPTIONS": " ".join(filter(None, (own.get("NODE_OPTIONS"), f"--require {json.dumps(hook)}"))),
        # Bun understands quotes only around its first option.
        "BUN_OPTIONS": " ".join(filter(None, (json.dumps(f"--preload={hook}"), own.get("BUN_OPTIONS")))),
    }  # fmt: skip
    if not any(own.get(name) for name in _CREDENTIALS):
        given["FAL_KEY"] = PLACEHOLDER_KEY
    hook_settings = {
        "proxy": f"127.0.0.1:{server.proxy_port}",
        "credentials": f"{upstream.to_username()}:{server.password}",
        "fal": server.fal_socket,
        "authority": str(authority.certificate),
        "domains": DOMAINS,
        "before": {name: own.get(name) for name in given},
    }
    return {**given, HOOK_VARIABLE: json.dumps(hook_settings)}


def original_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment as it was before `variables` were set in it."""
    own = dict(environment)
    hook_settings = own.pop(HOOK_VARIABLE, "")
    for name, value in json.loads(hook_settings)["before"].items() if hook_settings else ():
        own.pop(name, None)
        if value is not None:
            own[name] = value
    return own


def _without_fal(direct: str) -> str:
    """Returns NO_PROXY without what would let a program pass the proxy on its way to fal."""
    names = [name for domain in DOMAINS for name in (domain, f"queue.{domain}", f"v3.{domain}")]

    def names_fal(entry: str) -> bool:
        below = is_fal_host(entry.lstrip("*.").partition(":")[0])
        return below or any(proxy_bypass_environment(name, {"no": entry}) for name in names)

    # Some programs take blanks for commas.
    return ",".join(entry for entry in re.split(r"[,\s]+", direct) if entry and not names_fal(entry))


def _without_password(proxy: str) -> str:
    return proxy.rpartition("@")[2]
