#!/bin/sh
# Start a Redis with the user $1 (docs/security.md); the other arguments are the server's own. REDIS_PASSWORD is its
# password. Where REDIS_ADMIN_PASSWORD is set, a user `admin` may do everything: whoever makes a cluster must.
set -eu
umask 077
user=$1
shift
case $user in
  carillon-stream) rules='resetkeys ~carillon:* ~celery-task-meta-* resetchannels &carillon:* &celery-task-meta-* +@all -@admin -@dangerous +info -@scripting' ;;
  carillon-broker) rules='~* &* +@all -@admin -@dangerous +info' ;;
  *) echo "There is no user $user." >&2; exit 1 ;;
esac
{
  echo 'user default off'
  printf 'user %s on >%s %s\n' "$user" "$REDIS_PASSWORD" "$rules"
  if [ -n "${REDIS_ADMIN_PASSWORD:-}" ]; then printf 'user admin on >%s ~* &* +@all\n' "$REDIS_ADMIN_PASSWORD"; fi
} > /tmp/users.acl
exec redis-server --aclfile /tmp/users.acl --maxmemory-policy noeviction "$@"
