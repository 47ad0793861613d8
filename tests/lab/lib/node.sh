# shellcheck shell=bash
# Nodes: a machine, a pool, a configuration, a daemon.

servers() {
  local node list=''
  for node in "${NODES[@]}"; do list+=,$LAN4.$(number_of "$node"):7272; done
  printf '%s\n' "${list#,}"
}

# as_node NODE CMD...: replaces this shell by CMD inside a node, with the lab's programs and its node's configuration.
as_node() {
  local node=$1
  shift
  machine_in "$node" env -C "$DIR/nodes/$node" "PATH=$DIR/nodes/$node/bin:$BIN_DIR:$PATH" HOME=/root \
    "SCRAPD_CONFIG=$DIR/nodes/$node/scrapd.toml" "SCRAP_SERVER=$(servers)" "$@"
}

node_config() {
  local node=$1 number run=$DIR/nodes/$1/run
  number=$(number_of "$node")
  [ "${#run}" -le 70 ] || die "the folder $DIR is too long: $run has more than 70 bytes" "choose a shorter --dir"
  cat <<TOML
data_dir = "$DIR/nodes/$node/data"
run_dir = "$run"
name = "$node"
role = "$([ "$node" = "$WITNESS" ] && echo witness || echo data)"

[labels]
zone = "shelf-$node"

[listen]
api = "$LAN4.$number:7272"
peer = "$LAN4.$number:7273"

[trust]
test_networks = ["$LAN4.0/24"]

[host]
datasets = "$DATASETS"
runtime = "$RUNTIME"
TOML
  if [ "$DATASETS" = zfs ]; then
    printf 'dataset = "%s/scrap"\nmount = "%s"\n' "$(pool_of "$node")" "$DIR/nodes/$node/pool"
  fi
  if [ "$RUNTIME" = lxc ]; then
    printf '\n[network]\nuplink = "eth0"\n'
  fi
  printf '\n[log]\nfilter = "%s"\n' "$LOG_FILTER"
  case $TIMING in
    default) return ;;
    fast) ;;
    *) printf '\n[timing]\npreset = "%s"\n' "$TIMING"; return ;;
  esac
  cat <<'TOML'

[timing]
renew = "200ms"
suspect = "1s"
stop = "1500ms"
lease = "2200ms"
kill = "2s"
tick = "500ms"
ticks = 9

[raft]
heartbeat = "100ms"
election = "1800ms"
TOML
}

# Power on: machine, cable, pool. The daemon is not started yet.
node_up() {
  local node=$1 number folder=$DIR/nodes/$1
  number=$(number_of "$node")
  mkdir -p "$folder/bin" "$folder/run" "$folder/data"
  machine_up "$node"
  plug "$node" "$number" "$number"
  if [ -n "${DATA_SIZE-}" ]; then data_up "$node"; fi
  if [ "$DATASETS" = zfs ]; then zfs_up "$node"; fi
  : >"$DIR/machines/$node.booted"
}

# A file system for the daemon's own data alone: it can be full while everything else has room.
data_up() {
  local folder=$DIR/nodes/$1
  if [ ! -e "$folder/data.img" ]; then
    truncate -s "$DATA_SIZE" "$folder/data.new"
    mkfs.ext4 -q -m 0 "$folder/data.new" || die "no file system can be made for the data of $1"
    mv "$folder/data.new" "$folder/data.img"
  fi
  machine_run "$1" mount -o loop "$folder/data.img" "$folder/data" || die "the data of $1 cannot be mounted"
  machine_run "$1" rm -rf "$folder/data/lost+found"
}

# daemon_up NODE: starts scrapd; the first node makes the cluster, the others join it.
daemon_up() {
  local node=$1 folder=$DIR/nodes/$1
  [ -e "$folder/scrapd.toml" ] || node_config "$node" >"$folder/scrapd.toml"
  ! daemon_pid "$node" >/dev/null || die "scrapd of $node runs already"
  # Inside, where a file system of its own may lie over the folder.
  if ! machine_run "$node" test -e "$folder/data/node.json"; then
    local how=(init --cluster "$NAME")
    [ "$node" = "${NODES[0]}" ] || how=(join --server "http://$LAN4.1:7272" --timeout 60s)
    (as_node "$node" scrapd "${how[@]}") >>"$folder/scrapd.log" 2>&1 </dev/null ||
      die "scrapd ${how[0]} of $node: $(tail -n 5 "$folder/scrapd.log")"
  fi
  (as_node "$node" setsid "$LIB/daemon" "$folder/scrapd.pid" "$BIN_DIR/scrapd" run) \
    >>"$folder/scrapd.log" 2>&1 </dev/null &
  wait_until 20 "scrapd of $node has begun" daemon_pid "$node" >/dev/null ||
    die "scrapd of $node has not begun: $(tail -n 5 "$folder/scrapd.log")"
}

# The number, inside the machine, of a node's daemon that runs.
daemon_pid() {
  local pid
  { read -r pid <"$DIR/nodes/$1/scrapd.pid"; } 2>/dev/null || return 1
  machine_run "$1" test -d "/proc/$pid" 2>/dev/null && echo "$pid"
}

daemon_signal() {
  local pid
  pid=$(daemon_pid "$1") || die "scrapd of $1 does not run"
  machine_run "$1" kill "-$2" "$pid"
  wait_until 60 "scrapd of $1 has ended" daemon_gone "$1" || die "scrapd of $1 has not ended"
}

daemon_gone() { ! daemon_pid "$1" >/dev/null; }

# A power cut: everything of the node ends at the same moment, without a word to anybody.
node_kill() {
  machine_down "$1"
  rm -f "$DIR/nodes/$1/scrapd.pid"
  zfs_down "$1"
}

node_answers() { machine_run client busybox wget -q -O /dev/null "http://$LAN4.$(number_of "$1"):7272/readyz"; }
