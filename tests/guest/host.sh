# The administrator's commands on the guest's own devices: five devices in four groups. Goes behind
# node.sh.

load "$(given vfio.modules)"

# The part of the guest that a bind changes: drivers, overrides, virtual functions, nodes.
state() {
  for at in $sys/*; do
    echo "${at##*/} $(basename "$(readlink "$at/driver")") $(cat "$at/driver_override") $(cat "$at/sriov_numvfs" 2>/dev/null)"
  done
  ls /dev/vfio
}

# undone SUBJECT KEY: whether the state is that of /tmp/before
undone() {
  state >/tmp/after
  if cmp -s /tmp/before /tmp/after; then echo "@ $1 $2 yes"; else diff /tmp/before /tmp/after | lines "$1" "$2"; fi
}

# blocked FILE COMMAND...: the command, while the file of sysfs cannot be written
blocked() {
  local file status
  file=$(readlink -f "$1")
  shift
  : >/tmp/nothing
  mount --bind /tmp/nothing "/n$file" && mount -o remount,bind,ro "/n$file"
  "$@"
  status=$?
  umount "/n$file"
  return $status
}

state >/tmp/before
vfio ls --json | lines ls json
for group in /sys/kernel/iommu_groups/*; do echo "${group##*/} $(echo $(ls "$group/devices"))" | lines ls recorded; done
ran doctor computer vfio doctor "$(given host.pair)"

for bdf in $(given host.devices | tr , ' '); do
  ran "$bdf" bind vfio bind "$bdf"
  state | lines "$bdf" state
  ran "$bdf" restore vfio restore "$bdf"
  undone "$bdf" undone
done

# Each step of a bind fails once.
pair=$(given host.pair)
vfio bind "$pair" --dry-run | sed 's/.* > //' >/tmp/steps
step=0
while read -r file <&3; do
  step=$((step + 1))
  ran steps "$step" blocked "$file" vfio bind "$pair"
  undone steps "$step.undone"
done 3</tmp/steps
echo "@ steps count $step"

ran refused bind vfio bind "$(given host.disk)"
undone refused undone
trouble
