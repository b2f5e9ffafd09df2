# A machine gets new disks. It inspects them, works on them, makes partitions and file systems,
# fills them, and installs itself on the first. Appended to nvme-common.sh. It prints facts only:
# the host checks them.
mount -t tracefs tracing /sys/kernel/tracing
tracing=/sys/kernel/tracing
root=0d15c000-0000-4000-8000-000000000001 # the partition that the machine starts from

cli() { # KEY WORDS: the output of nvme-cli, and its complaints
  local key=$1
  shift
  nvme "$@" >/tmp/out 2>/tmp/complaints
  echo "@ $name cli.$key.status $?"
  lines "$name" "cli.$key" </tmp/out
  lines "$name" "cli.$key.complaint" </tmp/complaints
}

describe() {
  local file at=/sys/class/nvme/$nvme path key
  for file in model serial firmware_rev state cntlid transport queue_count sqsize cntrltype; do
    echo "@ $name sys.$file $(sed 's/ *$//' "$at/$file" 2>/dev/null)"
  done
  for path in "/sys/block/$first" "/sys/block/$second"; do
    key=sys.n$(cat "$path/nsid")
    echo "@ $name $key.bytes $(($(cat "$path/size") * 512))"
    for file in logical_block_size physical_block_size write_cache fua write_zeroes_max_bytes discard_max_bytes max_hw_sectors_kb; do
      echo "@ $name $key.$file $(cat "$path/queue/$file")"
    done
  done
}

# The second namespace gets blocks of 4096 bytes.
format() {
  local number=$(nvme id-ns "/dev/$second" | sed -n 's/^lbaf *\([0-9]*\) .*lbads:12 .*/\1/p' | head -1)
  echo "@ $name format.lbaf $number"
  cli format format "/dev/$second" --lbaf="$number" --force
  echo "@ $name format.block $(cat "/sys/block/$second/queue/logical_block_size")"
  cli id-ns-2 id-ns "/dev/$second" -o json
}

ask_with_nvme_cli() {
  local feature
  cli id-ctrl id-ctrl "/dev/$nvme" -o json
  cli id-ctrl-text id-ctrl "/dev/$nvme" -H
  cli id-ns id-ns "/dev/$first" -o json
  cli id-ns-text id-ns "/dev/$first" -H
  cli ns-descs ns-descs "/dev/$first"
  cli list-ns list-ns "/dev/$nvme"
  cli smart-log smart-log "/dev/$nvme" -o json
  cli error-log error-log "/dev/$nvme" -e 4 -o json
  cli fw-log fw-log "/dev/$nvme" -o json
  cli changed-ns-list-log changed-ns-list-log "/dev/$nvme" -o json
  cli effects-log effects-log "/dev/$nvme" --csi=0 -o json
  for feature in 1 2 4 6 7 8 9 10 11 14; do cli "feature.$feature" get-feature "/dev/$nvme" -f "$feature" -H; done
  cli feature.5 get-feature "/dev/$nvme" -f 5 -n 1 -H
  # A missing feature is refused with the status that the specification names.
  cli no-such-feature get-feature "/dev/$nvme" -f 0xbf
  cli past-the-end read "/dev/$first" -s 0x7fffffff -z 512 -d /dev/null
}

# Commands of all lengths from both processors, then with a controller reset amid them.
work() {
  local queue pid
  interrupts "$nvme" | lines "$name" interrupts.before
  taskset 1 disk churn "$name" work.first "/dev/$second" 0 $((8 << 20)) 4096 32 600 &
  pid=$!
  taskset 2 disk churn "$name" work.second "/dev/$first" $((8 << 20)) $((8 << 20)) 512 32 600
  wait $pid
  interrupts "$nvme" | lines "$name" interrupts.after
  kernel_says "$name.work"
  echo 'qid == 0' >"$tracing/events/nvme/nvme_setup_cmd/filter"
  echo 'qid == 0 || status != 0' >"$tracing/events/nvme/nvme_complete_rq/filter"
  echo 1 | tee $tracing/events/nvme/nvme_setup_cmd/enable >$tracing/events/nvme/nvme_complete_rq/enable
  disk churn "$name" reset "/dev/$second" 0 $((8 << 20)) 4096 8 0 >/tmp/reset &
  pid=$!
  at_work /tmp/reset
  sleep 0.3
  echo 1 >"/sys/class/nvme/$nvme/reset_controller"
  echo "@ $name reset.written $?"
  sleep 0.3
  kill $pid
  wait $pid
  echo 0 >"$tracing/events/nvme/enable"
  cat /tmp/reset
  echo "@ $name reset.state $(cat "/sys/class/nvme/$nvme/state")"
  # The reset's own commands: those on the admin queue, and the end of each.
  sed -n 's/.*nvme_setup_cmd: .*qid=0, .*cmd=(\([a-z0-9_]*\) .*/\1/p' $tracing/trace | sort -u | lines "$name" reset.admin
  sed -n 's/.*nvme_complete_rq: .*status=\(0x[0-9a-f]*\).*/\1/p' $tracing/trace | sort | uniq -c | sed 's/^ *//' | lines "$name" reset.statuses
  echo >$tracing/trace
  kernel_says "$name.reset"
}

# files FOLDER: many small ones and a few long, of lines that are all different; the host knows
# their contents
files() {
  local i=1
  mkdir -p "$1"
  while [ $i -le 120 ]; do
    seq $((i * 100000)) $((i * 100000 + i * 7)) >"$1/small-$i"
    i=$((i + 1))
  done
  for i in 1 2 3; do seq $((i * 1000000)) $((i * 1000000 + 400000)) >"$1/long-$i"; done
}

partition() {
  printf 'label: gpt\nsize=96MiB, uuid=%s, attrs=LegacyBIOSBootable\nsize=24MiB\n' "$root" | sfdisk -q "/dev/$first" 2>&1 | lines "$name" sfdisk
  sync
  echo "@ $name partitions $(cd "/sys/block/$first" && echo "$first"p* | sed "s/$first//g")"
  # The features of ext4 that the boot loader knows.
  /bin/mke2fs -q -t ext4 -O '^64bit,^metadata_csum,^metadata_csum_seed,^orphan_file' "/dev/${first}p1" 2>&1 | lines "$name" mkfs
}

install() { # ROOT
  local directory
  for directory in bin lib lib64 modules; do cp -a "/$directory" "$1/"; done
  mkdir -p "$1"/dev "$1"/proc "$1"/sys "$1"/tmp "$1"/root "$1"/boot
  cp /init "$1/init"
  cp /install/scenario "$1/scenario"
  cp /install/vmlinuz "$1/boot/vmlinuz"
  cat >"$1/boot/extlinux.conf" <<END
DEFAULT linux
LABEL linux
  KERNEL vmlinuz
  APPEND console=ttyS0 quiet panic=-1 random.trust_cpu=on no_timer_check nowatchdog rcupdate.rcu_cpu_stall_suppress=1 root=PARTUUID=$root rootwait rw init=/init $(cat /proc/cmdline | tr ' ' '\n' | grep '^nvme\.' | tr '\n' ' ')
END
  extlinux --install "$1/boot" >/tmp/out 2>&1
  echo "@ $name install.status $?"
  dd if=/install/gptmbr.bin of="/dev/$first" bs=440 count=1 conv=notrunc 2>/dev/null
}

fill() {
  mkdir -p /mnt
  mount -t ext4 "/dev/${first}p1" /mnt
  echo "@ $name mount $?"
  files /mnt/files
  install /mnt
  # A file that is removed, and whose room is given back to the host.
  dd if=/dev/urandom of=/mnt/passing bs=1M count=16 2>/dev/null
  sync
  ask allocated with-passing
  rm /mnt/passing
  sync
  /bin/fstrim -v /mnt 2>&1 | lines "$name" fstrim
  ask allocated after-fstrim
  umount /mnt
  echo "@ $name umount $?"
}

# The second partition: filled, zeroed in place, filled, discarded.
zero() {
  local part=/dev/${first}p2
  tr '\0' '\377' </dev/zero | dd of="$part" bs=1M count=24 iflag=fullblock oflag=direct 2>/dev/null
  ask allocated filled
  /bin/blkdiscard -z "$part"
  echo "@ $name zeroes.status $?"
  echo "@ $name zeroes.left $(dd if="$part" bs=1M iflag=direct 2>/dev/null | tr -d '\0' | wc -c)"
  tr '\0' '\377' </dev/zero | dd of="$part" bs=1M count=24 iflag=fullblock oflag=direct 2>/dev/null
  ask allocated filled-again
  /bin/blkdiscard "$part"
  echo "@ $name discard.status $?"
  ask allocated discarded
  echo "@ $name discard.left $(dd if="$part" bs=1M iflag=direct 2>/dev/null | tr -d '\0' | wc -c)"
}

phase() { # NAME: runs it, and prints how long it took
  local before=$(cut -d' ' -f1 /proc/uptime)
  "$1"
  echo "@ $name took.$1 $(cut -d' ' -f1 /proc/uptime | awk -v b="$before" '{ print $1 - b }')"
}

kernel_says boot
for subject in $(subjects); do
  name=${subject%%=*}
  nvme=$(controller "${subject#*=}")
  echo "@ $name controller $nvme"
  [ -n "$nvme" ] || continue
  first=$(namespace "$nvme" 1)
  second=$(namespace "$nvme" 2)
  phase describe
  phase ask_with_nvme_cli
  phase format
  kernel_says "$name.cli"
  phase work
  phase partition
  phase fill
  phase zero
  kernel_says "$name.disk"
  cli list list -o json
  cli smart-log-after smart-log "/dev/$nvme" -o json
done
true
