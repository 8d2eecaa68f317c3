"""Ask a registry over HTTP what it holds (OCI distribution specification 1.1)."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from slipway.errors import SlipwayError

if TYPE_CHECKING:
    from http.client import HTTPResponse

_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json"
)
_TIMEOUT = 30


@dataclass(frozen=True)
class Registry:
    """A registry by `HOST:PORT`; plain HTTP on loopback, HTTPS elsewhere, as the engine has it."""

    address: str

    @property
    def url(self) -> str:
        """Base address."""
        local = self.address.startswith(("127.", "localhost:", "[::1]"))
        return f"{'http' if local else 'https'}://{self.address}/v2/"

    def check(self) -> None:
        """Make sure that it answers.

        Raises:
            SlipwayError: it does not.
        """
        self._ask("GET", "").close()

    def digest(self, repository: str, reference: str) -> str | None:
        """Return the digest of a tag or digest; none when the registry does not hold it."""
        try:
            with self._ask("HEAD", f"{repository}/manifests/{reference}") as answer:
                return answer.headers.get("Docker-Content-Digest")
        except _MissingError:
            return None

    def packed_size(self, repository: str, digest: str) -> int:
        """Return the bytes that a node without any layer downloads for an image."""
        with self._ask("GET", f"{repository}/manifests/{digest}") as answer:
            manifest: dict[str, Any] = json.load(answer)
        return sum(int(row["size"]) for row in [manifest["config"], *manifest["layers"]])

    def _ask(self, method: str, path: str) -> HTTPResponse:
        request = urllib.request.Request(self.url + path, method=method, headers={"Accept": _MANIFESTS})  # noqa: S310 - http or https by construction
        # A proxy of the environment must not see requests for this machine.
        proxies = urllib.request.ProxyHandler({}) if self.url.startswith("http://") else urllib.request.ProxyHandler()
        try:
            response: HTTPResponse = urllib.request.build_opener(proxies).open(request, timeout=_TIMEOUT)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == HTTPStatus.NOT_FOUND:
                raise _MissingError(path) from error
            raise self._refused(f"{method} {self.url}{path}: {error.code} {error.reason}") from error
        except OSError as error:
            raise self._refused(f"{self.url}: {getattr(error, 'reason', error)}") from error
        return response

    def _refused(self, seen: str) -> SlipwayError:
        return SlipwayError(
            f"the image registry {self.address} does not answer as a registry",
            seen=seen,
            rule="a registry must run there (slipway_registry_port; container slipway-registry on this machine)",
            edit="inventories/NAME/group_vars/all/vars.yml",
            run="docker logs slipway-registry; nox -s push",
        )


class _MissingError(Exception):
    """The registry does not hold what was asked for."""
