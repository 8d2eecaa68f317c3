"""What every image keeps from `runtime`: the user, PID 1 and the exit."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from slipway.image.build import local_tag

if TYPE_CHECKING:
    from slipway.image.engine import Engine
    from tests.images.conftest import Container


def test_runs_as_user_1000(container: Container) -> None:
    """The default user is `slipway`, uid and gid 1000."""
    assert container.exec("id").stdout.strip() == "uid=1000(slipway) gid=1000(slipway) groups=1000(slipway)"


def test_writes_to_tmp_alone(container: Container) -> None:
    """The file system is read-only except /tmp."""
    assert container.exec("sh", "-c", "echo x >/tmp/x").returncode == 0
    assert container.exec("sh", "-c", "echo x >/opt/x || echo x >/etc/x || echo x >/var/x").returncode != 0


def test_has_tini_as_pid_1(container: Container) -> None:
    """PID 1 forwards signals and reaps children."""
    assert container.exec("cat", "/proc/1/comm").stdout.strip() == "tini"


def test_passes_exit_codes_on(engine: Engine, image: str) -> None:
    """A container ends with its program's exit status."""
    assert engine.run("run", "--rm", "--network=none", local_tag(image), "sh", "-c", "exit 42").returncode == 42


def test_forwards_sigterm(engine: Engine, image: str) -> None:
    """SIGTERM reaches the program itself, so that it can drain."""
    script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done"
    name = engine.run("run", "--detach", "--network=none", local_tag(image), "sh", "-c", script).stdout.strip()
    try:
        with subprocess.Popen([engine.client, "logs", "--follow", name], stdout=subprocess.PIPE, text=True) as logs:
            assert logs.stdout is not None
            assert logs.stdout.readline() == "ready\n"
            engine.run("stop", "--time", "10", name)
        assert engine.run("inspect", "--format", "{{.State.ExitCode}}", name).stdout.strip() == "7"
    finally:
        engine.run("rm", "--force", name)


def test_trusts_certificate_authorities(container: Container) -> None:
    """TLS to the outside verifies against Debian's authorities."""
    assert int(container.exec("grep", "-c", "BEGIN CERTIFICATE", "/etc/ssl/certs/ca-certificates.crt").stdout) > 100
