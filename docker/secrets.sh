#!/bin/sh
# Makes the passwords of the local stack, at random, in docker/secrets, which git ignores. What is
# there stays: the servers' volumes know the old ones. Run it before the first `docker compose up`.
set -eu
umask 077
cd "$(dirname "$0")"
mkdir -p secrets
cd secrets

make() {
    [ -s "$1" ] || printf '%s' "$2" > "$1"
    # Compose mounts the file as it is, and the daemon is not its owner; the folder is closed.
    chmod 0444 "$1"
}

random() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

make source.password "$(random)"
make target.password "$(random)"
make grafana.password "$(random)"
make http.token "$(random)"
make source.dsn "postgresql://postgres:$(cat source.password)@source:5432/credit"
make target.dsn "postgresql://postgres:$(cat target.password)@target:5432/credit"
