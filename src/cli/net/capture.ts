/** `vfio net capture`: frames as pcapng. */
import { FrameCapture } from '../../base/frame-capture.ts';
import { macBytes } from '../../drivers/82576/mac-address.ts';
import { accessIn, type DeviceAccess } from '../device-access.ts';
import { openSink, refuseTerminal } from '../nvme/files.ts';
import { grouped } from '../quantities.ts';
import { openPort } from './open-port.ts';
import { ETHERNET_BYTES, EtherType, VLAN_BYTES, write16 } from './protocols.ts';
import { type StopOptions, Stopwatch } from './stop.ts';
import type { Interrupts } from './values.ts';

/** The longest frames are received, too. */
const MTU = 9728 - 22;

export interface CaptureOptions extends StopOptions, DeviceAccess {
  readonly promiscuous: boolean;
  readonly interrupts: Interrupts;
  /** Of the capture's header: the version of the package. */
  readonly program: string;
  readonly signal: AbortSignal;
  /** Called when frames can arrive. */
  readonly ready?: (line: string) => void;
}

/** @param output  a file; - is standard output   @returns the line for people */
export async function capture(address: string, output: string, options: CaptureOptions): Promise<string> {
  const { promiscuous, interrupts, program, signal, ready } = options;
  refuseTerminal(output, 'a capture');
  await using port = await openPort(address, { mtu: MTU, interrupts, receiveEntries: 2048, ...accessIn(options) });
  await using sink = await openSink(output);
  using stop = new Stopwatch(options, signal);
  if (promiscuous) await port.setPromiscuous({ all: true, groups: true });
  const file = new FrameCapture(program, [{ name: port.dev.name, mac: macBytes(port.mac) }]);
  // Wireshark shows an empty capture at once.
  for (const piece of file.begin()) await sink.write(piece);
  ready?.(`${port.mac} captures to ${sink.name}`);
  const epochNs = BigInt(Date.now()) * 1_000_000n - process.hrtime.bigint();
  let frames = 0;
  for await (const { bytes, vlan } of port.frames({ signal: stop.signal })) {
    const whole = vlan === null ? bytes : tagged(bytes, vlan);
    await sink.write(file.frame(whole, epochNs + process.hrtime.bigint(), 'inbound'));
    frames++;
    stop.took();
  }
  const missed = port.statistics().registers.MPC ?? 0;
  return `${grouped(frames)} frames captured${missed === 0 ? '' : `, ${grouped(missed)} missed by the card`}`;
}

/** The frame with the tag that the card has taken out. */
function tagged(bytes: Uint8Array, tag: number): Uint8Array {
  const whole = new Uint8Array(bytes.length + VLAN_BYTES);
  const addresses = ETHERNET_BYTES - 2;
  whole.set(bytes.subarray(0, addresses));
  write16(whole, addresses, EtherType.VLAN);
  write16(whole, addresses + 2, tag);
  whole.set(bytes.subarray(addresses), addresses + VLAN_BYTES);
  return whole;
}
