# shellcheck shell=bash
# A subtree of every control group hierarchy for each machine, version 1, version 2 or both.

# Mount points of the hierarchies: `v1 PATH` or `v2 PATH` a line.
cgroup_mounts() {
  local fields
  while read -r -a fields; do
    local n=${#fields[@]}
    case ${fields[n - 3]} in
      cgroup) printf 'v1 %s\n' "${fields[4]}" ;;
      cgroup2) printf 'v2 %s\n' "${fields[4]}" ;;
    esac
  done </proc/self/mountinfo
}

# Makes the groups of a machine. A group of version 2 that hands controllers down holds no process: those are in `init`.
cgroup_make() {
  local group=scrap-lab.$NAME/$1 kind mount file
  while read -r kind mount; do
    mkdir -p "$mount/$group"
    if [ "$kind" = v2 ]; then
      mkdir -p "$mount/$group/init"
      cgroup_hand_down "$mount"
      cgroup_hand_down "$mount/scrap-lab.$NAME"
    elif [ -e "$mount/cpuset.cpus" ]; then
      for file in cpuset.cpus cpuset.mems; do
        cat "$mount/$file" >"$mount/scrap-lab.$NAME/$file"
        cat "$mount/$file" >"$mount/$group/$file"
      done
    fi
  done < <(cgroup_mounts)
}

cgroup_hand_down() {
  local controller controllers
  read -r -a controllers <"$1/cgroup.controllers" || true
  for controller in "${controllers[@]}"; do
    { echo "+$controller" >"$1/cgroup.subtree_control"; } 2>/dev/null || true
  done
}

# cgroup_join MACHINE PID [SUBGROUP]: the process and what it starts belong to the machine from now on.
cgroup_join() {
  local kind mount group
  while read -r kind mount; do
    group=$mount/scrap-lab.$NAME/$1
    [ "$kind" = v1 ] || group=$group/${3-init}
    { echo "$2" >"$group/cgroup.procs"; } 2>/dev/null || die "process $2 cannot join $group"
  done < <(cgroup_mounts)
}

# cgroup_settle MACHINE OUTER INNER: nothing is left in the group that hands controllers down, so it can.
cgroup_settle() {
  local kind mount group
  while read -r kind mount; do
    [ "$kind" = v2 ] || continue
    group=$mount/scrap-lab.$NAME/$1
    echo "$2" >"$mount/cgroup.procs"
    echo "$3" >"$group/init/cgroup.procs"
    cgroup_hand_down "$group"
  done < <(cgroup_mounts)
}

# Removes every group of a machine, or of the whole lab, once nothing is in it any more.
cgroup_remove() {
  local kind mount group
  while read -r kind mount; do
    group=$mount/scrap-lab.$NAME${1:+/$1}
    [ -d "$group" ] || continue
    wait_until 20 "$group is empty" cgroup_prune "$group" || die "$group cannot be removed" "see $group/cgroup.procs"
  done < <(cgroup_mounts)
}

cgroup_prune() {
  find "$1" -depth -type d -exec rmdir {} + 2>/dev/null || true
  ! [ -d "$1" ]
}
