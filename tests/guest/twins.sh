# Two functions of QEMU's nvme on one bus, through the guest's own VFIO. Appended to node.sh.

load "$(given vfio.modules)"
# The bus behind the port has the number that the firmware gave it.
twins=$(for each in "$sys"/*; do [ "$(cat "$each/class")" = 0x010802 ] && basename "$each"; done)
for bdf in $twins; do take "$bdf"; done
for way in $(given twins.ways | tr , ' '); do
  export TWINS=$(echo $twins | tr ' ' ,) VIA=$way
  ran "$way" cases node /vfio-ts/tests/twin-cases.mjs
done
trouble
