# One of two guests, each with a virtual function of one card, whose physical function the host
# drives. Goes behind net-common.sh. It prints facts only: the host checks them.
name=$(given net.name)
bdf=$(given net.bdf)
address=$(given net.address)
peer=$(given net.peer)
physical=$(given net.physical)
bytes=$(given net.bytes)

describe() {
  wait_for 60 has_interface "$bdf"
  card=$(interface "$bdf")
  echo "@ $name driver $(basename "$(readlink "$sys/$bdf/driver")")"
  echo "@ $name mac $(cat "/sys/class/net/$card/address")"
  kernel_says "$name" probe
  up "$card" "$address"
  ethtool "$card" | sed -n 's/^\s*\(Speed\|Duplex\|Link detected\): /\1: /p' | lines "$name" link
  ethtool -t "$card" >/tmp/test 2>&1
  echo "@ $name test.status $?"
  wait_for 60 has_carrier "$card"
  kernel_says "$name" link
}

talk() {
  pings physical "$physical"
  pings peer "$peer"
  transfers peer.1500 "$peer" "$bytes"
}

has_no_carrier() { ! has_carrier "$1"; }

# The host's driver of the physical function ends, and comes again.
link_changes() {
  ask driver-ends
  wait_for 60 has_no_carrier "$card"
  echo "@ $name carrier.without $(cat "/sys/class/net/$card/carrier")"
  ask driver-comes
  wait_for 60 has_carrier "$card"
  echo "@ $name carrier.with $(cat "/sys/class/net/$card/carrier")"
  kernel_says "$name" again
}

# The host has reset the physical function, and that has cleared COMMAND of its virtual functions,
# which a guest does not see: its driver has to come anew.
comes_anew() {
  echo "$bdf" >"$sys/$bdf/driver/unbind"
  echo "$bdf" >/sys/bus/pci/drivers_probe
  wait_for 60 has_interface "$bdf"
  card=$(interface "$bdf")
  up "$card" "$address"
}

after_restart() {
  wait_for 3 ping -c 1 -W 1 "$peer"
  pings again "$peer"
}

# igbvf takes an interface that is down for one that is up, and waits for ever: it must be up.
reset_at_work() {
  at_work reset_function
  echo "@ $name reset.status $status"
  again reset
}

reset_function() {
  echo 1 >"$sys/$bdf/reset"
  status=$?
}

phase describe
net serve $port &
meet start
[ "$name" = second ] || phase talk
meet jumbo
ip link set "$card" mtu 9000
wait_for 60 has_carrier "$card"
meet jumbo-set
[ "$name" = second ] || phase talk_9000
meet vlan
phase vlan
meet vlan-set
[ "$name" = second ] || phase talk_vlan
meet quiet
kernel_says "$name" end
[ "$name" = second ] || phase link_changes
meet driver-is-back
phase comes_anew
meet restarted
if [ "$name" = first ]; then
  phase after_restart
  phase reset_at_work
  phase rebind
fi
meet end
true
