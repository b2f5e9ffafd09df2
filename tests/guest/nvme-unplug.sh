# A disk goes while it is at work: first its driver, then the disk itself. Each comes back. Appended
# to nvme-common.sh.
at=/sys/bus/pci/devices

begin() { # KEY: work in the background
  second=$(namespace "$nvme" 2)
  disk churn "$name" "$1" "/dev/$second" 0 $((8 << 20)) "$(cat "/sys/block/$second/queue/logical_block_size")" 16 0 >/tmp/work &
  worker=$!
  at_work /tmp/work
  sleep 0.4
}

# The results of the work once the disk has gone, and the kernel's messages.
end() { # KEY
  gone "/sys/block/$second"
  echo "@ $name $1.gone $?"
  kill -TERM $worker 2>/dev/null
  wait $worker
  cat /tmp/work
  kernel_says "$name.$1"
}

# The device as it is found anew.
again() { # KEY
  nvme=$(controller "$bdf")
  echo "@ $name $1.controller $nvme"
  [ -n "$nvme" ] || return
  second=$(namespace "$nvme" 2)
  disk churn "$name" "$1" "/dev/$second" 0 $((8 << 20)) "$(cat "/sys/block/$second/queue/logical_block_size")" 16 300
  kernel_says "$name.$1"
}

for subject in $(subjects); do
  name=${subject%%=*} bdf=${subject#*=}
  nvme=$(controller "$bdf")
  kernel_says "$name.boot"
  begin unbound
  echo "$bdf" >"$at/$bdf/driver/unbind"
  end unbound
  echo "$bdf" >/sys/bus/pci/drivers_probe
  again bound

  begin removed
  echo 1 >"$at/$bdf/remove"
  end removed
  echo 1 >/sys/bus/pci/rescan
  again found

  mkdir -p /mnt
  mount -t ext4 "/dev/$(namespace "$nvme" 1)p1" /mnt
  (cd /mnt/files && sha256sum *) | lines "$name" files
  umount /mnt
  kernel_says "$name.end"
done
true
