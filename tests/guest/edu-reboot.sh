# Restarts the machine while a user-level driver holds each educational device with memory mapped,
# then drives the device anew. The guest remembers nothing, so the host says which of the two steps
# is next.
sys=/sys/bus/pci/devices
echo "@ guest asks which-boot"
read -r which </dev/ttyS1
for module in $(cat /modules/order); do insmod "/modules/$module.ko"; done
for word in $(cat /proc/cmdline); do
  case $word in
    edu.*=*) word=${word#edu.} ;;
    *) continue ;;
  esac
  name=${word%%=*} bdf=${word#*=}
  echo vfio-pci >"$sys/$bdf/driver_override"
  echo "$bdf" >/sys/bus/pci/drivers_probe
  group=$(basename "$(readlink "$sys/$bdf/iommu_group")")
  if [ "$which" = first ]; then
    mkfifo "/tmp/$name"
    guest hold "$name" "$bdf" "$group" held >"/tmp/$name" &
    # The driver prints this and holds on.
    while read -r line; do
      echo "$line"
      case $line in *" held.holding "*) break ;; esac
    done <"/tmp/$name"
  else
    guest drive "$name" "$bdf" "$group" again
  fi
done
if [ "$which" = first ]; then
  # The guest waits until the host has read all: the restart resets the serial port too.
  echo "@ guest asks may-restart"
  read -r answer </dev/ttyS1
  reboot -f
  sleep 600
fi
true
