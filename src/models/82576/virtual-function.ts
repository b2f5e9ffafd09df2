/**
 * A virtual function as a model (8.26): 16 KiB of registers, each of which is one of the card's.
 * An offset without an entry in the map of this function reads as 0, and takes no write.
 */
import { I82576_VF_BAR_BYTES, ofQueue, QUEUE_ALIAS_STRIDE, Reg, Status, VfReg } from '../../abi/82576.ts';
import { MAILBOX_WORDS } from '../../abi/82576-mailbox.ts';
import type { DeviceHost, Model, Width } from '../../abi/device-host.ts';
import type { Card } from './card.ts';
import { vectorsOf } from './interrupts/interrupts.ts';
import { VirtualMigration } from './migration/virtual-migration.ts';
import { POOLS } from './parts.ts';
import { Bar, narrowed } from './physical-function.ts';

/** Registers of a VF in the PF's space are this far apart. */
const VF_STRIDE = 0x100;
/** In the map: there is no register. */
const NONE = 0xffff_ffff;
/** Bits of STATUS that are the port's, and not the PF's (8.26.2.2). */
const PORT_STATUS = Status.FD | Status.LU | Status.SPEED | Status.LAN_ID;
/** Queues of a VF: queue `q` is queue `vf + 8 q` of the card (8.26.1). */
const VF_QUEUES = 2;

/** Registers that the card has once for each VF, in its own block. */
const ownBlock = [
  [VfReg.VTCTRL, Reg.PVTCTRL],
  [VfReg.VTCTRL + 4, Reg.PVTCTRL],
  [VfReg.VTEICS, Reg.PVTEICS],
  [VfReg.VTEIMS, Reg.PVTEIMS],
  [VfReg.VTEIMC, Reg.PVTEIMC],
  [VfReg.VTEIAC, Reg.PVTEIAC],
  [VfReg.VTEIAM, Reg.PVTEIAM],
  [VfReg.VTEICR, Reg.PVTEICR],
  [VfReg.VFGPRC, Reg.PVFGPRC],
  [VfReg.VFGPTC, Reg.PVFGPTC],
  [VfReg.VFGORC, Reg.PVFGORC],
  [VfReg.VFGOTC, Reg.PVFGOTC],
  [VfReg.VFMPRC, Reg.PVFMPRC],
  [VfReg.VFGPRLBC, Reg.PVFGPRLBC],
  [VfReg.VFGPTLBC, Reg.PVFGPTLBC],
  [VfReg.VFGORLBC, Reg.PVFGORLBC],
  [VfReg.VFGOTLBC, Reg.PVFGOTLBC],
] as const;

/** Registers of arrays with an element for each pool. */
const ofPool = [
  [VfReg.PSRTYPE, Reg.PSRTYPE],
  [VfReg.VTIVAR, Reg.VTIVAR],
  [VfReg.VTIVAR_MISC, Reg.VTIVAR_MISC],
] as const;

/** Registers of each queue. */
const queueRegisters = [
  'RDBAL',
  'RDBAH',
  'RDLEN',
  'SRRCTL',
  'RDH',
  'RXCTL',
  'RDT',
  'RXDCTL',
  'RQDPC',
  'TDBAL',
  'TDBAH',
  'TDLEN',
  'TDH',
  'TXCTL',
  'TDT',
  'TXDCTL',
  'TDWBAL',
  'TDWBAH',
] as const;

/** Where a register of VF `vf` is in the card, by offset / 4. */
export function registerMap(vf: number): Uint32Array {
  const map = new Uint32Array(I82576_VF_BAR_BYTES / 4).fill(NONE);
  for (const [own, card] of ownBlock) map[own >>> 2] = card + vf * VF_STRIDE;
  for (const [own, card] of ofPool) map[own >>> 2] = card + vf * 4;
  for (let i = 0; i < MAILBOX_WORDS; i++) map[(VfReg.VMBMEM >>> 2) + i] = Reg.VMBMEM + (vf * MAILBOX_WORDS + i) * 4;
  for (let i = 0; i < 3; i++) map[(VfReg.EITR >>> 2) + i] = Reg.EITR + (vectorsOf(vf) + i) * 4;
  for (let queue = 0; queue < VF_QUEUES; queue++) {
    for (const name of queueRegisters) {
      map[(VfReg[name] + queue * QUEUE_ALIAS_STRIDE) >>> 2] = ofQueue(Reg[name], vf + queue * POOLS);
    }
  }
  return map;
}

/** Registers that are the function's alone, by offset / 4: not those whose bits the PF shares. */
function ownPlaces(map: Uint32Array): Uint32Array {
  const shared = (register: number) => {
    const own = register & 0xff;
    return register >= Reg.PVTCTRL && register < Reg.VTIVAR && (own === 0 || own === 0x80 || (own >= 0x20 && own <= 0x30));
  };
  const registers = [...new Set(map)].filter((register) => register !== NONE && !shared(register));
  return Uint32Array.from(registers, (register) => register >>> 2);
}

export class VirtualFunction implements Model {
  readonly #card: Card;
  readonly #vf: number;
  readonly #map: Uint32Array;
  readonly #place: Disposable;
  readonly migration: VirtualMigration;

  constructor(host: DeviceHost, card: Card, vf: number) {
    this.#card = card;
    this.#vf = vf;
    this.#map = registerMap(vf);
    this.#place = card.attach(vf, host);
    this.migration = new VirtualMigration(card, vf, ownPlaces(this.#map));
  }

  read(bar: number, offset: number, width: Width): number {
    return bar === Bar.REGISTERS ? narrowed(this.#read(offset & ~3), offset, width) : 0;
  }

  #read(offset: number): number {
    if (offset === VfReg.VFMAILBOX) return this.#card.mailbox.readByVf(this.#vf);
    if (offset === VfReg.STATUS) return this.#card.registers.read(Reg.STATUS) & PORT_STATUS;
    if (offset === VfReg.VTFRTIMER) return this.#card.registers.read(Reg.FRTIMER);
    const register = this.#map[offset >>> 2]!;
    return register === NONE ? 0 : this.#card.registers.read(register);
  }

  write(bar: number, offset: number, width: Width, value: number): void {
    if (bar !== Bar.REGISTERS || width !== 4) return;
    if (offset === VfReg.VFMAILBOX) this.#card.mailbox.writtenByVf(this.#vf, value);
    else {
      const register = this.#map[offset >>> 2]!;
      if (register !== NONE) this.#card.registers.write(register, value);
    }
  }

  /** Function-level reset (4.2.2). */
  reset(): void {
    if (this.migration.takesReset()) this.#card.reset({ kind: 'vf', vf: this.#vf, silent: true });
    else this.#card.reset({ kind: 'vf', vf: this.#vf });
  }

  configWritten(): void {
    this.#card.interrupts.update();
  }

  dispose(): void {
    this.#place[Symbol.dispose]();
  }
}
