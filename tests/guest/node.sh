# Mounts the disk with Node, and makes node and vfio commands of the guest. Goes before a scenario.
#
# Node runs with the disk as its root; /dev, /proc, /sys and /tmp are the guest's.

for module in $(cat /modules/node); do insmod "/modules/$module.ko"; done
mkdir -p /n
mount -t ext4 -o ro /dev/vda /n
for place in dev proc sys tmp; do mount --bind "/$place" "/n/$place"; done
for place in etc root run var; do mount -t tmpfs "$place" "/n/$place"; done
mkdir -p /n/var/tmp /dev/shm
mount -t tmpfs shm /dev/shm
cat >/bin/node <<'END'
#!/bin/sh
HOME=/root exec chroot /n /usr/bin/node "$@"
END
cat >/bin/vfio <<'END'
#!/bin/sh
HOME=/root exec chroot /n /usr/bin/node /vfio-ts/bin/vfio.js "$@"
END
chmod +x /bin/node /bin/vfio
