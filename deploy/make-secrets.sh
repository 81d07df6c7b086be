#!/bin/sh
# Makes the secrets that compose.yaml takes, a file each in deploy/secrets/ (not in git). What is there stays, so it may
# be run again. To keep them elsewhere: make-secrets.sh FOLDER, and SECRETS=FOLDER for docker compose.
set -eu
folder=${1:-$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)/secrets}
mkdir -p "$folder"
chmod 700 "$folder"  # nobody else gets to the files; in the containers they are read by users of other numbers
random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
put() {
    if [ ! -s "$folder/$1" ]; then
        printf '%s' "$2" > "$folder/.$1"
        chmod 444 "$folder/.$1"
        mv "$folder/.$1" "$folder/$1"
    fi
}
put POSTGRES_PASSWORD "$(random)"
put REDIS_PASSWORD "$(random)"
put AWS_ACCESS_KEY_ID cosygate
put AWS_SECRET_ACCESS_KEY "$(random)"
put COSYGATE_JWT_SECRET "$(random)"
put COSYGATE_DATABASE_URL "postgresql://cosygate:$(cat "$folder/POSTGRES_PASSWORD")@postgres/cosygate"
put COSYGATE_REDIS_URL "redis://:$(cat "$folder/REDIS_PASSWORD")@redis:6379/0"
put COSYGATE_BROKER_URL "redis://:$(cat "$folder/REDIS_PASSWORD")@redis:6379/1"
