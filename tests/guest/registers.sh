# Accesses to mapped registers of QEMU's edu, and DMA of the edu into a BAR of another device,
# through the guest's own VFIO, by each of the ways that the kernel command line names. Appended to
# node.sh.

load "$(given vfio.modules)"
edu=$(given edu.bdf)
other=$(given bar.bdf)
take "$edu"
take "$other"
for way in $(given edu.ways | tr , ' '); do
  ran "$way" accesses node /vfio-ts/tests/edu-registers.mjs "$way" "$edu" "$(given edu.accesses)"
  ran "$way" peer node /vfio-ts/tests/reaches-bars.mjs "$way" "$edu" "$other"
done
trouble
