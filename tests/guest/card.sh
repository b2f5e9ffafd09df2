# Describes the device of card.ts at 0000:01:00.0 and drives it through the guest's own vfio-pci.
at=/sys/bus/pci/devices/0000:01:00.0
echo "@ card present $([ -e "$at" ] && echo yes || echo no)"
for file in vendor device class; do echo "@ card pci.$file $(cat "$at/$file")"; done
for file in "$at"/resource?*; do echo "@ card pci.size.${file##*/resource} $(stat -c %s "$file")"; done
lspci -nvvv -s 01:00.0 2>/dev/null | sed 's/^\s*//' | while IFS= read -r line; do
  case $line in
    Capabilities:*) line=${line#*] } && echo "@ card capability ${line%%:*}" ;;
    Region*) echo "@ card region $(echo "$line" | sed 's/ at [0-9a-f]*//')" ;;
  esac
done
for module in $(cat /modules/order); do insmod "/modules/$module.ko"; done
echo vfio-pci >"$at/driver_override"
echo 0000:01:00.0 >/sys/bus/pci/drivers_probe
echo "@ card vfio.driver $(basename "$(readlink "$at/driver")")"
group=$(basename "$(readlink "$at/iommu_group")")
guest card card 0000:01:00.0 "$group" first
guest card card 0000:01:00.0 "$group" second
dmesg | grep -E 'BUG:|WARNING:|Call Trace|Oops' | while IFS= read -r line; do echo "@ guest kernel.trouble $line"; done
true
