# shellcheck shell=bash
# What the scripts of the test machines share: where things are, and the keys of what was built.

VM_HOME=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${SCRAP_VM_CACHE:-/var/cache/scrap-vm}

say() { printf 'vm: %s\n' "$*" >&2; }
# Trouble of the machines themselves; 125 tells it from the exit status of a command inside.
die() {
  say "$*"
  exit 125
}

# A key of a recipe: other words in these files, another key.
key() { cat -- "$@" | sha256sum | cut -c1-16; }

builder_dir() { echo "$CACHE/builder-$(key "$VM_HOME"/stages/{debian.sh,builder})"; }
packages_dir() { echo "$CACHE/packages-$(key "$VM_HOME"/stages/{debian.sh,packages})"; }
image_dir() { echo "$CACHE/image-$(key "$VM_HOME"/stages/* "$VM_HOME"/guest/*)"; }

# Why machines cannot run here; nothing if they can.
obstacle() {
  if [ "$(id -u)" != 0 ]; then
    echo 'not root'
  elif [ "$(uname -m)" != x86_64 ]; then
    echo "the test machines are made for x86_64, this is $(uname -m)"
  elif [ ! -e "$(image_dir)" ] && ! command -v apt-get >/dev/null; then
    echo 'the image is built with apt-get, which is not here'
  fi
}

# chaos VERB ARGUMENT...: scrap-chaos over machines, which are gone afterwards, however it ends. SCRAP_VM_STAGED=1: the programs are there.
chaos() {
  local target=${CARGO_TARGET_DIR:-$VM_HOME/../../target} why status=0 pid
  why=$(obstacle)
  if [ -n "$why" ]; then
    echo "SKIPPED: $1 ($why)"
    exit 0
  fi
  "$VM_HOME/build" >/dev/null
  [ "${SCRAP_VM_STAGED:-0}" = 1 ] || "$VM_HOME/programs" >/dev/null
  "$target/quick/scrap-chaos" "$@" &
  pid=$!
  # shellcheck disable=SC2064 # this process
  trap "kill $pid 2>/dev/null || true; SCRAP_VM_NAME=chaos-$pid '$VM_HOME/run' down" EXIT
  wait "$pid" || status=$?
  return "$status"
}
