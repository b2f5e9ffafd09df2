/** The filter of an 82576 between a wire and queues that a test looks at. */
import { Reg, Tsyncctl } from '../../../src/abi/82576.ts';
import { ReceiveFilter } from '../../../src/models/82576/filter/receive-filter.ts';
import type { ReceivedFrame, ReceivePort, StatisticsPort } from '../../../src/models/82576/parts.ts';
import { RegisterSpace } from '../../../src/models/82576/register-space.ts';

/** A frame in a queue: a copy of what the rings got. */
export interface Arrival extends ReceivedFrame {
  readonly queue: number;
  readonly data: Uint8Array;
}

export class FilterRig implements ReceivePort, StatisticsPort {
  readonly registers = new RegisterSpace(0x2_0000);
  readonly filter: ReceiveFilter;
  readonly arrivals: Arrival[] = [];
  /** Counters by their offset, and by pool: `3 received looped`. */
  readonly counts = new Map<number, number>();
  readonly poolCounts: string[] = [];
  /** First bytes of precision time messages that were stamped. */
  readonly stamped: number[] = [];
  good = 0;
  sent = 0;
  /** Queues without descriptors. */
  full = 0;
  /** Called when a frame is in a queue, as an interrupt would be. */
  onArrival: (queues: number) => void = () => {};

  constructor() {
    this.registers.declare([
      { name: 'CTRL', offset: Reg.CTRL, section: '8.2.1' },
      { name: 'TSYNCRXCTL', offset: Reg.TSYNCRXCTL, section: '8.16.1' },
      { name: 'CTRL_EXT', offset: Reg.CTRL_EXT, section: '8.2.3' },
    ]);
    this.filter = new ReceiveFilter(this.registers, {
      rings: this,
      statistics: this,
      station: () => Uint8Array.of(2, 0, 0, 0, 0, 1),
      receiveControlChanged: () => {},
      time: {
        received: (bytes, ptp) => {
          this.stamped.push(bytes[ptp]!);
          this.set(Reg.TSYNCRXCTL, Tsyncctl.EN | Tsyncctl.VALID);
        },
      },
    });
  }

  set(register: number, value: number, index = 0): void {
    this.registers.write(register + index * 4, value);
  }

  get(register: number, index = 0): number {
    return this.registers.words[(register >>> 2) + index]!;
  }

  fromWire(frame: Uint8Array): Arrival[] {
    const before = this.arrivals.length;
    // In the middle of a larger buffer, as on a wire.
    const buffer = new Uint8Array(frame.length + 37).fill(0xee);
    buffer.set(frame, 19);
    this.filter.receive(buffer, 19, frame.length);
    return this.arrivals.slice(before);
  }

  receive(frame: ReceivedFrame, queues: number): number {
    const data = frame.bytes.slice(frame.offset, frame.offset + frame.length);
    const took = queues & ~this.full;
    for (let queue = 0; queue < 16; queue++) if ((took & (1 << queue)) !== 0) this.arrivals.push({ ...frame, queue, data });
    if (took !== 0) this.onArrival(took);
    return took;
  }

  count(register: number, by = 1): void {
    this.counts.set(register, (this.counts.get(register) ?? 0) + by);
  }

  received(): void {
    this.good++;
  }

  transmitted(): void {
    this.sent++;
  }

  poolReceived(pool: number, _length: number, multicast: boolean, looped: boolean): void {
    this.poolCounts.push(`${pool} received${multicast ? ' multicast' : ''}${looped ? ' looped' : ''}`);
  }

  poolTransmitted(pool: number, _length: number, looped: boolean): void {
    this.poolCounts.push(`${pool} sent${looped ? ' looped' : ''}`);
  }
}

/** Writes entry `index` of the exact addresses. */
export function setAddress(rig: FilterRig, index: number, address: readonly number[], pools: number): void {
  const at = index < 16 ? Reg.RAL + index * 8 : Reg.RAL2 + (index - 16) * 8;
  rig.registers.write(at, (address[0]! | (address[1]! << 8) | (address[2]! << 16) | (address[3]! << 24)) >>> 0);
  rig.registers.write(at + 4, ((address[4]! | (address[5]! << 8) | (pools << 18) | 0x8000_0000) >>> 0) as number);
}
