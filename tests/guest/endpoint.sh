# Drives the card of models/endpoint-test with Linux's own pci_endpoint_test. It prints facts only:
# the host checks them.
at=/sys/bus/pci/devices/0000:01:00.0
insmod /modules/pci_endpoint_test.ko
echo "@ endpoint driver $(basename "$(readlink "$at/driver")")"
lspci -nvvv -s 01:00.0 2>/dev/null | sed 's/^\s*//' | while IFS= read -r line; do
  case $line in
    Capabilities:*MSI*) line=${line#*] } && echo "@ endpoint capability ${line%% Masked*}" ;;
    Region*) echo "@ endpoint region $(echo "$line" | sed 's/ at [0-9a-f]*//; s/ \[disabled\]//')" ;;
  esac
done
pcitest intx msi msix subranges bars
dmesg | grep -E 'BUG:|WARNING:|Call Trace|Oops' | while IFS= read -r line; do echo "@ guest kernel.trouble $line"; done
true
