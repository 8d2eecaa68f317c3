#!/bin/sh
# What must not change on a host whose engine someone else set up; one fact per line.
sha256sum /etc/docker/daemon.json
stat --format '%a %Y %i' /etc/docker/daemon.json
docker info --format '{{.Driver}} {{.LoggingDriver}} {{.ID}}'
echo "dockerd $(pidof dockerd)"
dpkg-query --show | sha256sum
ls /etc/apt/sources.list.d /etc/apt/preferences.d /etc/default
if [ "$1" != --without-swarm ]; then
  docker info --format '{{.Swarm.LocalNodeState}} {{.Swarm.NodeID}}'
  docker network ls --no-trunc --format '{{.ID}} {{.Name}} {{.Driver}}' | sort
  docker node inspect self --format '{{json .Spec.Labels}}' 2>/dev/null
  ls /var/lib/slipway 2>/dev/null
fi
exit 0
