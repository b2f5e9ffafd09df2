/**
 * The rows that say what a user of VFIO may do with each bit of config space, with a reason beside
 * every row (S2-05, S2-43, S2-44). header.ts has those of the header; the others stand with their
 * capability.
 *
 * The user's own copy answers for a bit that is `virt`, hardware for the others. A bit that is
 * `write` can be written: into the copy when it is `virt`, else in hardware. Bits that no row names
 * are read-only in hardware. Rows name their side effects (`triggers`), which the engine's
 * virtual-config.ts carries out. `PERMISSIONS_VERSION` is the kernel that these rows agree with.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_config.c; linux/pci_regs.h for sizes
 */
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

/** The access that a user of VFIO has to a capability. */
export interface CapabilityAccess {
  readonly length: LengthRule;
  /** Everything but the header goes straight to hardware, writes too. Default: false. */
  readonly raw?: boolean;
  /** Why bits that no row names are as they are. */
  readonly why: string;
  /** Without the row of the header, which every capability has. Default: none. */
  readonly rows?: readonly PermissionRow[] | ((read: RegisterReader) => readonly PermissionRow[]);
}

/**
 * The same as a table that stands by itself: with the capability's id and name, and the row of its
 * header.
 */
export interface CapabilityPermissions extends Required<CapabilityAccess> {
  readonly id: number;
  readonly extended: boolean;
  readonly name: string;
}

/** A capability that VFIO takes out of the chain. */
export function hidden(why: string): CapabilityAccess {
  return { length: { kind: 'hidden' }, why };
}

export function fixed(bytes: number): LengthRule {
  return { kind: 'fixed', bytes };
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

/** Reasons that several capabilities share. */
export const Why = {
  CHAIN: 'the capability list is edited: capabilities that cannot be given away are taken out',
  CAN_DO: 'read-only: what the device can do',
  IDENTITY: 'read-only: identifies the device',
  FABRIC: 'read-only: belongs to the fabric',
  IOMMU: 'read-only: the host enables it together with its IOMMU',
  RESET: 'the host does the reset, because it must restore the state around it',
  THIS_FUNCTION: 'the user may set it: it concerns this function only',
  VENDOR: 'written straight to hardware: devices need these registers, and isolation does not depend on them',
  BRIDGES: 'only bridges have it',
  ROOT: 'only root complexes have it',
  NOT_SUPPORTED: 'not supported',
  REACHES_BEYOND: 'not supported: its effect reaches beyond this function, or is not examined yet',
} as const;
