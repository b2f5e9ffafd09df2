/**
 * The link of a 1000BASE-T port: what the PHY finds at the other end of the wire, how long the two
 * negotiate, and what the MAC makes of it (3.5, 8.2.2).
 */
import { Ctrl, Icr, Reg, Status } from '../../../abi/82576.ts';
import { Pctrl } from '../../../abi/82576-phy.ts';
import type { Clock } from '../../../base/clock.ts';
import type { InterruptPort } from '../parts.ts';
import type { RegisterSpace } from '../register-space.ts';

/**
 * How long auto-negotiation takes. Silicon takes two seconds or more, and drivers only wait for its
 * end; the time is here so that software sees a link that is not up yet.
 */
export const NEGOTIATION_MS = 20;

/** The end of the wire, as the link sees it. */
export interface LinkWire {
  readonly carrier: boolean;
  setLink(on: boolean): void;
  linkChanged(): void;
}

/** State for a migration. */
export interface LinkState {
  readonly negotiated: boolean;
  readonly phyUp: boolean;
  readonly lost: boolean;
  readonly up: boolean;
}

/** The PHY, as the link asks it. */
export interface PhyControl {
  /** PCTRL (8.25.3.1). */
  readonly control: number;
}

export class Link {
  /** Auto-negotiation has ended well (PSTATUS bit 5). */
  negotiated = false;
  /** The PHY's link, which the MAC may not look at. */
  phyUp = false;
  /** PSTATUS bit 2 reads as 0 once after a loss. */
  lost = false;
  readonly #words: Uint32Array;
  readonly #clock: Clock;
  readonly #interrupts: InterruptPort;
  readonly #wire: LinkWire;
  readonly #phy: PhyControl;
  #timer: Disposable | null = null;
  #up = false;
  #stopped = false;
  /** The link has changed: wake-up by it (8.20.2). */
  onChange: () => void = () => {};

  constructor(registers: RegisterSpace, clock: Clock, interrupts: InterruptPort, wire: LinkWire, phy: PhyControl) {
    this.#words = registers.words;
    this.#clock = clock;
    this.#interrupts = interrupts;
    this.#wire = wire;
    this.#phy = phy;
  }

  /** STATUS.LU: the PHY's link, while software lets the MAC see it (CTRL.SLU, 8.2.1). */
  get up(): boolean {
    return this.#up;
  }

  /** PHY loopback (3.5.6.3): the PHY sends frames back, whatever is plugged in. */
  get loopback(): boolean {
    return (this.#phy.control & (Pctrl.LOOPBACK | Pctrl.POWER_DOWN)) === Pctrl.LOOPBACK;
  }

  /** PCTRL was written, or the PHY was reset. @param again negotiation begins anew */
  controlChanged(again: boolean): void {
    if (again) this.#drop();
    this.#look();
  }

  carrierChanged(): void {
    this.#look();
  }

  /** Power is there. */
  start(): void {
    this.#look();
  }

  /** A reset of the MAC: STATUS has its values after a reset. */
  macReset(): void {
    this.#up = false;
    this.#show();
  }

  /** CTRL was written. */
  macChanged(): void {
    this.#show();
  }

  #look(): void {
    const { control } = this.#phy;
    const powered = (control & Pctrl.POWER_DOWN) === 0;
    this.#wire.setLink(powered && !this.loopback);
    if (this.loopback) {
      this.#drop();
      this.phyUp = true;
    } else if (!powered || !this.#wire.carrier) {
      this.#drop();
    } else if ((control & Pctrl.AN_ENABLE) === 0) {
      this.#stopTimer();
      this.negotiated = false;
      this.phyUp = true;
    } else if (!this.negotiated) {
      this.#drop();
      this.#negotiate();
    }
    this.#show();
  }

  #drop(): void {
    this.#stopTimer();
    if (this.phyUp) this.lost = true;
    this.phyUp = false;
    this.negotiated = false;
  }

  #negotiate(): void {
    if (this.#stopped) return;
    this.#timer = this.#clock.after(NEGOTIATION_MS, () => {
      this.#timer = null;
      this.negotiated = true;
      this.phyUp = true;
      this.#show();
    });
  }

  #stopTimer(): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = null;
  }

  /** STATUS follows (8.2.2); a change is a cause (ICR.LSC). */
  #show(): void {
    const ctrl = this.#words[Reg.CTRL >>> 2]!;
    const up = this.phyUp && (ctrl & Ctrl.SLU) !== 0;
    const at = Reg.STATUS >>> 2;
    this.#words[at] = ((this.#words[at]! & ~Status.LU) | (up ? Status.LU : 0)) >>> 0;
    if (up === this.#up) return;
    this.#up = up;
    this.#interrupts.cause(Icr.LSC);
    this.onChange();
    this.#wire.linkChanged();
  }

  /** Time stands still for a migration. */
  pause(): void {
    this.#stopped = true;
    this.#stopTimer();
  }

  /** A negotiation that was under way begins anew; the partner may be another one. */
  goOn(): void {
    this.#stopped = false;
    this.#look();
  }

  save(): LinkState {
    const { negotiated, phyUp, lost } = this;
    return { negotiated, phyUp, lost, up: this.#up };
  }

  load({ negotiated, phyUp, lost, up }: LinkState): void {
    this.negotiated = negotiated;
    this.phyUp = phyUp;
    this.lost = lost;
    this.#up = up;
  }

  dispose(): void {
    this.#stopTimer();
  }
}
