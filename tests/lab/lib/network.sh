# shellcheck shell=bash
# The cables: a switch `lan` with nodes and a client on it, a router, and an `internet` behind it. Nothing leads to the
# network of the machine outside.

# Parts of the last part of an address: nodes are 1 to 5.
CLIENT=250 ROUTER=254

has6() { [ -d /proc/sys/net/ipv6 ]; }

# Number of a node by its name, from 1.
number_of() {
  local number
  for number in "${!NODE_NAMES[@]}"; do
    [ "${NODE_NAMES[number]}" != "$1" ] || { echo $((number + 1)); return; }
  done
  return 1
}

network_make() {
  local pid
  machine_up lan
  net_of lan ip link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0
  net_of lan sysctl -qw net.ipv6.conf.br0.disable_ipv6=1 2>/dev/null || true
  net_of lan ip link set br0 up
  machine_up client
  plug client "$CLIENT" fa
  machine_up router
  plug router "$ROUTER" ''
  machine_up internet
  pid=$(machine_pid internet)
  net_of router ip link add wan0 type veth peer name eth0 netns "$pid"
  addresses router wan0 "$WAN4.1/24" "$WAN6:1/64"
  addresses internet eth0 "$WAN4.8/24" "$WAN6:8/64"
  routes internet "$WAN4.1" "$WAN6:1"
  net_of router sysctl -qw net.ipv4.ip_forward=1
  ! has6 || net_of router sysctl -qw net.ipv6.conf.all.forwarding=1
  mkdir -p "$DIR/internet"
  echo 'the internet of the lab' >"$DIR/internet/index.html"
  (machine_in internet setsid busybox httpd -f -p 80 -h "$DIR/internet") >"$DIR/internet.log" 2>&1 </dev/null &
}

# addresses MACHINE INTERFACE V4 V6
addresses() {
  net_of "$1" ip address add "$3" dev "$2"
  if has6; then
    net_of "$1" sysctl -qw "net.ipv6.conf.$2.accept_dad=0" "net.ipv6.conf.$2.accept_ra=0"
    net_of "$1" ip -6 address add "$4" dev "$2" nodad
  fi
  net_of "$1" ip link set "$2" up
}

routes() {
  net_of "$1" ip route replace default via "$2"
  ! has6 || net_of "$1" ip -6 route replace default via "$3"
}

# plug MACHINE NUMBER NUMBER6: a cable from the machine to the switch, with its addresses.
plug() {
  local pid
  pid=$(machine_pid "$1")
  # The kernel takes its time with the network of a machine that was just killed.
  net_of lan ip link del "$1" 2>/dev/null || true
  # A machine keeps its hardware address when its power comes back, and its neighbours need not ask again.
  net_of lan ip link add "$1" type veth peer name eth0 address "$(printf '02:5c:a9:00:00:%02x' "$2")" netns "$pid"
  net_of lan ip link set "$1" master br0
  net_of lan ip link set "$1" up
  addresses "$1" eth0 "$LAN4.$2/16" "$LAN6:${3:-fe}/64"
  [ "$1" = router ] || routes "$1" "$LAN4.$ROUTER" "$LAN6:fe"
}

# cable MACHINE up|down: the switch's end of the cable.
cable() { net_of lan ip link set "$1" "$2"; }

# Whether a machine's cable is in.
cable_state() {
  local flags
  flags=$(net_of lan ip -o link show "$1" 2>/dev/null) || { echo none; return; }
  case $flags in *[\<,]UP[,\>]*) echo in ;; *) echo cut ;; esac
}

# The switch loses frames by a table of its own: without it none is lost.
wires_rule() {
  net_of lan nft add table bridge wires
  net_of lan nft add chain bridge wires forward '{ type filter hook forward priority 0; policy accept; }'
  net_of lan nft add rule bridge wires forward "$@"
}

wires_oneway() { wires_rule iifname "$1" oifname "$2" drop; }

wires_lose() {
  local end
  for end in iifname oifname; do wires_rule "$end" "$1" numgen random mod 100 '<' "$2" drop; done
}

# What waits longer than two seconds is lost.
wires_slow() {
  net_of lan tc qdisc replace dev "$1" root tbf rate "$2" burst 16kbit latency 2s
  net_of "$1" tc qdisc replace dev eth0 root tbf rate "$2" burst 16kbit latency 2s
}

wires_mend() {
  local machine
  ! net_of lan nft list table bridge wires >/dev/null 2>&1 || net_of lan nft delete table bridge wires
  for machine in client "${NODES[@]}"; do
    net_of lan tc qdisc del dev "$machine" root 2>/dev/null || true
    ! machine_pid "$machine" >/dev/null || net_of "$machine" tc qdisc del dev eth0 root 2>/dev/null || true
  done
}
