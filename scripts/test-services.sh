#!/bin/sh
# Installs the programs that tests drive, where that is possible: Chromium for the page, flite for speech, openssl for
# a certificate, Prometheus (with promtool) for the rules and the dashboard; PostgreSQL, Redis and nginx for what runs on
# several machines. Tests whose program is missing are skipped
# with the reason (with CI=true they fail).
set -eu
missing=""
for program in chromium flite openssl prometheus redis-server nginx; do
    command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
done
# Debian keeps the server's programs beside the path, in a folder per version.
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "not installed:$missing (needs apt-get and root); the tests that need them will be skipped" >&2
    exit 0
fi
echo "installing:$missing"
# Nothing is to be started: the tests start their own, on their own ports.
policy=/usr/sbin/policy-rc.d
made=""
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy" && chmod +x "$policy" && made=1
fi
trap '[ -z "$made" ] || rm -f "$policy"' EXIT
apt-get update -qq || true
# shellcheck disable=SC2086 # a list of names
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
    echo "could not install:$missing; the tests that need them will be skipped" >&2
