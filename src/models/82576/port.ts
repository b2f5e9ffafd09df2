/**
 * The MAC's end of the wire: frames out and in, and the loopback of the PHY. The link itself is the
 * PHY's (phy/).
 */
import { Rctl, Reg } from '../../abi/82576.ts';
import { Stat } from '../../abi/82576-statistics.ts';
import type { Wire, WireEnd, WirePort } from '../../abi/wire.ts';
import type { FramePort, MacPort } from './parts.ts';
import type { Link } from './phy/link.ts';
import type { WakeUp } from './power/wake-up.ts';
import type { RegisterSpace } from './register-space.ts';
import type { Statistics } from './statistics/statistics.ts';

/** The frame check sequence, which a wire does not carry and registers count. */
const FCS = 4;

export class Port implements MacPort, WirePort {
  readonly #words: Uint32Array;
  readonly #statistics: Statistics;
  readonly #wake: WakeUp;
  readonly #end: WireEnd | null;
  #link: Link | null = null;
  #frames: FramePort | null = null;
  #resume: () => void = () => {};
  /** Frames that loopback brings back, one within the other: a reply to a reply ends here. */
  #depth = 0;

  constructor(wire: Wire | undefined, registers: RegisterSpace, statistics: Statistics, wake: WakeUp) {
    this.#words = registers.words;
    this.#statistics = statistics;
    this.#wake = wake;
    this.#end = wire === undefined ? null : wire.plug(this);
  }

  /** @param resume the wire takes frames again   @param frames gets frames from the wire */
  connect(link: Link, frames: FramePort, resume: () => void): void {
    this.#link = link;
    this.#frames = frames;
    this.#resume = resume;
    link.start();
  }

  /** The partner's link. */
  get carrier(): boolean {
    return this.#end?.up === true;
  }

  setLink(on: boolean): void {
    this.#end?.setLink(on);
  }

  /** Without a link the transmitter stands still, and queues keep their packets. */
  get ready(): boolean {
    return this.#link?.up === true && (this.#looped || this.#end!.ready);
  }

  /** The link has come up or gone. */
  linkChanged(): void {
    if (this.#link!.up) this.#resume();
  }

  /**
   * Loopback of the PHY (3.5.6.3), or of the MAC: that the datasheet leaves out (3.5.6.2), though
   * RCTL.LBM has a value for it, and drivers that also run on QEMU's igb set it.
   */
  get #looped(): boolean {
    return this.#link!.loopback || (this.#words[Reg.RCTL >>> 2]! & Rctl.LBM) === Rctl.LBM_MAC;
  }

  send(bytes: Uint8Array, offset: number, length: number): void {
    if (!this.#link!.up) {
      this.#statistics.count(Stat.TNCRS);
      return;
    }
    this.#statistics.transmitted(bytes, offset, length);
    if (this.#looped) {
      if (this.#depth > 0) return;
      this.#depth++;
      try {
        this.#take(bytes, offset, length);
      } finally {
        this.#depth--;
      }
      return;
    }
    this.#end!.send(bytes, offset, length);
  }

  receive(bytes: Uint8Array, offset: number, length: number): void {
    const link = this.#link!;
    if (link.loopback || !link.up) return;
    this.#take(bytes, offset, length);
  }

  #take(bytes: Uint8Array, offset: number, length: number): void {
    if (this.#wake.asleep) {
      this.#wake.arrived(bytes, offset, length);
      return;
    }
    if ((this.#words[Reg.RCTL >>> 2]! & Rctl.RXEN) === 0) return;
    this.#statistics.arrived(length + FCS);
    this.#frames!.arrive(bytes, offset, length);
  }

  carrierChanged(): void {
    this.#link?.carrierChanged();
  }

  readyAgain(): void {
    this.#resume();
  }

  dispose(): void {
    this.#end?.[Symbol.dispose]();
  }
}
