# shellcheck shell=bash
# A pool for each node, on a sparse file: of a zfs-fuse daemon that the node has for itself, or of the kernel's OpenZFS
# where `/dev/zfs` is.

kernel_zfs() { [ -e /dev/zfs ]; }

pool_of() { printf '%s-%s\n' "$NAME" "$1"; }

# The daemon of a node, and its pool: made, or found again after a power cut.
zfs_up() {
  local node=$1 folder=$DIR/nodes/$1 pool
  pool=$(pool_of "$node")
  if ! kernel_zfs; then
    # shellcheck disable=SC2016
    (machine_in "$node" setsid sh -c 'zfs-fuse "$@"; echo "zfs-fuse ended, status $?"' sh \
      --no-daemon --no-kstat-mount --pidfile /run/zfs/pid \
      --max-arc-size "${ARC_MIB:-64}" --fuse-attr-timeout 3600 --fuse-entry-timeout 3600) \
      >>"$folder/zfs.log" 2>&1 </dev/null &
    wait_until 20 "zfs-fuse of $node answers" machine_run "$node" test -S /run/zfs/zfs_socket ||
      die "zfs-fuse of $node did not come up: $(tail -n 3 "$folder/zfs.log")"
  fi
  if [ -e "$folder/pool.img" ]; then
    machine_run "$node" zpool import -f -d "$folder" "$pool" || die "the pool of $node cannot be imported"
    return
  fi
  truncate -s "$SIZE" "$folder/pool.new"
  mv "$folder/pool.new" "$folder/pool.img"
  machine_run "$node" zpool create -f -m none -O atime=off -O compression=on "$pool" "$folder/pool.img" ||
    die "the pool of $node cannot be made"
  # With a daemon it is the daemon's to make.
  [ "$BARE" = yes ] || return 0
  machine_run "$node" zfs create -o "mountpoint=$folder/pool" "$pool/scrap" ||
    die "the dataset $pool/scrap cannot be made"
}

# The kernel's pools outlive the machine: they are let go of, or destroyed. zfs-fuse's end with their daemon.
zfs_down() {
  local pool
  kernel_zfs && command -v zpool >/dev/null || return 0
  pool=$(pool_of "$1")
  ! zpool list -H -o name "$pool" >/dev/null 2>&1 || zpool export -f "$pool"
}

# Destroys every pool of the lab, whoever made it: one with the lab's name in front, on files in the lab's folder. The name
# alone could be that of another lab's, whose own name is longer.
zfs_destroy() {
  local pool
  kernel_zfs && command -v zpool >/dev/null || return 0
  while read -r pool; do
    [[ $pool == "$NAME"-* ]] || continue
    ! LC_ALL=C zpool status -P "$pool" | grep -qF "$DIR/" || zpool destroy -f "$pool"
  done < <(zpool list -H -o name)
}
