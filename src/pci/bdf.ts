/**
 * BDF: where a PCI function sits, written `domain:bus:device.function` as lspci and sysfs write it.
 */
import { checkIndex } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';

export interface BdfParts {
  readonly domain: number;
  readonly bus: number;
  readonly device: number;
  readonly fn: number;
}

const pattern = /^(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])$/i;

/**
 * The four numbers of a BDF; the domain is 0 when left out.
 *
 * @throws VfioError EINVAL when the text is no BDF
 */
export function bdfParts(bdf: string): BdfParts {
  const match = typeof bdf === 'string' && bdf.length <= 16 ? pattern.exec(bdf) : null;
  const device = match === null ? 0 : Number.parseInt(match[3]!, 16);
  if (match === null || device > 31) {
    throw new VfioError('EINVAL', `${JSON.stringify(String(bdf).slice(0, 32))} is not a PCI address`, {
      fix: 'Write it as domain:bus:device.function in hexadecimal, for example 0000:00:04.0 or 00:04.0.',
    });
  }
  return {
    domain: match[1] === undefined ? 0 : Number.parseInt(match[1], 16),
    bus: Number.parseInt(match[2]!, 16),
    device,
    fn: Number(match[4]),
  };
}

/**
 * The canonical spelling, `0000:00:04.0`.
 *
 * @throws VfioError EINVAL for a number out of range
 */
export function formatBdf(parts: BdfParts): string {
  checkIndex(parts.domain, 0xffff_ffff, 'PCI domain');
  checkIndex(parts.bus, 0xff, 'PCI bus');
  checkIndex(parts.device, 31, 'PCI device');
  checkIndex(parts.fn, 7, 'PCI function');
  const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0');
  return `${hex(parts.domain, 4)}:${hex(parts.bus, 2)}:${hex(parts.device, 2)}.${parts.fn}`;
}

/**
 * `text` in canonical spelling: lower case, with its domain.
 *
 * @throws VfioError EINVAL when the text is no BDF
 */
export function parseBdf(text: string): string {
  return formatBdf(bdfParts(text));
}

/** Whether `text` is a BDF, in any spelling that `parseBdf` takes. */
export function isBdf(text: string): boolean {
  try {
    bdfParts(text);
    return true;
  } catch {
    return false;
  }
}

/** Compares BDFs in the order of bus enumeration, for sorting. */
export function compareBdf(a: string, b: string): number {
  const x = bdfParts(a);
  const y = bdfParts(b);
  return x.domain - y.domain || x.bus - y.bus || x.device - y.device || x.fn - y.fn;
}
