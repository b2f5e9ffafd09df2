/** `vfio net echo`: a station that answers. */
import { macBytes } from '../../drivers/82576/mac-address.ts';
import type { Port } from '../../drivers/82576/port.ts';
import { accessIn, type DeviceAccess } from '../device-access.ts';
import { grouped } from '../quantities.ts';
import { type Answer, answer } from './answers.ts';
import { openPort } from './open-port.ts';
import { type StopOptions, Stopwatch } from './stop.ts';
import type { Interrupts } from './values.ts';

/** The longest frames get an answer, too. */
const MTU = 9728 - 22;

/** Frames by the kind of their answer. */
export type Answers = Record<Answer, number>;

/** Which frames get an answer. */
export interface AnswerOptions {
  /** The IPv4 address that it answers for; null: none. */
  readonly ip: Uint8Array | null;
  /** Also frames that are neither ARP nor ping are sent back. */
  readonly swap: boolean;
}

/** Answers frames until `stop`. @throws VfioError when the port fails before */
export async function answerFrames(port: Port, { ip, swap }: AnswerOptions, stop: Stopwatch): Promise<Answers> {
  const station = { mac: macBytes(port.mac), ip };
  const counts: Answers = { arp: 0, ping: 0, swapped: 0, ignored: 0 };
  for await (const { bytes, vlan } of port.frames({ signal: stop.signal })) {
    const kind = answer(station, bytes, bytes.length);
    const wanted = kind !== 'ignored' && (kind !== 'swapped' || swap);
    counts[wanted ? kind : 'ignored']++;
    if (!wanted) continue;
    await port.send(bytes, vlan === null ? {} : { vlan });
    stop.took();
  }
  return counts;
}

export interface EchoOptions extends StopOptions, DeviceAccess {
  readonly ip?: Uint8Array | undefined;
  readonly interrupts: Interrupts;
  readonly signal: AbortSignal;
  /** Called when frames can arrive. */
  readonly ready: (line: string) => void;
}

/** @returns the line for people */
export async function echo(address: string, options: EchoOptions): Promise<string> {
  const { ip = null, interrupts, signal, ready } = options;
  await using port = await openPort(address, { mtu: MTU, interrupts, ...accessIn(options) });
  using stop = new Stopwatch(options, signal);
  ready(`${port.mac} answers${ip === null ? '' : ` for ${ip.join('.')}`}`);
  return answersLine(await answerFrames(port, { ip, swap: true }, stop));
}

/** `3 ARP, 10 pings, 0 frames sent back, 2 ignored`. */
export function answersLine({ arp, ping, swapped, ignored }: Answers): string {
  return `answered ${grouped(arp)} ARP, ${grouped(ping)} pings; ${grouped(swapped)} frames sent back, ${grouped(ignored)} ignored`;
}
