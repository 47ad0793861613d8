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
