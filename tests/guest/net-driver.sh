# The 82576 driver's cases on two of QEMU's igb, which are plugged into one hub, through the guest's
# own VFIO: by each of the ways that the kernel command line names. Appended to node.sh.

load "$(given vfio.modules)"
echo 1 >/sys/module/vfio_pci/parameters/enable_sriov
# The buses behind the ports have the numbers that the firmware gave them.
cards=$(for each in "$sys"/*; do [ "$(cat "$each/device")" = 0x10c9 ] && basename "$each"; done)
for bdf in $cards; do take "$bdf"; done
for way in $(given net.ways | tr , ' '); do
  export NET_BDFS=$(echo $cards | tr ' ' ,) NET_VIA=$way
  export NET_TOKEN=83d8f4f2-509f-382f-3c1e-e6bfe0fa1001
  ran "$way" cases node /vfio-ts/tests/net-cases.mjs
done
trouble
