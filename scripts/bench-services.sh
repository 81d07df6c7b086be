#!/bin/sh
# Sees to the programs `make bench` runs beside CosyGate: Redis and ffprobe (the article's design), nginx, and wrk.
# What is missing is installed by apt where that is allowed; nothing is started, each run starts its own.
set -eu
PATH=$PATH:/usr/sbin:/sbin
packages=""
command -v redis-server >/dev/null || packages="$packages redis-server"
command -v nginx >/dev/null || packages="$packages nginx-light"
command -v wrk >/dev/null || packages="$packages wrk"
command -v ffprobe >/dev/null || packages="$packages ffmpeg"
[ -n "$packages" ] || exit 0

as_root=""
if [ "$(id -u)" != 0 ]; then as_root="sudo -n"; fi
if ! command -v apt-get >/dev/null || ! $as_root true 2>/dev/null; then
  echo "make bench needs:$packages" >&2
  echo "Install them (Debian, Ubuntu: apt-get install$packages) and run it again." >&2
  exit 1
fi
echo "installing:$packages"
# Debian starts services on installation; a policy that says no keeps port 80 and 6379 as they were.
if [ ! -e /usr/sbin/policy-rc.d ]; then
  trap '$as_root rm -f /usr/sbin/policy-rc.d' EXIT
  printf '#!/bin/sh\nexit 101\n' | $as_root tee /usr/sbin/policy-rc.d >/dev/null
  $as_root chmod 755 /usr/sbin/policy-rc.d
fi
$as_root apt-get update -q
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $packages
