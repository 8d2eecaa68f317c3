# ruff: noqa: INP001 - Ansible finds filters by their path, not as a package
"""Ansible filters: whose keys are whose in the engine's configuration, so that foreign ones are never overwritten."""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]


def without(config: Config, part: Config) -> Config:
    """Return `config` less the leaves that `part` holds with the same value; emptied objects go too."""
    rest: Config = {}
    for key, value in config.items():
        if isinstance(value, dict) and isinstance(part.get(key), dict):
            inner = without(value, part[key])
            if inner or not value:
                rest[key] = inner
        elif key not in part or part[key] != value:
            rest[key] = value
    return rest


def merged(ours: Config, foreign: Config) -> Config:
    """Return both, object by object; where both set a key, the foreign value stays."""
    both = dict(ours)
    for key, value in foreign.items():
        mine = both.get(key)
        both[key] = merged(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return both


def plan(current: Config, written: Config, options: Config) -> Config:
    """Plan daemon.json.

    Args:
        current: What the file holds now.
        written: The leaves that an earlier run added (recorded in engine.json).
        options: The leaves wanted now.

    Returns:
        `foreign` (everything not ours), `desired` (the whole file) and `ours` (the leaves to record).
    """
    foreign = without(current, written)
    wanted = dict(options)
    if foreign.get("log-driver", wanted.get("log-driver")) != wanted.get("log-driver"):
        # Options of one log driver are errors to another: a foreign driver keeps its own.
        wanted.pop("log-opts", None)
    desired = merged(wanted, foreign)
    return {"foreign": foreign, "desired": desired, "ours": without(desired, foreign)}


class FilterModule:
    """The entry point that Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"daemon_json_plan": plan}
