# How fast each disk is: commands a second, one disk at a time, in turn. Appended to nvme-common.sh.
for round in 1 2; do
  for what in 'read random 4096 1' 'read random 4096 32' 'write random 4096 1' 'write random 4096 32' 'read sequential 131072 8' 'write sequential 131072 8'; do
    for subject in $(subjects); do
      nvme=$(controller "${subject#*=}")
      disk load "${subject%%=*}" "$(echo "$what" | tr ' ' '.')" "/dev/$(namespace "$nvme" 1)" $what 2
    done
  done
done
kernel_says speed
true
