# Shared by the scenarios with NVMe disks. The kernel command line names each controller as
# nvme.NAME=BDF.

# lines SUBJECT KEY: standard input as facts
lines() {
  while IFS= read -r line; do echo "@ $1 $2 $line"; done
}

# ask WORDS: sends the host a request, or a message, and waits until the host has done it
ask() {
  echo "@ guest asks $*"
  read -r -t 600 answer </dev/ttyS1
}

subjects() {
  local word
  for word in $(cat /proc/cmdline); do
    case $word in
      nvme.*=*) echo "${word#nvme.}" ;;
    esac
  done
}

# controller BDF: its name, such as nvme0, once it is at work
controller() {
  local tries=0 path
  while [ "$tries" -lt 6000 ]; do
    for path in /sys/bus/pci/devices/"$1"/nvme/nvme*; do
      if [ "$(cat "$path/state" 2>/dev/null)" = live ]; then
        echo "${path##*/}"
        return
      fi
    done
    usleep 50000
    tries=$((tries + 1))
  done
}

# namespace CONTROLLER NSID: the name of its disk, such as nvme0n1, once it is there. Linux counts
# disks in the order in which it finds them
namespace() {
  local tries=0 path
  while [ "$tries" -lt 6000 ]; do
    for path in "/sys/class/nvme/$1/$1"n*; do
      if [ "$(cat "$path/nsid" 2>/dev/null)" = "$2" ]; then
        echo "${path##*/}"
        return
      fi
    done
    usleep 50000
    tries=$((tries + 1))
  done
}

# kernel_says PHASE: the kernel's log since the last call, with levels, of disks only
kernel_says() {
  dmesg -r -c | grep -E 'nvme|I/O error|EXT4|JBD2|BUG:|WARNING:|Call Trace|Oops|blocked for more|DMAR:.*[Ff]ault' | grep -v 'ommand line' |
    sed 's/^<\([0-9]*\)>\[ *[0-9.]*\] /\1 /' | lines guest "log.$1"
}

# gone PATH: waits until it is gone
gone() {
  local tries=0
  while [ -e "$1" ] && [ $tries -lt 6000 ]; do
    usleep 50000
    tries=$((tries + 1))
  done
  [ ! -e "$1" ]
}

# at_work FILE: waits until `disk churn`, which writes there, has begun
at_work() {
  local tries=0
  until grep -q started "$1" 2>/dev/null || [ $tries -ge 6000 ]; do
    usleep 50000
    tries=$((tries + 1))
  done
}

# interrupts CONTROLLER: the number of interrupts of each of its queues, all processors together
interrupts() {
  awk -v name="$1" '$NF ~ "^" name "q" { sum = 0; for (i = 2; i <= NF && $i ~ /^[0-9]+$/; i++) sum += $i; print $NF, sum }' /proc/interrupts
}
