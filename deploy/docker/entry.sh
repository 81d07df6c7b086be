#!/bin/sh
# Runs `cosygate`, with secrets from files: each file of /run/secrets that is named as a variable of ours (COSYGATE_…,
# AWS_…) becomes that variable, so that no secret stands in a container's configuration.
set -eu
for file in "${SECRETS_DIR:-/run/secrets}"/COSYGATE_* "${SECRETS_DIR:-/run/secrets}"/AWS_*; do
    [ -f "$file" ] || continue
    value=$(cat "$file")  # on a line of its own: a file that cannot be read ends this
    export "${file##*/}=$value"
done
exec cosygate "$@"
