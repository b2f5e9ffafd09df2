# Mounts the disk with Node, and makes node and vfio commands of the guest, with words that the
# scenarios of the kernel's own VFIO share. Goes before a scenario.
#
# Node runs with the disk as its root; /dev, /proc, /sys and /tmp are the guest's.

sys=/sys/bus/pci/devices

# load LIST: the modules of /modules/LIST, in their order
load() {
  for module in $(cat "/modules/$1"); do
    insmod "/modules/$module.ko" || echo "@ guest kernel.trouble $module is not loaded"
  done
}

# given NAME: the value of a word NAME=VALUE of the kernel's command line
given() {
  for word in $(cat /proc/cmdline); do
    case $word in
      "$1="*) echo "${word#*=}" ;;
    esac
  done
}

# take BDF: vfio-pci drives it
take() {
  [ -e "$sys/$1/driver" ] && echo "$1" >"$sys/$1/driver/unbind"
  echo vfio-pci >"$sys/$1/driver_override"
  echo "$1" >/sys/bus/pci/drivers_probe
}

# give BDF DRIVER: that driver drives it again
give() {
  echo "$1" >"$sys/$1/driver/unbind"
  echo >"$sys/$1/driver_override"
  echo "$1" >"/sys/bus/pci/drivers/$2/bind"
}

# lines SUBJECT KEY: standard input as facts
lines() {
  while IFS= read -r line; do echo "@ $1 $2 $line"; done
}

seconds() { cut -d' ' -f1 /proc/uptime; }

# ran SUBJECT KEY COMMAND...: its output, its status and its seconds as facts
ran() {
  local subject=$1 key=$2 status from
  shift 2
  from=$(seconds)
  "$@" >/tmp/output 2>&1
  status=$?
  lines "$subject" "$key.output" </tmp/output
  echo "@ $subject $key.status $status"
  echo "@ $subject $key.time $from $(seconds)"
  return $status
}

# The kernel's complaints, at the end of a scenario. The IOMMU's reports of refused DMA are none.
trouble() {
  dmesg | grep -E 'BUG:|WARNING:|Call Trace|Oops' | lines guest kernel.trouble
  true
}

load node
mkdir -p /n
mount -t ext4 -o ro /dev/vda /n
for place in dev proc sys tmp; do mount --bind "/$place" "/n/$place"; done
for place in etc root run var; do mount -t tmpfs "$place" "/n/$place"; done
mkdir -p /n/var/tmp /dev/shm
mount -t tmpfs shm /dev/shm
cat >/bin/node <<'END'
#!/bin/sh
HOME=/root exec chroot /n /usr/bin/node "$@"
END
cat >/bin/vfio <<'END'
#!/bin/sh
HOME=/root exec chroot /n /usr/bin/node /vfio-ts/bin/vfio.js "$@"
END
chmod +x /bin/node /bin/vfio
