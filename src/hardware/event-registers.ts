/**
 * Registers in which a function records events that it signals to its host: errors (AER and the
 * device status of PCI Express) and PME. Each says whether a message leaves the function.
 *
 * @see PCI Express Base 6.0, 6.2.5 (sequence of device error signaling), 7.8.4 (AER), 7.5.2 (power
 * management capability)
 */
import type { ErrorKind } from '../abi/device-host.ts';
import { CapId, Command, ExtCapId, Pm } from '../abi/pci.ts';
import { checkIndex } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';
import { Aer } from '../pci/capabilities/advanced-error-reporting.ts';
import { PciExp } from '../pci/capabilities/pci-express-registers.ts';
import type { ConfigSpace } from '../pci/config-space.ts';

interface ErrorRegisters {
  readonly status: number;
  readonly mask: number;
  /** The error that is reported when the caller names none. */
  readonly usual: number;
  /** The kind's bit of DEVSTA, and the bit of DEVCTL that lets the message out. */
  readonly detected: number;
  readonly enable: number;
}

const uncorrectable = { status: Aer.UNCOR_STATUS, mask: Aer.UNCOR_MASK, usual: Aer.UNCOR_INTERNAL };
const registers: Readonly<Record<ErrorKind, ErrorRegisters>> = {
  correctable: { status: Aer.COR_STATUS, mask: Aer.COR_MASK, usual: Aer.COR_RECEIVER, detected: 0x1, enable: PciExp.DEVCTL_CERE },
  nonfatal: { ...uncorrectable, detected: 0x2, enable: PciExp.DEVCTL_NFERE },
  fatal: { ...uncorrectable, detected: 0x4, enable: PciExp.DEVCTL_FERE },
};

/** @throws VfioError EINVAL for an unknown kind, or a status without a bit */
export function noteError(config: ConfigSpace, kind: ErrorKind, status?: number): boolean {
  if (!Object.hasOwn(registers, kind)) {
    throw new VfioError('EINVAL', `there is no error of kind '${String(kind)}'`, { fix: `Kinds: ${Object.keys(registers).join(', ')}.` });
  }
  const { usual, detected, enable, ...at } = registers[kind];
  const bits = status === undefined ? usual : checkIndex(status, 0xffff_ffff, 'status of the error');
  if (bits === 0) throw new VfioError('EINVAL', 'the status of an error has at least one bit');
  const express = config.findCapability(CapId.EXP);
  if (express === 0) return false;
  set(config, express + PciExp.DEVSTA, detected);
  const aer = config.findExtendedCapability(ExtCapId.ERR);
  if (aer !== 0) {
    if (kind !== 'correctable' && config.read(aer + at.status, 4) === 0) firstError(config, aer, bits);
    set(config, aer + at.status, bits);
    if ((bits & ~config.read(aer + at.mask, 4)) === 0) return false;
  }
  // COMMAND.SERR lets uncorrectable errors out, too.
  const serr = kind !== 'correctable' && (config.command & Command.SERR) !== 0;
  return serr || (config.read(express + PciExp.DEVCTL, 2) & enable) !== 0;
}

function firstError(config: ConfigSpace, aer: number, bits: number): void {
  const at = aer + Aer.CAP;
  config.bytes[at] = (config.bytes[at]! & ~Aer.CAP_FIRST_ERROR) | (31 - Math.clz32(bits & -bits));
}

/** Read-only and write-one-to-clear bits: only the hardware sets them. */
function set(config: ConfigSpace, at: number, bits: number): void {
  for (let i = 0; i < 4; i++) if (((bits >>> (8 * i)) & 0xff) !== 0) config.bytes[at + i]! |= (bits >>> (8 * i)) & 0xff;
}

/** False where the function cannot signal PME in its power state, or no driver has enabled PME. */
export function notePme(config: ConfigSpace): boolean {
  const pm = config.findCapability(CapId.PM);
  if (pm === 0 || !canWakeFrom(config, config.powerState)) return false;
  set(config, pm + Pm.CTRL, Pm.CTRL_PME_STATUS);
  return (config.read(pm + Pm.CTRL, 2) & Pm.CTRL_PME_ENABLE) !== 0;
}

export function canWakeFrom(config: ConfigSpace, state: number): boolean {
  const pm = config.findCapability(CapId.PM);
  return pm !== 0 && (config.read(pm + Pm.PMC, 2) & (1 << (Pm.PMC_PME_SHIFT + state))) !== 0;
}
