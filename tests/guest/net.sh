# One of two guests on one switch, each with a card. The first guest works; the second answers, and
# both do what they must do together. The first has another card, whose wire is a tap of the host.
# Goes behind net-common.sh. It prints facts only: the host checks them.
name=$(given net.name)
bdf=$(given net.bdf)
address=$(given net.address)
peer=$(given net.peer)
host=$(given net.host)
host_bdf=$(given net.host-bdf)
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

# With the interface up, igb's watchdog can find a link after the test has stopped the queues, and
# the kernel reports queues that time out.
self_test() {
  ip link set "$card" down
  ethtool -t "$card" offline >/tmp/test 2>&1
  echo "@ $name test.status $?"
  sed 's/\s\s*/ /g' /tmp/test | lines "$name" test
  ip link set "$card" up
  wait_for 60 has_carrier "$card"
  kernel_says "$name" test
}

# The output of ethtool -S.
counters() { sed -n 's/^ *\([a-z0-9_]*\): \([0-9]*\)$/\1 \2/p' | lines "$name" "$1"; }

statistics() {
  meet quiet
  ethtool -S "$card" | counters statistics
  interrupts "$bdf" | lines "$name" interrupts
  meet counted
}

talk_1500() {
  pings peer "$peer"
  transfers peer.1500 "$peer" "$bytes"
}

talk_host() {
  wait_for 60 has_interface "$host_bdf"
  tapped=$(interface "$host_bdf")
  # No frames but those of this test: the host counts them too.
  echo 1 >"/proc/sys/net/ipv6/conf/$tapped/disable_ipv6"
  up "$tapped" "${host%.*}.1"
  pings host "$host"
  transfers host.1500 "$host" "$bytes"
  ip link set "$tapped" mtu 9000
  wait_for 60 has_carrier "$tapped"
  transfers host.9000 "$host" "$bytes"
  ethtool -S "$tapped" | counters host-statistics
  ask host-counters
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

remove() { echo 1 >"$sys/$bdf/remove"; }

removal() {
  at_work remove
  echo "@ $name removed $([ -e "$sys/$bdf" ] && echo present || echo gone)"
  echo 1 >/sys/bus/pci/rescan
  again removed
}

phase describe
phase link
phase self_test
net serve $port &
meet start
[ "$name" = second ] || phase talk_1500
[ -z "$host" ] || phase talk_host
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
