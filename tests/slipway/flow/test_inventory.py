"""Settings of an inventory that the operator's own steps read."""

from __future__ import annotations

import pytest

from slipway.errors import SlipwayError
from slipway.flow.inventory import lock_drift, require_inventory


def test_unknown_inventory_lists_the_known_ones() -> None:
    """The message names what there is."""
    with pytest.raises(SlipwayError, match="no such inventory") as caught:
        require_inventory("nowhere")
    assert "local" in caught.value.rule


@pytest.mark.parametrize(
    ("inventory", "arguments", "expected"),
    [
        ("local", [], "relock"),
        ("example-fleet", [], "fail"),
        ("local", ["-e", "slipway_lock_drift=fail"], "fail"),
    ],
)
def test_drift_policy_comes_from_the_inventory_unless_given(
    inventory: str, arguments: list[str], expected: str
) -> None:
    """A fleet stops at a vanished package, one machine goes on, and the command line decides."""
    assert lock_drift(inventory, arguments) == expected


def test_unknown_policy_is_refused() -> None:
    """The message has the value and both policies."""
    with pytest.raises(SlipwayError) as caught:
        lock_drift("local", ["slipway_lock_drift=ignore"])
    assert caught.value.seen == "ignore"
