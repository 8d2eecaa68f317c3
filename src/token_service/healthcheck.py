"""Container health check: exit 0 when `/readyz` on this host answers 200. Needs nothing but the standard library."""

from __future__ import annotations

import http.client
import os
import sys


def main() -> int:
    """Ask once; return the exit status."""
    port = int(os.environ.get("TOKEN_SERVICE_PORT") or 8000)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        text = answer.read(500).decode(errors="replace")
    except OSError as error:
        sys.stderr.write(f"no answer from port {port}: {error}\n")
        return 1
    finally:
        connection.close()
    sys.stdout.write(f"{answer.status} {text}\n")
    return 0 if answer.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main())
