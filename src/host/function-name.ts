/** The names of functions for people. */
import type { PciNames } from '../pci/pci-ids.ts';
import type { HostFunction } from './host-picture.ts';

const MOST = 120;

/** `Intel Corporation`: the part of a vendor's name that says nothing. */
const legalForm =
  /[,.]?\s+(Corporation|Corp\.?|Incorporated|Inc\.?|Co\.?,? Ltd\.?|Ltd\.?|Limited|LLC|GmbH|Technologies|Semiconductor)\b\.?/gi;

/**
 * The recorded name; else that of a database; else the name of its class. Null where none of them
 * has one.
 */
export function nameOf(fn: Pick<HostFunction, 'name' | 'vendor' | 'device' | 'classCode'>, names: PciNames | null): string | null {
  const { name, vendor, device, classCode } = fn;
  if (name !== null) return name.slice(0, MOST);
  if (names === null) return null;
  const known = vendor === null || device === null ? undefined : names.device(vendor, device);
  if (known !== undefined) return `${(names.vendor(vendor!) ?? '').replaceAll(legalForm, '')} ${known}`.trim().slice(0, MOST);
  const [base, sub] = [classCode >>> 16, (classCode >>> 8) & 0xff];
  return names.subClass(base, sub) ?? names.baseClass(base) ?? null;
}
