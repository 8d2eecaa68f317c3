"""Find the Debian mirrors this machine already uses, so that no mirror's address stands in the repository."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from slipway.errors import SlipwayError

_RELEASES = (
    *("bullseye", "bookworm", "trixie", "forky", "duke", "sid"),
    *("oldoldstable", "oldstable", "stable", "testing", "unstable"),
)
_FORMAT = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)"


@dataclass(frozen=True)
class Mirrors:
    """Base addresses of the two archives, each ending in `/`.

    Attributes:
        main: The archive that holds `SUITE` and `SUITE-updates`.
        security: The archive that holds `SUITE-security`.
    """

    main: str
    security: str

    def base(self, archive: str) -> str:
        """Return the address for `main` or `security`."""
        return self.security if archive == "security" else self.main


def find_mirrors(suite: str) -> Mirrors:
    """Ask apt which Debian mirrors this machine is configured for; those of `suite` come first.

    Raises:
        SlipwayError: apt is missing, or no Debian archive is among its sources.
    """
    try:
        # A machine that has never run `apt-get update` lists nothing unless apt need not look into Release files.
        answer = _index_targets() or _index_targets("--no-release-info")
    except (OSError, subprocess.CalledProcessError) as error:
        raise SlipwayError(
            "apt cannot say which Debian mirror this machine uses",
            seen=str(error),
            rule="building needs Debian 12 or 13 with apt",
            run="apt-get indextargets",
        ) from error
    return select_mirrors(answer, suite)


def _index_targets(*options: str) -> str:
    """Return apt's package indexes, one line each in `_FORMAT`."""
    command = ["apt-get", "indextargets", *options, "--format", _FORMAT, "Created-By: Packages"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def select_mirrors(targets: str, suite: str) -> Mirrors:
    """Choose the archives from `apt-get indextargets` lines `uri|release|component|origin`.

    A mirror that has only one of the two archives configured gets the other by Debian's naming convention
    (`debian` and `debian-security` side by side).

    Raises:
        SlipwayError: none of the lines is a Debian archive.
    """
    found: dict[str, list[tuple[bool, str]]] = {"main": [], "security": []}
    for line in targets.splitlines():
        uri, release, component, origin = line.split("|")
        base = release.replace("/", "-").split("-")[0]
        # apt leaves the placeholder where no Release file has been fetched yet.
        if component != "main" or base not in _RELEASES or origin not in {"Debian", "$(ORIGIN)"}:
            continue
        kind = "security" if release.endswith(("-security", "/updates")) else "main"
        found[kind].append((base != suite, uri.rstrip("/") + "/"))
    if not found["main"] and not found["security"]:
        raise SlipwayError(
            "apt has no Debian archive among its sources",
            seen=targets.strip() or "no package index at all",
            rule="one source with the component main of a Debian release is needed; its mirror then serves all suites",
            edit="/etc/apt/sources.list.d/debian.sources",
            run="apt-get indextargets",
        )
    main = min(found["main"], default=(True, ""))[1]
    security = min(found["security"], default=(True, ""))[1]
    return Mirrors(
        main=main or security.removesuffix("-security/") + "/",
        security=security or main.removesuffix("/") + "-security/",
    )
