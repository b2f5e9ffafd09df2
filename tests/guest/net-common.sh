# Words that the scenarios with network cards share. Goes before a scenario.

sys=/sys/bus/pci/devices
port=5001

# given NAME: the value of a word NAME=VALUE of the kernel's command line
given() {
  for word in $(cat /proc/cmdline); do
    case $word in
      "$1="*) echo "${word#*=}" ;;
    esac
  done
}

# lines SUBJECT KEY: standard input as facts
lines() {
  while IFS= read -r line; do echo "@ $1 $2 $line"; done
}

# ask WORDS: sends the host a request, and waits until the host has done it
ask() {
  echo "@ guest asks $*"
  read -r -t 900 answer </dev/ttyS1
}

# wait_for SECONDS COMMAND...: until the command succeeds
wait_for() {
  local tries=$(($1 * 10))
  shift
  until "$@" >/dev/null 2>&1; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || return 1
    usleep 100000
  done
}

# The kernel's log since the last call: the driver's lines with their levels, and any trouble.
kernel_says() { # SUBJECT KEY
  dmesg -r -c >/tmp/log
  grep -E 'igb|eth[0-9]|NETDEV' /tmp/log | grep -v 'ommand line' | sed 's/^<\([0-9]*\)>\[ *[0-9.]*\] /\1 /' | lines "$1" "log.$2"
  echo "@ $1 log.$2 end"
  grep -E 'BUG:|WARNING:|Call Trace|Oops|NETDEV WATCHDOG|DMAR:.*[Ff]ault' /tmp/log | lines guest kernel.trouble
}

# interface BDF: its name, such as eth0
interface() {
  ls "$sys/$1/net" 2>/dev/null | head -n 1
}

has_interface() { [ -n "$(interface "$1")" ]; }
has_carrier() { [ "$(cat "/sys/class/net/$1/carrier" 2>/dev/null)" = 1 ]; }

# up INTERFACE ADDRESS: an address and a link
up() {
  ip addr replace "$2/24" dev "$1"
  ip link set "$1" up
  wait_for 60 has_carrier "$1"
}

# pings KEY ADDRESS [BYTES]: how many of three requests were answered
pings() {
  echo "@ $name ping.$1 $(ping -c 3 -i 0.2 -W 20 -s "${3:-56}" "$2" | sed -n 's/.* \([0-9]*\) packets received.*/\1/p')"
}

# transfers KEY ADDRESS BYTES: both ways
transfers() {
  net up "$name" "tcp.$1.up" "$2" $port "$3"
  net down "$name" "tcp.$1.down" "$2" $port "$3"
}

# Of the scenario: $name, $bdf, $card, $address, $peer.

meet() { ask meet "$1"; }

vlan() {
  ip link add link "$card" name vlan5 type vlan id 5
  up vlan5 "${address%.*.*}.5.${address##*.}"
}

talk_9000() {
  pings peer.9000 "$peer" 8900
  transfers peer.9000 "$peer" "$bytes"
}

talk_vlan() {
  pings vlan "${peer%.*.*}.5.${peer##*.}"
  transfers vlan "${peer%.*.*}.5.${peer##*.}" "$bytes"
}

flr() {
  ip link set "$card" down
  cat "$sys/$bdf/reset_method" | lines "$name" reset.method
  echo 1 >"$sys/$bdf/reset"
  echo "@ $name reset.status $?"
  up "$card" "$address"
  pings reset "$peer"
  kernel_says "$name" reset
}

# The driver goes while both directions are busy.
at_work() {
  net up "$name" passing.up "$peer" $port 100000000000 >/dev/null &
  local up_pid=$!
  net down "$name" passing.down "$peer" $port 100000000000 >/dev/null &
  sleep 1
  "$@"
  kill $up_pid $!
}

unbind() { echo "$bdf" >"$sys/$bdf/driver/unbind"; }

rebind() {
  at_work unbind
  echo "@ $name unbound $(basename "$(readlink "$sys/$bdf/driver")")"
  echo "$bdf" >/sys/bus/pci/drivers_probe
  again unbound
}

again() { # KEY
  wait_for 60 has_interface "$bdf"
  card=$(interface "$bdf")
  up "$card" "$address"
  wait_for 3 ping -c 1 -W 1 "$peer"
  pings "$1" "$peer"
  kernel_says "$name" "$1"
}

# Interrupts of the card's vectors, all processors together.
interrupts() { # BDF
  for irq in $(ls "$sys/$1/msi_irqs" 2>/dev/null || cat "$sys/$1/irq"); do
    awk -v irq="$irq:" '$1 == irq { sum = 0; for (i = 2; i <= NF && $i ~ /^[0-9]+$/; i++) sum += $i; print $NF, sum }' /proc/interrupts
  done
}

phase() { # NAME: runs it, and prints how long it took
  local before=$(cut -d' ' -f1 /proc/uptime)
  "$1"
  echo "@ $name took.$1 $(cut -d' ' -f1 /proc/uptime | awk -v b="$before" '{ print $1 - b }')"
}

for module in $(cat /modules/net); do insmod "/modules/$module.ko"; done
