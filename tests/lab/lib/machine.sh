# shellcheck shell=bash
# Machines: namespaces for processes, mounts, network, host name and control groups, all of which end together.

# machine_up MACHINE: begins it and waits until it is ready. Nothing of it is left in the machine outside but its record.
machine_up() {
  local machine=$1 outer inner
  ! booted "$machine" || die "$machine is up already"
  machine_down "$machine"
  cgroup_make "$machine"
  "$LIB/outer" "$NAME" "$machine" "$DIR" >"$DIR/machines/$machine.log" 2>&1 </dev/null 9>&"$LOCK" {LOCK}>&- &
  wait_until 20 "$machine is ready or has ended" machine_begun "$machine" "$!" || true
  if ! { [ -e "$DIR/machines/$machine.ready" ] && outer=$(pid_of "$DIR/machines/$machine.outer") &&
    inner=$(child_of "$outer"); }; then
    die "$machine did not come up: $(tail -n 3 "$DIR/machines/$machine.log")"
  fi
  record "$DIR/machines/$machine.inner" "$inner"
  cgroup_settle "$machine" "$outer" "$inner"
}

machine_begun() { [ -e "$DIR/machines/$1.ready" ] || ! started_at "$2" >/dev/null; }

# The only child of a process that has not ended. What a process started before it became another program may have ended
# since, and nobody waits for it.
child_of() {
  local file stat rest
  for file in /proc/[0-9]*/stat; do
    { read -r stat <"$file"; } 2>/dev/null || continue
    rest=${stat##*) }
    case $rest in Z* | X*) continue ;; esac
    rest=${rest#? }
    if [ "${rest%% *}" = "$1" ]; then
      printf '%s\n' "${stat%% *}"
      return
    fi
  done
  return 1
}

# The first process of a machine that is up.
machine_pid() { pid_of "$DIR/machines/$1.inner"; }

# Whether a machine is up and has everything that it should have.
booted() { [ -e "$DIR/machines/$1.booted" ] && machine_pid "$1" >/dev/null; }

# machine_in MACHINE CMD...: runs CMD inside. The caller's shell is used up: call it in a subshell.
machine_in() {
  local machine=$1 pid
  shift
  pid=$(machine_pid "$machine") || die "$machine is down" "start it with: $0 start $machine"
  cgroup_join "$machine" "$BASHPID"
  [ -z "${LOCK:-}" ] || exec {LOCK}>&-
  exec nsenter --target "$pid" --mount --net --uts --ipc --pid --cgroup -- "$@"
}

# machine_run MACHINE CMD...: the same in a subshell.
machine_run() { (machine_in "$@"); }

# net_of MACHINE CMD...: runs a command of the machine outside in the network of a machine.
net_of() {
  local pid
  pid=$(machine_pid "$1") || die "$1 is down"
  shift
  nsenter --target "$pid" --net -- "$@"
}

# Kills everything of a machine at once. One that is down is fine.
machine_down() {
  end_of "$DIR/machines/$1.inner"
  end_of "$DIR/machines/$1.outer"
  rm -f "$DIR/machines/$1.ready" "$DIR/machines/$1.booted"
  cgroup_remove "$1"
}
