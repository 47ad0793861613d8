# shellcheck shell=bash
# Debian as the stages see it: the mirrors that this machine uses, and a tree of packages made of them.

SUITE=bookworm

# mirror ENDING: the first mirror of this machine that ends like this, else Debian's own.
mirror() {
  local list found=
  for list in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources; do
    [ -e "$list" ] || continue
    found+=$(sed -n 's/^URIs: *//p; s/^deb \(\[[^]]*\] \)\?\([^ ]*\).*/\2/p' "$list")$'\n'
  done
  grep -m1 "$1/*\$" <<<"$found" || echo "http://deb.debian.org$1"
}

# sources FILE: kernel and OpenZFS are of the backports, everything else is of the release.
sources() {
  local main security
  main=${SCRAP_VM_MIRROR:-$(mirror /debian)}
  security=${SCRAP_VM_SECURITY_MIRROR:-$(mirror /debian-security)}
  cat >"$1" <<LIST
deb $main $SUITE main contrib
deb $main $SUITE-updates main contrib
deb $main $SUITE-backports main contrib
deb $security $SUITE-security main contrib
LIST
}

# tree VARIANT PACKAGES TARGET WORK: without documents, which are a third of a small Debian.
tree() {
  local option
  local -a slim=()
  sources "$4/sources.list"
  cat >"$4/preferences" <<PIN
Package: zfs* libzfs* libzpool* libnvpair* libuutil* linux-image-* linux-headers-* linux-kbuild-* linux-compiler-*
Pin: release n=$SUITE-backports
Pin-Priority: 600
PIN
  for option in man locale doc info; do slim+=(--dpkgopt="path-exclude=/usr/share/$option/*"); done
  mmdebstrap --quiet --mode=root --variant="$1" --include="$2" "${slim[@]}" \
    --setup-hook="mkdir -p \"\$1/etc/apt/preferences.d\" && cp '$4/preferences' \"\$1/etc/apt/preferences.d/scrap-vm\"" \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Retries "3"' \
    "$SUITE" "$3" "$4/sources.list"
}
