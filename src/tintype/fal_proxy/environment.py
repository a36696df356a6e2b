"""The environment that turns a program: what `tintype run` sets and `tintype env` prints.

Only https is sent to the gate, and only what is not in the program's own NO_PROXY; plain http stays as it was. Where a
variable of the person's own is replaced, its old value is kept in `_TINTYPE_DETOUR`, so that turning a turned
environment again begins from the untouched one.
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
from tintype.fal_proxy.certificates import ADDING, Authority
from tintype.fal_proxy.proxy import UpstreamProxy
from tintype.installation import Signpost

DETOUR_VARIABLE = "_TINTYPE_DETOUR"  # read by the hooks; not TINTYPE_…, which are settings
PLACEHOLDER_KEY = "any-key-works-here"  # fal's Python client sends nothing without one
_HOOKS = Path(__file__).parent / "hooks"
_CREDENTIALS = ("FAL_KEY", "FAL_KEY_ID", "FAL_KEY_SECRET")


def variables(signpost: Signpost, authority: Authority, environment: Mapping[str, str]) -> dict[str, str]:
    """What to set in (or add to) an environment. Raises SettingsError for a proxy of its own that cannot be chained."""
    own = untouched(environment)
    way = UpstreamProxy.of(own)
    if way.proxy and way.url.scheme not in ("http", "https"):
        raise SettingsError(
            f"The proxy of this environment, {_without_password(way.proxy)}, is neither http nor https.",
            remedy="Unset HTTPS_PROXY and ALL_PROXY for this program, or name an http proxy.",
        )
    gate = f"http://{way.to_user()}:{signpost.password}@127.0.0.1:{signpost.gate_port}"
    roots = str(authority.bundle(own))
    hook = str(_HOOKS / "node" / "detour.cjs")
    direct = _not_around_us(way.direct)
    given = {
        "HTTPS_PROXY": gate, "https_proxy": gate, "NO_PROXY": direct, "no_proxy": direct,
        "SSL_CERT_FILE": roots, "REQUESTS_CA_BUNDLE": roots, "CURL_CA_BUNDLE": roots,
        ADDING: str(authority.addition(own)),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(_HOOKS / "python"), own.get("PYTHONPATH")))),
        "NODE_OPTIONS": " ".join(filter(None, (own.get("NODE_OPTIONS"), f"--require {json.dumps(hook)}"))),
        # Bun understands quotes only around its first option.
        "BUN_OPTIONS": " ".join(filter(None, (json.dumps(f"--preload={hook}"), own.get("BUN_OPTIONS")))),
    }  # fmt: skip
    if not any(own.get(name) for name in _CREDENTIALS):
        given["FAL_KEY"] = PLACEHOLDER_KEY
    detour = {
        "gate": f"127.0.0.1:{signpost.gate_port}",
        "credentials": f"{way.to_user()}:{signpost.password}",
        "fal": signpost.fal,
        "authority": str(authority.certificate),
        "domains": DOMAINS,
        "before": {name: own.get(name) for name in given},
    }
    return {**given, DETOUR_VARIABLE: json.dumps(detour)}


def untouched(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment as it was before it was turned."""
    own = dict(environment)
    detour = own.pop(DETOUR_VARIABLE, "")
    for name, value in json.loads(detour)["before"].items() if detour else ():
        own.pop(name, None)
        if value is not None:
            own[name] = value
    return own


def _not_around_us(direct: str) -> str:
    """NO_PROXY without what would let a program pass the gate on its way to fal."""
    names = [name for domain in DOMAINS for name in (domain, f"queue.{domain}", f"v3.{domain}")]

    def leads_around(entry: str) -> bool:
        below = is_fal_host(entry.lstrip("*.").partition(":")[0])
        return below or any(proxy_bypass_environment(name, {"no": entry}) for name in names)

    # Some programs take blanks for commas.
    return ",".join(entry for entry in re.split(r"[,\s]+", direct) if entry and not leads_around(entry))


def _without_password(proxy: str) -> str:
    return proxy.rpartition("@")[2]
