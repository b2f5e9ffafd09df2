# A driver of ours at work on QEMU's edu through the guest's own VFIO: it is killed, another one
# uses the device in all ways, and the device is removed at work. Then mtty moves. Appended to
# node.sh.

bdf=$(given edu.bdf)
driver=/vfio-ts/tests/edu-work.mjs

# COMMAND of the device, of the hardware's own config space
command_of() { hexdump -v -s 4 -n 2 -e '1/2 "%04x"' "$sys/$1/config"; }

# begin SUBJECT WAY: the driver works in the background
begin() {
  vfio run --via "$2" "$driver" "$bdf" "$1" on >/tmp/work 2>&1 &
  worker=$!
  while ! grep -q " working yes" /tmp/work; do
    kill -0 $worker 2>/dev/null || break
    sleep 0.2
  done
  echo "@ $1 command.at-work $(command_of "$bdf")"
}

# end SUBJECT: what became of the driver
end() {
  wait $worker
  echo "@ $1 driver.status $?"
  grep -v '^@' /tmp/work | lines "$1" driver.words
  grep '^@' /tmp/work
}

load "$(given vfio.modules)"
take "$bdf"

for way in $(given edu.ways | tr , ' '); do
  begin "$way-killed" "$way"
  kill -9 $worker
  end "$way-killed"
  echo "@ $way-killed command.after $(command_of "$bdf")"
  ran "$way-killed" again vfio run --via "$way" "$driver" "$bdf" "$way-killed" once
  cat /tmp/output

  begin "$way-removed" "$way"
  # A driver that does not end would block the removal.
  (sleep 300; kill -9 $worker) 2>/dev/null &
  watch=$!
  echo 1 >"$sys/$bdf/remove"
  echo "@ $way-removed present $([ -e "$sys/$bdf" ] && echo yes || echo no)"
  end "$way-removed"
  kill $watch
  echo 1 >/sys/bus/pci/rescan
  take "$bdf"
done

# The card is pulled out of its slot while its driver works.
bdf=$(given hot.bdf)
take "$bdf"
begin unplugged "$(given edu.ways | cut -d, -f1)"
(sleep 300; kill -9 $worker) 2>/dev/null &
watch=$!
echo "@ unplugged pull card"
end unplugged
kill $watch
tries=0
while [ -e "$sys/$bdf" ] && [ $tries -lt 300 ]; do
  tries=$((tries + 1))
  sleep 0.1
done
echo "@ unplugged present $([ -e "$sys/$bdf" ] && echo yes || echo no)"

if [ -e /sys/class/mdev_bus/mtty ]; then
  one=83b8f4f2-509f-382f-3c1e-e6bfe0fa1001
  other=83b8f4f2-509f-382f-3c1e-e6bfe0fa1002
  for uuid in $one $other; do echo $uuid >/sys/class/mdev_bus/mtty/mdev_supported_types/mtty-2/create; done
  ran mtty program node /vfio-ts/tests/mtty-move.mjs $one $other
  cat /tmp/output
fi
trouble
