"""Debian binary packages by exact version: a private apt root, closures, verified downloads, unpacking."""

from slipway.deb.archive import Archive
from slipway.deb.mirrors import Mirrors, find_mirrors
from slipway.deb.model import Deb, LockDrift

__all__ = ["Archive", "Deb", "LockDrift", "Mirrors", "find_mirrors"]
