# One of two guests, each with a card of its own, on one switch with the host. The first works; the
# second answers, and both do what they must do together. Goes behind net-common.sh. It prints facts
# only: the host checks them.
name=$(given net.name)
bdf=$(given net.bdf)
address=$(given net.address)
peer=$(given net.peer)
host=$(given net.host)
bytes=$(given net.bytes)

describe() {
  wait_for 60 has_interface "$bdf"
  card=$(interface "$bdf")
  echo "@ $name driver $(basename "$(readlink "$sys/$bdf/driver")")"
  ethtool -i "$card" | grep -v version: | lines "$name" driver.info
  echo "@ $name mac $(cat "/sys/class/net/$card/address")"
  lspci -s "$bdf" -vv | sed -n 's/^\s*\(Capabilities: .*\)/\1/p' | lines "$name" lspci
  kernel_says "$name" probe
}

link() {
  up "$card" "$address"
  ethtool "$card" | sed -n 's/^\s*\(Speed\|Duplex\|Auto-negotiation\|Link detected\): /\1: /p' | lines "$name" link
  kernel_says "$name" link
}

self_test() {
  ethtool -t "$card" offline >/tmp/test 2>&1
  echo "@ $name test.status $?"
  sed 's/\s\s*/ /g' /tmp/test | lines "$name" test
  wait_for 60 has_carrier "$card"
  kernel_says "$name" test
}

meet() { ask meet "$1"; }

statistics() {
  meet quiet
  ethtool -S "$card" | sed -n 's/^ *\([a-z0-9_]*\): \([0-9]*\)$/\1 \2/p' | lines "$name" statistics
  cat "/sys/class/net/$card/statistics/rx_packets" "/sys/class/net/$card/statistics/tx_packets" | lines "$name" packets
  interrupts "$bdf" | lines "$name" interrupts
  meet counted
}

talk_1500() {
  pings peer "$peer"
  transfers peer.1500 "$peer" "$bytes"
  [ -z "$host" ] || pings host "$host"
  [ -z "$host" ] || transfers host.1500 "$host" "$bytes"
}

talk_9000() {
  pings peer.9000 "$peer" 8900
  transfers peer.9000 "$peer" "$bytes"
  [ -z "$host" ] || transfers host.9000 "$host" "$bytes"
}

vlan() {
  ip link add link "$card" name vlan5 type vlan id 5
  up vlan5 "${address%.*.*}.5.${address##*.}"
}

talk_vlan() {
  pings vlan "${peer%.*.*}.5.${peer##*.}"
  transfers vlan "${peer%.*.*}.5.${peer##*.}" "$bytes"
}

# All of a suspend that the card takes part in, D3hot too: the kernel turns back where the machine
# would sleep.
suspend() {
  echo platform >/sys/power/pm_test
  echo 1 >/sys/module/suspend/parameters/pm_test_delay
  echo freeze >/sys/power/state
  echo "@ $name suspend.status $?"
  wait_for 60 has_carrier "$card"
  pings suspend "$peer"
  kernel_says "$name" suspend
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

remove() { echo 1 >"$sys/$bdf/remove"; }

removal() {
  at_work remove
  echo "@ $name removed $([ -e "$sys/$bdf" ] && echo present || echo gone)"
  echo 1 >/sys/bus/pci/rescan
  again removed
}

again() { # KEY
  wait_for 60 has_interface "$bdf"
  card=$(interface "$bdf")
  up "$card" "$address"
  wait_for 20 ping -c 1 -W 1 "$peer"
  pings "$1" "$peer"
  kernel_says "$name" "$1"
}

phase describe
phase link
phase self_test
net serve $port &
meet start
[ "$name" = second ] || phase talk_1500
meet jumbo
ip link set "$card" mtu 9000
wait_for 60 has_carrier "$card"
meet jumbo-set
[ "$name" = second ] || phase talk_9000
meet vlan
phase vlan
meet vlan-set
[ "$name" = second ] || phase talk_vlan
phase statistics
if [ "$name" = first ]; then
  phase suspend
  phase flr
  phase rebind
  phase removal
fi
kernel_says "$name" end
meet end
true
