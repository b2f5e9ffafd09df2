# The conformance cases on QEMU's edu through the guest's own VFIO, by each of the ways that the
# kernel command line names: group, cdev. Appended to node.sh.

load "$(given vfio.modules)"
bdf=$(given edu.bdf)
take "$bdf"
for way in $(given edu.ways | tr , ' '); do
  export EDU_BDF=$bdf EDU_VIA=$way EDU_FIXED=1
  ran "$way" cases node /vfio-ts/tests/kernel-cases.mjs
done
trouble
