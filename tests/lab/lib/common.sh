# shellcheck shell=bash
# shellcheck disable=SC2034 # the other parts use what stands here
# What every part of the lab uses: words to people, the state folder, processes that are surely ours.

# The folder that holds every lab; only root may write there.
LAB_HOME=${SCRAP_LAB_HOME:-/var/lib/scrap-lab}
NODE_NAMES=(ada ben cleo dora emil)
LAN4=10.99.0 LAN6=fd99:
# Addresses that rules take for the Internet: those for documentation they do not. No packet to them leaves the lab.
WAN4=8.8.8 WAN6=2a02:8:

say() { printf '%s\n' "$*" >&2; }

# die WHAT [HINT]
die() {
  say "error: $1"
  [ $# -lt 2 ] || say "  hint: $2"
  exit 1
}

# wait_until SECONDS WHAT CMD...: runs CMD again and again until it succeeds.
wait_until() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.05
  done 2>/dev/null
  : "$what"
}

# The time a process was started, in ticks since the boot; nothing for one that is not there or has ended.
started_at() {
  local stat
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  # The name stands in brackets and may hold anything.
  stat=${stat##*) }
  # shellcheck disable=SC2086 # the fields are wanted as words
  set -- $stat
  [ "$1" != Z ] && [ "$1" != X ] || return 1
  printf '%s\n' "${20}"
}

# alive PID STARTED: whether that very process still runs, not another one with its number.
alive() { [ -n "${1:-}" ] && [ -n "${2:-}" ] && [ "$(started_at "$1")" = "$2" ]; }

# record FILE PID: writes down a process so that it can be recognised later.
record() {
  local at
  at=$(started_at "$2") || return 1
  printf '%s %s\n' "$2" "$at" >"$1.new" && mv "$1.new" "$1"
}

# pid_of FILE: the number of a recorded process that still runs.
pid_of() {
  local pid at
  { read -r pid at <"$1"; } 2>/dev/null || return 1
  alive "$pid" "$at" && printf '%s\n' "$pid"
}

# end_of FILE: kills a recorded process and waits until it is gone. One that has ended is fine.
end_of() {
  local pid at
  { read -r pid at <"$1"; } 2>/dev/null || return 0
  ! alive "$pid" "$at" || kill -9 "$pid" 2>/dev/null || true
  wait_until 20 "process $pid has ended" gone "$pid" "$at" || die "process $pid cannot be killed"
  rm -f "$1"
}

gone() { ! alive "$1" "$2"; }

# The lock of a lab: whoever changes it holds it, and so does a machine until it has written down who it is.
lock() {
  exec {LOCK}>"$DIR/lock" || die "cannot open $DIR/lock"
  flock -w "${1:-300}" "$LOCK" || die "another command works on the lab '$NAME'" "wait for it, or end it"
}
