/**
 * The unique identifiers of a disk. All follow from its serial number, so that they stay the same
 * after a restart.
 */
import { VfioError } from '../../base/errno.ts';
import type { Identity } from './admin/identify.ts';
import type { NamespaceOptions } from './namespace.ts';

/** An OUI for addresses that are administered locally, which no vendor owns. */
const OUI = 0x52_54_00;

export interface IdentityOptions {
  /** ASCII, 1 to 20 characters; Default: a unique one. */
  readonly serial?: string;
  /** ASCII, 1 to 40 characters. */
  readonly model?: string;
  /** ASCII, 1 to 8 characters. */
  readonly firmware?: string;
  /** NVMe Qualified Name of the NVM subsystem (7.9). */
  readonly nqn?: string;
}

/** @throws VfioError EINVAL for text that does not fit */
export function makeIdentity(options: IdentityOptions, pci: { vendor: number; subsystemVendor: number }, mdts: number): Identity {
  const serial = ascii(options.serial ?? `VT${crypto.randomUUID().replaceAll('-', '').slice(0, 14)}`, 20, 'serial');
  const model = ascii(options.model ?? 'vfio-ts NVMe', 40, 'model');
  const nqn = ascii(options.nqn ?? `nqn.2014-08.org.nvmexpress:uuid:${uuid(`${model}\n${serial}`)}`, 223, 'nqn');
  return { ...pci, serial, model, firmware: ascii(options.firmware ?? '1.0', 8, 'firmware'), oui: OUI, nqn, mdts };
}

/** The namespace with the identifiers it was not given: of namespace `nsid` of disk `serial`. */
export function withIdentifiers(options: NamespaceOptions, serial: string, nsid: number): NamespaceOptions {
  if (options.nguid !== undefined || options.eui64 !== undefined) return options;
  const eui64 = digest(`${serial}\n${nsid}\neui64`, 8);
  eui64.set([OUI >>> 16, (OUI >>> 8) & 0xff, OUI & 0xff]);
  const nguid = digest(`${serial}\n${nsid}\nnguid`, 16);
  // Vendor specific extension, OUI, extension (figure 245).
  nguid.set([OUI >>> 16, (OUI >>> 8) & 0xff, OUI & 0xff], 8);
  return { ...options, eui64, nguid };
}

/** @throws VfioError EINVAL unless it is text of 1 to `max` printable ASCII characters */
export function ascii(text: string, max: number, what: string): string {
  if (typeof text !== 'string' || text.length > max || !/^[\x20-\x7e]+$/.test(text)) {
    throw new VfioError('EINVAL', `${what} is ${JSON.stringify(text)}; it must have 1 to ${max} ASCII characters`);
  }
  return text;
}

/** A UUID made of a name: version 8, what it is made of is our own business. */
function uuid(name: string): string {
  const bytes = digest(name, 16);
  bytes[6] = (bytes[6]! & 0x0f) | 0x80;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const text = [...bytes].map((b) => b.toString(16).padStart(2, '0')).join('');
  return text.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/** `size` bytes that differ when `text` does: FNV-1a, once for each byte. */
function digest(text: string, size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => {
    let hash = 0x811c_9dc5 ^ i;
    for (const c of `${text}\n${i}`) hash = Math.imul(hash ^ c.charCodeAt(0), 0x0100_0193);
    hash ^= hash >>> 16;
    return (Math.imul(hash, 0x85eb_ca6b) >>> 13) & 0xff;
  });
}
