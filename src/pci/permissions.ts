/**
 * What a user of VFIO may do with each bit of config space, as data with a reason beside every row (S2-05, S2-43, S2-44).
 *
 * A bit that is `virt` is answered from the user's own copy, the others by hardware. A bit that is `write` can be written: into the copy when it
 * is `virt`, else in hardware. Bits that no row names are read-only in hardware. Side effects are named here (`trigger`) and
 * live in the engine's virtual-config.ts. The kernel these tables were compared with is `PERMISSIONS_VERSION`.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_config.c; linux/pci_regs.h for sizes
 */
import { CapHeader, Command, Config, HEADER_SIZE, Status } from '../abi/pci.ts';

export const PERMISSIONS_VERSION = 'Linux 7.2';

/** Side effects of a write, done by the engine after the bits have landed. */
export type Trigger =
  | 'memory-decode'
  | 'intx-mask'
  | 'bar-sizing'
  | 'power-state'
  | 'vpd-access'
  | 'msi-control'
  | 'function-reset'
  | 'read-request-size';

export const triggerMeanings: Readonly<Record<Trigger, string>> = {
  'memory-decode':
    'turning memory decoding off revokes every mapping of the BARs; turning it on after a reset behind our back restores the BARs',
  'intx-mask': 'masks or unmasks the INTx interrupt that VFIO delivers',
  'bar-sizing': 'the next read answers as hardware would: address bits below the size read 0, type bits as they are',
  'power-state': 'asks the host to change the power state; entering D3hot revokes every mapping of the BARs',
  'vpd-access': 'writing the upper address byte makes the host read or write four bytes of VPD and toggle the flag',
  'msi-control': 'the enable bit holds only while MSI was enabled through SET_IRQS; the message count is cut to what was asked for there',
  'function-reset': 'the host resets the function and restores its config space; the bit itself always reads 0',
  'read-request-size': 'the host sets the hardware field to the larger of this value and the maximum payload',
};

export interface PermissionRow {
  /** From the start of the header or the capability. */
  readonly offset: number;
  readonly width: 1 | 2 | 4;
  readonly name: string;
  readonly virt: number;
  readonly write: number;
  readonly why: string;
  readonly triggers: readonly Trigger[];
  /** Bits whose reason is another one than the row's. */
  readonly bits: readonly BitReason[];
}

export interface BitReason {
  readonly mask: number;
  readonly why: string;
}

/** Read a register of the capability whose length is wanted. */
export type RegisterReader = (offset: number, width: 1 | 2 | 4) => number;

export type LengthRule =
  | { readonly kind: 'fixed'; readonly bytes: number }
  /** `of` answers 0 when the capability cannot be shown. `most` bounds the rows. */
  | { readonly kind: 'variable'; readonly most: number; readonly rule: string; readonly of: (read: RegisterReader) => number }
  /** Taken out of the chain that the user sees. */
  | { readonly kind: 'hidden' };

export interface CapabilityPermissions {
  readonly id: number;
  readonly extended: boolean;
  readonly name: string;
  readonly length: LengthRule;
  /** Everything but the header goes straight to hardware, writes too. */
  readonly raw: boolean;
  /** Why bits that no row names are as they are. */
  readonly why: string;
  readonly rows: readonly PermissionRow[] | ((read: RegisterReader) => readonly PermissionRow[]);
}

/** All bits of a register, whatever its width. */
export const ALL = 0xffff_ffff;

export function row(
  offset: number,
  width: 1 | 2 | 4,
  name: string,
  virt: number,
  write: number,
  why: string,
  ...triggers: readonly Trigger[]
): PermissionRow {
  const mask = width === 4 ? ALL : 2 ** (8 * width) - 1;
  return { offset, width, name, virt: (virt & mask) >>> 0, write: (write & mask) >>> 0, why, triggers, bits: [] };
}

/** `row`, with reasons of their own for some of its bits. */
export function withBits(whole: PermissionRow, ...bits: readonly (readonly [mask: number, why: string])[]): PermissionRow {
  return { ...whole, bits: bits.map(([mask, why]) => ({ mask, why })) };
}

const chainWhy = 'the capability list is edited: capabilities that cannot be given away are taken out';
/** Every standard capability has it. */
export const nextPointer = row(CapHeader.NEXT, 1, 'next capability', ALL, 0, chainWhy);
const busWhy = 'the real BARs stay where the host put them; sizing is emulated on the copy';
const bar = (i: number) => row(Config.BASE_ADDRESS_0 + 4 * i, 4, `BAR ${i}`, ALL, ALL, busWhy, 'bar-sizing');

/** The header, 0x00 to 0x3f, of an endpoint: bridges are never given away. */
export const headerPermissions: CapabilityPermissions = {
  id: 0,
  extended: false,
  name: 'header',
  length: { kind: 'fixed', bytes: HEADER_SIZE },
  raw: false,
  why: 'read-only: identifies the device',
  rows: [
    row(Config.VENDOR_ID, 2, 'vendor id', ALL, 0, 'virtual functions read all ones in hardware; the host knows better'),
    row(Config.DEVICE_ID, 2, 'device id', ALL, 0, 'virtual functions read all ones in hardware; the host knows better'),
    withBits(
      row(
        Config.COMMAND,
        2,
        'COMMAND',
        Command.INTX_DISABLE,
        ALL,
        'the user may set it: it concerns this function only, and its DMA goes through the IOMMU',
        'memory-decode',
        'intx-mask',
      ),
      [Command.INTX_DISABLE, 'the host uses the hardware’s bit to mask the interrupt, so the user has one of their own'],
    ),
    withBits(
      row(Config.STATUS, 2, 'STATUS', Status.CAP_LIST, 0, 'read-only: what the device can do'),
      [Status.CAP_LIST, chainWhy],
      [Status.ERRORS, 'errors are the host’s to see and to clear'],
    ),
    row(Config.REVISION_ID, 1, 'revision', 0, 0, 'read-only: identifies the device'),
    row(Config.CLASS_PROG, 1, 'programming interface', 0, 0, 'read-only: identifies the device'),
    row(Config.CLASS_DEVICE, 2, 'class', 0, 0, 'read-only: identifies the device'),
    row(Config.CACHE_LINE_SIZE, 1, 'cache line size', 0, ALL, 'no harm in it'),
    row(Config.LATENCY_TIMER, 1, 'latency timer', 0, ALL, 'no harm in it'),
    row(Config.HEADER_TYPE, 1, 'header type', 0, 0, 'read-only: identifies the device'),
    row(Config.BIST, 1, 'BIST', 0, ALL, 'no harm in it: tests this function only'),
    bar(0),
    bar(1),
    bar(2),
    bar(3),
    bar(4),
    bar(5),
    row(Config.CARDBUS_CIS, 4, 'CardBus CIS', 0, 0, 'read-only: identifies the device'),
    row(Config.SUBSYSTEM_VENDOR_ID, 2, 'subsystem vendor id', 0, 0, 'read-only: identifies the device'),
    row(Config.SUBSYSTEM_ID, 2, 'subsystem id', 0, 0, 'read-only: identifies the device'),
    row(Config.ROM_ADDRESS, 4, 'ROM BAR', ALL, ALL, busWhy, 'bar-sizing'),
    row(Config.CAPABILITY_LIST, 1, 'capability pointer', ALL, 0, chainWhy),
    row(Config.INTERRUPT_LINE, 1, 'interrupt line', ALL, ALL, 'a scratch register of software; guests keep their own routing in it'),
    row(
      Config.INTERRUPT_PIN,
      1,
      'interrupt pin',
      ALL,
      0,
      'reads 0 when there is no INTx to give: a virtual function, no line, or INTx not usable',
    ),
    row(Config.MIN_GNT, 1, 'minimum grant', 0, 0, 'read-only: timing needs of the device'),
    row(Config.MAX_LAT, 1, 'maximum latency', 0, 0, 'read-only: timing needs of the device'),
  ],
};

/** Why an id without a row is hidden. */
export const unknownCapabilityWhy = 'not known: it may reach beyond this function';
