# Our NVMe driver on QEMU's controller through the guest's own VFIO, beside Linux's driver on the
# same controller in the same boot. Appended to node.sh.

bdf=$(given nvme.bdf)
megabytes=$(given nvme.megabytes)

# The block device of the controller, once Linux's driver has found it
block() {
  until ls -d "$sys/$bdf"/nvme/nvme*/nvme*n1 >/dev/null 2>&1; do sleep 0.1; done
  echo "/dev/$(basename "$(ls -d "$sys/$bdf"/nvme/nvme*/nvme*n1)")"
}

# repeated MEGABYTES: that much of the same 16 MiB
repeated() { for _ in $(seq $(($1 / 16))); do cat /tmp/piece; done; }

head -c 16777216 /dev/urandom >/tmp/piece
load "$(given vfio.modules)"
disk load linux read.4096.32 "$(block)" read random 4096 32 "$(given nvme.seconds)"
take "$bdf"
for command in list id smart; do ran ours "$command" vfio nvme $command "$bdf"; done
repeated "$megabytes" | ran ours write vfio nvme write --verify "$bdf"
for way in $(given nvme.ways | tr , ' '); do
  for kind in msix poll; do
    ran ours "bench.$way.$kind" vfio nvme bench --via "$way" --interrupts $kind --json --depth 32 --seconds "$(given nvme.seconds)" "$bdf"
  done
done
give "$bdf" nvme
echo "@ linux read.sum $(head -c $((megabytes * 1048576)) "$(block)" | sha256sum)"
echo "@ linux given.sum $(repeated "$megabytes" | sha256sum)"
disk load linux read.4096.32 "$(block)" read random 4096 32 "$(given nvme.seconds)"
trouble
