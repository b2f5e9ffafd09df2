/** In a network namespace of its own: a port on a tap, and what the kernel answers. Prints JSON. */
import { execFileSync } from 'node:child_process';
import { constants, openSync } from 'node:fs';
import { VfioError } from '../../src/base/errno.ts';
import { addon } from '../../src/sys/addon.ts';
import { descriptorWire, tapWire } from '../../src/sys/wires/open-wire.ts';
import { openTap } from '../../src/sys/wires/tap.ts';
import { until } from './event-loop.ts';
import { TestPort } from './wire-port.ts';

const ip = (...args: readonly string[]) => void execFileSync('ip', args);
const carrier = () => !execFileSync('ip', ['link', 'show', 'vt0'], { encoding: 'utf8' }).includes('NO-CARRIER');
const refusal = (name: string) => {
  try {
    openTap(name);
    return 'none';
  } catch (error) {
    if (error instanceof VfioError) return `${error.code}: ${error.message}`;
    throw error;
  }
};

const lines: string[] = [];
const wire = tapWire('vt0', { report: (line) => lines.push(line) });
ip('addr', 'add', '10.0.0.1/24', 'dev', 'vt0');
ip('link', 'set', 'vt0', 'up');
const carrierBefore = carrier();
const port = new TestPort(wire);
const carrierWithLink = carrier();

const replies: Buffer[] = [];
port.receive = (bytes, offset, length) => {
  const frame = Buffer.from(bytes.subarray(offset, offset + length));
  if (frame.readUInt16BE(12) === 0x0806) replies.push(frame);
};
const request = Buffer.from(
  'ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 0a000002 000000000000 0a000001'.replaceAll(' ', ''),
  'hex',
);
port.end.send(request, 0, request.length);
await until(() => replies.some((frame) => frame.readUInt16BE(20) === 2));
const reply = replies.find((frame) => frame.readUInt16BE(20) === 2)!;

ip('link', 'set', 'vt0', 'down');
port.end.send(request, 0, request.length);
const down = { ...wire.counters.lost };
const busy = refusal('vt0');
const notTap = refusal('lo');
ip('link', 'del', 'vt0');
await until(() => !port.end.up);

// A tap by the number of its descriptor, as a program that starts this one passes it.
const fd = openSync('/dev/net/tun', constants.O_RDWR | constants.O_NONBLOCK);
const ifreq = new Uint8Array(40);
ifreq.set(Buffer.from('vt1'));
new DataView(ifreq.buffer).setUint16(16, 0x1002, true);
addon().ioctlBytes(fd, 0x4004_54ca, ifreq);
const adopted = descriptorWire(fd).name;

console.log(
  JSON.stringify({
    carrierBefore,
    carrierWithLink,
    reply: `${reply.toString('hex', 20, 22)} ${reply.toString('hex', 28, 32)}`,
    busy,
    notTap,
    down,
    gone: [port.end.up, lines.join()],
    adopted,
  }),
);
process.exit(0);
