/** The switch of an 82576, with all pools on: queues and the wire are lists of frames. */
import { Dtxctl, Dtxswc, Mrqc, Rctl, Reg, Vmolr, VtCtl } from '../../../src/abi/82576.ts';
import { FunctionControl } from '../../../src/models/82576/mailbox/function-control.ts';
import { TransmitSwitch } from '../../../src/models/82576/switch/transmit-switch.ts';
import { type Arrival, FilterRig, setAddress } from './filter-rig.ts';
import { macOf } from './frames.ts';

/** The address of pool `pool`. */
export const poolAddress = (pool: number): string => `02:00:00:00:01:0${pool}`;

export class SwitchRig extends FilterRig {
  readonly switch: TransmitSwitch;
  readonly wire: Uint8Array[] = [];
  readonly causes: number[] = [];

  constructor() {
    super();
    const { registers } = this;
    const interrupts = {
      received: () => {},
      transmitted: () => {},
      cause: (icr: number) => this.causes.push(icr),
      causeOfVf: () => {},
    };
    new FunctionControl(registers, {
      card: { ownerOf: () => null, functionAt: () => null, virtualized: true, virtualFunctions: 8 },
      interrupts,
      enablesChanged: () => {},
      resetFunction: () => {},
    });
    registers.declare([{ name: 'DTXCTL', offset: Reg.DTXCTL, section: '8.12.4', reset: Dtxctl.SPOOF_INT }]);
    this.switch = new TransmitSwitch(registers, {
      filter: this.filter,
      mac: { ready: true, send: (bytes, offset, length) => this.wire.push(bytes.slice(offset, offset + length)) },
      statistics: this,
      interrupts,
    });
    this.set(Reg.RCTL, Rctl.RXEN | Rctl.SECRC | Rctl.BAM);
    this.set(Reg.MRQC, Mrqc.VMDQ);
    this.set(Reg.VT_CTL, VtCtl.RPL_EN);
    this.set(Reg.DTXSWC, Dtxswc.LOOPBACK_EN);
    for (let pool = 0; pool < 8; pool++) {
      setAddress(this, pool, macOf(poolAddress(pool)), 1 << pool);
      this.set(Reg.VMOLR, (Vmolr.BAM | Vmolr.AUPE | Vmolr.STRCRC | 0x2600) >>> 0, pool);
    }
  }

  /** @returns what has arrived in queues */
  transmit(queue: number, frame: Uint8Array, vlan = -1): Arrival[] {
    const before = this.arrivals.length;
    const buffer = new Uint8Array(frame.length + 16);
    buffer.set(frame, 8);
    this.switch.transmit(queue, buffer, 8, frame.length, vlan);
    return this.arrivals.slice(before);
  }

  queues(arrivals: readonly Arrival[]): number[] {
    return arrivals.map(({ queue }) => queue);
  }
}
