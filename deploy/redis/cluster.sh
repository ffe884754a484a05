#!/bin/sh
# Make a cluster of the servers that are named, each with a third of the slots; nothing if it is made. The admin's
# password is in REDISCLI_AUTH.
set -eu
if redis-cli --user admin -h "${1%:*}" -p "${1##*:}" cluster info | grep -q 'cluster_state:ok'; then
  echo 'The cluster is there.'
  exit 0
fi
exec redis-cli --user admin --cluster create "$@" --cluster-replicas 0 --cluster-yes
