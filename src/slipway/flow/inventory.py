"""What the operator's own steps need to know of an inventory, without starting Ansible."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from slipway.errors import SlipwayError
from slipway.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence


def require_inventory(name: str) -> None:
    """Raise a `SlipwayError` that lists the inventories when `name` is none of them."""
    known = sorted(path.name for path in (ROOT / "inventories").iterdir() if path.is_dir())
    if name not in known:
        raise SlipwayError(
            "There is no such inventory.",
            seen=name,
            rule=f"one of: {', '.join(known)}",
            edit=f"inventories/{name}/hosts.yml (inventories/example-fleet shows how)",
            run="nox -s deploy -- --inventory NAME",
        )


def lock_drift(inventory: str, arguments: Sequence[str]) -> str:
    """Return `slipway_lock_drift`: from `-e slipway_lock_drift=...`, else from the inventory, else `relock`.

    Raises:
        SlipwayError: it is neither `fail` nor `relock`.
    """
    name = "slipway_lock_drift"
    path = ROOT / "inventories" / inventory / "group_vars" / "all" / "vars.yml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    given = [word.removeprefix(f"{name}=") for word in arguments if word.startswith(f"{name}=")]
    policy = str([settings.get(name, "relock"), *given][-1])
    if policy not in {"fail", "relock"}:
        raise SlipwayError(
            f"{name} has no such policy.",
            seen=policy,
            rule="fail: stop; relock: lock what replaces a vanished package and print the difference",
            edit=str(path.relative_to(ROOT)),
            run="the same command again",
        )
    return policy
