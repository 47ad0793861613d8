# shellcheck shell=bash
# What the recipes share: options, the cache, files that are put on top. A recipe calls `cook` with the name of a function
# that writes a tar file with the system's root at its top and owners from 0.

RECIPES=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
PACKAGES='' OVERLAYS=() OUT=''

die() { printf 'error: %s\n' "$1" >&2; [ $# -lt 2 ] || printf '  hint: %s\n' "$2" >&2; exit 1; }

read_options() {
  while [ $# -gt 0 ]; do
    case $1 in
      -h | --help) usage; exit 0 ;;
      --packages | --overlay | --out) [ $# -ge 2 ] || die "$1 needs a value" ;;
      *) die "\`$1\` is no option of $0" "see: $0 --help" ;;
    esac
    case $1 in
      --packages) PACKAGES+=${PACKAGES:+,}$2 ;;
      --overlay) [ -d "$2" ] || die "$2 is no folder"; OVERLAYS+=("$(readlink -f "$2")") ;;
      --out) OUT=$2 ;;
    esac
    shift 2
  done
  [[ $PACKAGES =~ ^[a-z0-9,.+-]*$ ]] || die "\`$PACKAGES\` is no list of packages" "such as --packages postfix,dovecot-imapd"
  CACHE=${SCRAP_TEMPLATE_CACHE:-}
  [ -n "$CACHE" ] || if [ "$(id -u)" -eq 0 ]; then CACHE=/var/cache/scrap/templates
  else CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/scrap/templates; fi
}

# overlay_tar FILE FOLDER...: what lies in the folders, owned by root.
overlay_tar() {
  local file=$1 folder
  shift
  tar -cf "$file" -T /dev/null
  for folder; do
    tar -rf "$file" --owner=0 --group=0 --numeric-owner --sort=name --mtime=@0 -C "$folder" .
  done
}

# What the result depends on: the recipe, what it shares, the packages, the machine, the files on top.
key() {
  {
    uname -m
    printf '%s\n' "$PACKAGES"
    cat "$0" "$RECIPES/common.sh" "$RECIPES/debian-setup"
    cat "$2/system.tar"
    [ "$1" != busybox ] || cat "$(command -v busybox)"
  } | sha256sum | cut -c 1-16
}

# cook NAME FUNCTION: prints the path of the template on stdout, and how large it is and how long it took on stderr.
cook() {
  local name=$1 file began=$EPOCHREALTIME work
  mkdir -p "$CACHE"
  work=$(mktemp -d "$CACHE/.$name.XXXXXX")
  # shellcheck disable=SC2064 # the folder is meant as it is now
  trap "rm -rf '$work'" EXIT
  overlay_tar "$work/system.tar" "$RECIPES/system" "${OVERLAYS[@]}"
  file=$CACHE/$name-$(key "$name" "$work").tar.zst
  if [ ! -e "$file" ]; then
    "$2" "$work"
    zstd -q -3 -T0 "$work/root.tar" -o "$work/done.tar.zst"
    mv "$work/done.tar.zst" "$file"
  fi
  if [ -n "$OUT" ]; then
    cp "$file" "$OUT"
    file=$OUT
  fi
  awk -v began="$began" -v ended="$EPOCHREALTIME" -v bytes="$(stat -c %s "$file")" -v file="$file" \
    'BEGIN { printf "%s: %.1f MiB, %.1f s\n", file, bytes / 1048576, ended - began }' >&2
  printf '%s\n' "$file"
}
