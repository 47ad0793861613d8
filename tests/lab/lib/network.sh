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
  net_of lan ip link add "$1" type veth peer name eth0 netns "$pid"
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
