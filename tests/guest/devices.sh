# Drives the devices of examples/devices with Linux's own drivers. It prints facts only: the host
# checks them.
uart=/sys/bus/pci/devices/0000:00:05.0
watchdog=/sys/bus/pci/devices/0000:00:06.0
rng=/sys/bus/pci/devices/0000:01:00.0

for module in $(cat /modules/drivers); do
  # The watchdog's driver takes its seconds as a parameter.
  case $module in i6300esb) insmod "/modules/$module.ko" heartbeat=20 ;; *) insmod "/modules/$module.ko" ;; esac
done

driver() { # NAME DEVICE
  echo "@ $1 driver $(basename "$(readlink "$2/driver")")"
}

driver uart $uart
tty=$(basename "$(find $uart/ -name 'ttyS*' | head -n 1)")
echo "@ uart tty $([ -c "/dev/$tty" ] && echo yes || echo no)"
echo "@ uart type $(cat "/sys/class/tty/$tty/type")"
stty -F "/dev/$tty" 115200 raw -echo
exec 3<>"/dev/$tty"
for word in hello 'a longer line, of more bytes than the sixteen of a fifo'; do
  echo "$word" >&3
  answer=
  read -r -t 120 answer <&3
  echo "@ uart answer $answer"
done
echo "@ uart interrupts $(awk -v irq="$(cat "/sys/class/tty/$tty/irq"):" '$1 == irq { print ($2 > 0 ? "some" : "none") }' /proc/interrupts)"

exec 3>&-

driver rng $rng/virtio0
echo "@ rng pci.driver $(basename "$(readlink "$rng/driver")")"
echo "@ rng current $(cat /sys/class/misc/hw_random/rng_current)"
echo "@ rng bytes $(dd if=/dev/hwrng bs=32 count=1 2>/dev/null | hexdump -v -e '1/1 "%02x"')"
grep -c virtio0-input /proc/interrupts | sed 's/^/@ rng interrupt.lines /'

driver watchdog $watchdog
echo "@ watchdog device $([ -c /dev/watchdog ] && echo yes || echo no)"
exec 4>/dev/watchdog
for second in $(seq 25); do
  sleep 1
  echo >&4
done
echo "@ watchdog waits kept-alive"
sleep 60
echo "@ watchdog waits not-kept-alive"
printf V >&4
exec 4>&-
dmesg | grep -E 'BUG:|WARNING:|Call Trace|Oops' | while IFS= read -r line; do echo "@ guest kernel.trouble $line"; done
true
