"""A private apt root: one Debian suite, seen through the machine's own mirror, without touching the machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from slipway import paths
from slipway.deb.download import download
from slipway.deb.mirrors import Mirrors, find_mirrors
from slipway.deb.model import Deb, parse_file_name
from slipway.errors import SlipwayError

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_INHERITED = re.compile(r"Acquire::(http|https|socks|proxy|ForceIPv[46]|Check-Valid-Until|Check-Date)\b", re.IGNORECASE)
_URI_LINE = re.compile(r"'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) (?P<hash>\S*)")


class Archive:
    """Debian packages of one suite, its updates and its security updates.

    Args:
        suite: Release code name, for example `bookworm`.
        arch: Debian architecture.
        root: Folder for the private apt root; below `.slipway/cache/apt` by default.
        cache: Folder for downloaded packages, `<sha256>/<file>` in it.
        mirrors: The two archives; found from apt's own configuration when first needed by default.
        timeout: Seconds without an answer after which an attempt is given up.
        retries: Further attempts after the first.
        trusted: Options in brackets of each apt source; the host's Debian keyring by default.
    """

    def __init__(  # noqa: PLR0913 - each is a keyword with a default; tests replace mirror, timeouts and keyring
        self,
        suite: str = "bookworm",
        arch: str = "amd64",
        *,
        root: Path | None = None,
        cache: Path | None = None,
        mirrors: Mirrors | None = None,
        timeout: int = 30,
        retries: int = 3,
        trusted: str = f"signed-by={_KEYRING}",
    ) -> None:
        self.suite = suite
        self.arch = arch
        self._root = root or paths.CACHE / "apt" / f"{suite}-{arch}"
        self._cache = cache or paths.CACHE / "debs"
        self._found = mirrors
        self._timeout = timeout
        self._retries = retries
        self._trusted = trusted

    @property
    def mirrors(self) -> Mirrors:
        """The archives in use; asks apt the first time."""
        if self._found is None:
            self._found = find_mirrors(self.suite)
        return self._found

    def update(self) -> None:
        """Fetch the signed package indexes of the suite, its updates and its security updates.

        Raises:
            SlipwayError: the mirror does not answer, or its signature does not verify.
        """
        with self._session() as environment:
            self._apt(["apt-get", "update", "--error-on=any"], environment)

    def resolve(
        self, names: list[str], installed: dict[str, str] | None = None, pins: dict[str, str] | None = None
    ) -> list[Deb]:
        """Return the packages that apt would add for `names`, without recommendations, sorted by name.

        Args:
            names: Package names, `name=version`, or apt patterns such as `?essential`.
            installed: Versions by name that are already there, for example those of a parent image.
            pins: Versions by name to prefer while the archive has them, for example those of the last lock.

        Raises:
            SlipwayError: no package of that name, or apt cannot satisfy its dependencies.
        """
        if not names:
            return []
        with self._session() as environment:
            if not any((self._root / "lists").glob("*_Packages*")):
                self._apt(["apt-get", "update", "--error-on=any"], environment)
            self._write_status(installed or {}, environment)
            self._write_pins(pins or {})
            answer = self._apt(["apt-get", "install", "--yes", "--print-uris", "-qq", *names], environment)
        debs = [self._parse(match) for match in map(_URI_LINE.match, answer.splitlines()) if match]
        return sorted(debs)

    def fetch(self, debs: list[Deb]) -> list[Path]:
        """Return the files of `debs` in the cache, downloading and verifying those that are missing.

        Raises:
            LockDrift: the mirror no longer holds one of the versions and the cache does not either.
            SlipwayError: the mirror does not answer, breaks off, or serves other content than locked.
        """
        targets = {deb: self._cache / deb.sha256 / deb.file for deb in debs}
        missing = [deb for deb, target in targets.items() if not target.is_file()]
        if missing:
            with self._session() as environment:
                download(missing, targets, self.mirrors, environment)
        return [targets[deb] for deb in debs]

    def _parse(self, match: re.Match[str]) -> Deb:
        name, version, arch = parse_file_name(match["file"])
        archive = "security" if match["uri"].startswith(self.mirrors.security) else "main"
        algorithm, _, digest = match["hash"].partition(":")
        if algorithm != "SHA256":
            raise SlipwayError(
                f"the package index of {self.suite} gives no SHA-256 for {name}",
                seen=match["hash"] or "no checksum",
                rule="every locked file needs a SHA-256",
            )
        filename = unquote(match["uri"].removeprefix(self.mirrors.base(archive)))
        return Deb(name, version, arch, archive, filename, digest, int(match["size"]))

    @contextmanager
    def _session(self) -> Iterator[dict[str, str]]:
        """Hold the private root alone and yield the environment that makes apt use it."""
        for folder in ("lists/partial", "archives/partial", "parts"):
            (self._root / folder).mkdir(parents=True, exist_ok=True)
        with (self._root / "lock").open("w") as handle:
            flock(handle, LOCK_EX)
            (self._root / "status").write_text("")
            (self._root / "preferences").write_text("")
            (self._root / "sources.list").write_text(self._sources())
            config = self._root / "apt.conf"
            config.write_text(self._config())
            yield {**os.environ, "APT_CONFIG": str(config), "LC_ALL": "C.UTF-8"}

    def _sources(self) -> str:
        rows = [(self.mirrors.main, self.suite), (self.mirrors.main, f"{self.suite}-updates")]
        rows.append((self.mirrors.security, f"{self.suite}-security"))
        return "".join(f"deb [{self._trusted}] {base} {release} main\n" for base, release in rows)

    def _config(self) -> str:
        """Render apt.conf. Parts and main files of the host are not read; its proxies and proxy logins are kept."""
        host = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
        inherited = [line for line in host.splitlines() if _INHERITED.match(line)]
        own = {
            "APT::Architecture": self.arch,
            "APT::Architectures": self.arch,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "",
            "APT::Get::AllowUnauthenticated": "false",
            "Acquire::Languages": "none",
            "Acquire::ForceHash": "SHA256",
            "Acquire::Retries": str(self._retries),
            "Acquire::http::Timeout": str(self._timeout),
            "Acquire::https::Timeout": str(self._timeout),
            "Acquire::http::ConnectionAttemptDelayMsec": "250",
            "Dir::State": f"{self._root}",
            "Dir::State::lists": f"{self._root}/lists",
            "Dir::State::status": f"{self._root}/status",
            "Dir::Cache": f"{self._root}",
            "Dir::Cache::archives": f"{self._root}/archives",
            "Dir::Etc::SourceList": f"{self._root}/sources.list",
            "Dir::Etc::SourceParts": f"{self._root}/parts",
            "Dir::Etc::Main": "/dev/null",
            "Dir::Etc::Parts": f"{self._root}/parts",
            "Dir::Etc::Preferences": f"{self._root}/preferences",
            "Dir::Etc::PreferencesParts": f"{self._root}/parts",
        }
        return "\n".join([*inherited, *(f'{key} "{value}";' for key, value in own.items())]) + "\n"

    def _write_status(self, installed: dict[str, str], environment: dict[str, str]) -> None:
        """Make apt believe that `installed` is there, using the index's own stanzas for it."""
        if not installed:
            return
        wanted = [f"{name}={version}" for name, version in sorted(installed.items())]
        stanzas = self._apt(["apt-cache", "show", "--no-all-versions", *wanted], environment)
        installed_line = "Status: install ok installed\n"
        rows = [stanza.strip() + "\n" + installed_line for stanza in stanzas.split("\n\n") if stanza.strip()]
        (self._root / "status").write_text("\n".join(rows))

    def _write_pins(self, pins: dict[str, str]) -> None:
        rows = [f"Package: {name}\nPin: version {version}\nPin-Priority: 1001\n" for name, version in pins.items()]
        (self._root / "preferences").write_text("\n".join(rows))

    def _apt(self, command: list[str], environment: dict[str, str]) -> str:
        if shutil.which(command[0]) is None:
            raise SlipwayError(f"{command[0]} is not installed", rule="building needs Debian 12 or 13 with apt")
        with tempfile.TemporaryFile("w+") as errors:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment, check=False
            )
            errors.seek(0)
            said = [line for line in errors.read().splitlines() if line.startswith(("E:", "W:", "Err"))]
        if done.returncode != 0:
            said += [line for line in done.stdout.splitlines() if line.startswith(" ") or "unmet" in line]
            raise SlipwayError(
                f"apt cannot {' '.join(command[1:2])} for the suite {self.suite}",
                seen="; ".join(dict.fromkeys(said))[:2000] or f"exit status {done.returncode}",
                rule=f"the mirrors {self.mirrors.main} and {self.mirrors.security} must answer and provide the package",
                edit="channel.yml or images/hierarchy.yml for a package name, apt's sources for a mirror",
                run="apt-get update",
            )
        return done.stdout
