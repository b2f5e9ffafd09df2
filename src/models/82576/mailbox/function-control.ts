/**
 * The PF's hand on virtual functions (8.14): VFRE and VFTE say which pools receive and transmit,
 * VFLRE says which functions were reset.
 */
import { Ctrl, Icr, ofQueue, Reg, Xdctl } from '../../../abi/82576.ts';
import { MAILBOX_WORDS } from '../../../abi/82576-mailbox.ts';
import { type CardPart, type CardPort, type InterruptPort, POOLS, QUEUES, type ResetKind } from '../parts.ts';
import type { RegisterSpace } from '../register-space.ts';

/** Registers of a VF in the PF's space are this far apart (8.26). */
const VF_STRIDE = 0x100;
const ALL = (1 << POOLS) - 1;

/** Registers of a queue that its driver sets. */
const queueRegisters = [
  Reg.RDBAL,
  Reg.RDBAH,
  Reg.RDLEN,
  Reg.SRRCTL,
  Reg.RDH,
  Reg.RXCTL,
  Reg.RDT,
  Reg.RXDCTL,
  Reg.RQDPC,
  Reg.TDBAL,
  Reg.TDBAH,
  Reg.TDLEN,
  Reg.TDH,
  Reg.TXCTL,
  Reg.TDT,
  Reg.TXDCTL,
  Reg.TDWBAL,
  Reg.TDWBAH,
] as const;

export interface FunctionControlPorts {
  readonly card: CardPort;
  readonly interrupts: InterruptPort;
  /** VFRE or VFTE was written: queues of pools go on, or stop. */
  enablesChanged(): void;
  /** VF `vf` resets itself by VTCTRL.RST. */
  resetFunction(vf: number): void;
}

export class FunctionControl implements CardPart {
  readonly #registers: RegisterSpace;
  readonly #words: Uint32Array;
  readonly #ports: FunctionControlPorts;

  constructor(registers: RegisterSpace, ports: FunctionControlPorts) {
    this.#registers = registers;
    this.#words = registers.words;
    this.#ports = ports;
    const enables = { reset: ALL, writable: ALL, write: () => ports.enablesChanged() };
    registers.declare([
      { name: 'VFLRE', offset: Reg.VFLRE, section: '8.14.7', writable: 0, writeOneClears: ALL },
      { ...enables, name: 'VFRE', offset: Reg.VFRE, section: '8.14.8' },
      { ...enables, name: 'VFTE', offset: Reg.VFTE, section: '8.14.8' },
      {
        name: 'PVTCTRL',
        offset: Reg.PVTCTRL,
        count: POOLS,
        stride: VF_STRIDE,
        section: '8.26.2.1',
        writable: 0,
        write: (vf, _, written) => {
          if ((written & Ctrl.RST) !== 0) ports.resetFunction(vf);
        },
      },
    ]);
  }

  /**
   * The PF hears of a VF's reset, and lets the function in again when it has asked (4.6.11.2.3). A
   * reset of the PF, too, leaves functions outside: the PF has no filters for them yet.
   */
  reset(reset: ResetKind): void {
    if (reset.kind === 'vf') this.#resetRegisters(reset.vf);
    const { card } = this.#ports;
    let outside = 0;
    for (let vf = 0; vf < POOLS; vf++) {
      if (reset.kind === 'vf' ? vf === reset.vf : card.functionAt(vf) !== null) outside |= 1 << vf;
    }
    this.#words[Reg.VFRE >>> 2]! &= ~outside;
    this.#words[Reg.VFTE >>> 2]! &= ~outside;
    if (reset.kind !== 'vf' || reset.silent === true) return;
    this.#words[Reg.VFLRE >>> 2]! |= outside;
    this.#ports.enablesChanged();
    this.#ports.interrupts.cause(Icr.VMMB);
  }

  /**
   * Queues of the function are as new, and off (4.2.2). Its mailbox is empty: the next tenant must
   * not read the messages of this one.
   */
  #resetRegisters(vf: number): void {
    for (let queue = vf; queue < QUEUES; queue += POOLS) {
      for (const register of queueRegisters) this.#registers.resetAt(ofQueue(register, queue));
      this.#words[ofQueue(Reg.RXDCTL, queue) >>> 2]! &= ~Xdctl.ENABLE;
      this.#words[ofQueue(Reg.TXDCTL, queue) >>> 2]! &= ~Xdctl.ENABLE;
    }
    this.#registers.resetAt(Reg.PSRTYPE + vf * 4);
    const mailbox = (Reg.VMBMEM >>> 2) + vf * MAILBOX_WORDS;
    this.#words.fill(0, mailbox, mailbox + MAILBOX_WORDS);
  }
}
