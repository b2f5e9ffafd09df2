# The machine of nvme.sh, started from its disk. Appended to nvme-common.sh.
for subject in $(subjects); do
  name=${subject%%=*}
  nvme=$(controller "${subject#*=}")
  echo "@ $name root $(sed -n 's/\(.*\) \/ \(ext4\) .*/\1 \2/p' /proc/mounts)"
  (cd /files && sha256sum *) | lines "$name" files
  nvme smart-log "/dev/$nvme" -o json >/tmp/out 2>&1
  echo "@ $name smart-log.status $?"
  mount -o remount,ro /
  echo "@ $name remount $?"
done
kernel_says boot
true
