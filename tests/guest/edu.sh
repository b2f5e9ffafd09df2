# Prints everything about each educational device that the kernel command line names as
# edu.NAME=BDF, then drives it through the guest's own vfio-pci. It prints facts only: the host
# checks them. Appended to init.

sys=/sys/bus/pci/devices

# lines SUBJECT KEY: standard input as facts, without the device's address
lines() {
  while IFS= read -r line; do echo "@ $1 $2 $line"; done
}

describe() { # NAME BDF
  local name=$1 at=$sys/$2 file
  if [ ! -e "$at" ]; then
    echo "@ $name present no"
    return
  fi
  echo "@ $name present yes"
  for file in vendor device class revision subsystem_vendor subsystem_device irq enable; do
    echo "@ $name pci.$file $(cat "$at/$file")"
  done
  lines "$name" pci.resource <"$at/resource"
  for file in "$at"/resource?*; do echo "@ $name pci.size.${file##*/resource} $(stat -c %s "$file")"; done
  echo "@ $name pci.config.size $(stat -c %s "$at/config")"
  hexdump -v -e '16/1 "%02x" "\n"' "$at/config" | lines "$name" pci.config
  lspci -nvvvxxx -s "$2" 2>/dev/null | sed 's/^[0-9a-f:]*[0-9a-f][0-9a-f]\.[0-7] //' | lines "$name" lspci
}

subjects=
for word in $(cat /proc/cmdline); do
  case $word in
    edu.*=*) word=${word#edu.} subjects="$subjects $word" ;;
  esac
done

for subject in $subjects; do describe "${subject%%=*}" "${subject#*=}"; done

# Loads and stores of the kernel's mapping of BAR 0, no driver bound.
for subject in $subjects; do
  [ -e "$sys/${subject#*=}" ] || continue
  echo 1 >"$sys/${subject#*=}/enable"
  guest bar "${subject%%=*}" "${subject#*=}"
  echo 0 >"$sys/${subject#*=}/enable"
done

for module in $(cat /modules/order); do insmod "/modules/$module.ko"; done

for subject in $subjects; do
  name=${subject%%=*} bdf=${subject#*=}
  [ -e "$sys/$bdf" ] || continue
  echo vfio-pci >"$sys/$bdf/driver_override"
  echo "$bdf" >/sys/bus/pci/drivers_probe
  echo "@ $name vfio.driver $(basename "$(readlink "$sys/$bdf/driver")")"
  group=$(basename "$(readlink "$sys/$bdf/iommu_group")")
  echo "@ $name vfio.group.devices $(ls "$sys/$bdf/iommu_group/devices" | wc -l)"
  # Twice: the second user must find the device as the first one did.
  guest drive "$name" "$bdf" "$group" first
  guest drive "$name" "$bdf" "$group" second
  echo "$bdf" >/sys/bus/pci/drivers/vfio-pci/unbind
  echo "@ $name vfio.unbound $([ -e "$sys/$bdf/driver" ] && echo no || echo yes)"
  hexdump -v -e '16/1 "%02x" "\n"' "$sys/$bdf/config" | lines "$name" after.config
done
dmesg | grep -E 'BUG:|WARNING:|Call Trace|Oops' | lines guest kernel.trouble
true
