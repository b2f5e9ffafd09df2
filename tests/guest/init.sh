#!/bin/sh
# The guest's init: mounts file systems, runs /scenario with its output on the second serial port,
# and switches the machine off.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root
mount -t devtmpfs dev /dev 2>/dev/null
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
stty -F /dev/ttyS1 raw -echo
exec </dev/ttyS1 >/dev/ttyS1 2>&1
# A guest that hangs, or whose host side is gone, ends by itself.
(
  sleep 1500
  echo "the guest did not end in time"
  poweroff -f
) </dev/null &
echo "@ guest kernel $(uname -r)"
. /scenario
echo "@ guest exit $?"
# Bytes still in the serial port are lost when the machine goes: the host says when it has read all
# of them.
read -r -t 300 heard </dev/ttyS1
poweroff -f
