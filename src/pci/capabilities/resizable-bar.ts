/**
 * Resizable BARs, of functions and of virtual functions (PCI Express Base 6.0, 7.8.6 and 7.8.7).
 */
import { ExtCapId } from '../../abi/pci.ts';
import { checkIndex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import type { Capability } from '../declaration.ts';
import { type CapabilityReader, type Decoding, extract } from '../decode/text.ts';
import { CapabilityBuilder, type Placed } from './builder.ts';
import type { CapabilityKind } from './kind.ts';

const Rebar = { CAP: 4, CTRL: 8, CTRL_NBAR_MASK: 0xe0, CTRL_NBAR_SHIFT: 5, HEADER_SIZE: 4, PER_BAR_SIZE: 8 } as const;

/**
 * Resizable BARs: for each, the sizes that it can have (log2 of bytes, 20 to 39) and its present
 * size.
 * @throws VfioError EINVAL
 */
export function resizableBar(
  bars: readonly { index: number; sizes: readonly number[]; current: number }[],
  options: Placed = {},
): Capability {
  if (bars.length < 1 || bars.length > 6) throw new VfioError('EINVAL', `${bars.length} resizable BARs; from 1 to 6`);
  const builder = new CapabilityBuilder(Rebar.HEADER_SIZE + Rebar.PER_BAR_SIZE * bars.length);
  bars.forEach((bar, i) => {
    checkIndex(bar.index, 5, 'index of a resizable BAR');
    let supported = 0;
    for (const log2 of bar.sizes) supported |= 1 << (checkIndex(log2, 39, 'size of a resizable BAR, as log2') < 20 ? 31 : log2 - 16);
    if (!bar.sizes.includes(bar.current) || bar.sizes.some((log2) => log2 < 20 || log2 > 39)) {
      throw new VfioError('EINVAL', `resizable BAR ${bar.index}: sizes are from 20 to 39 (log2 of bytes), the current one among them`);
    }
    const at = Rebar.PER_BAR_SIZE * i;
    const control = bar.index | ((bar.current - 20) << 8) | (i === 0 ? bars.length << Rebar.CTRL_NBAR_SHIFT : 0);
    builder.set(Rebar.CAP + at, 4, (supported & 0xffff_fff0) >>> 0).set(Rebar.CTRL + at, 4, control, 0x3f00);
  });
  return builder.build(resizableBars, options);
}

const barUnits = ['MB', 'GB', 'TB', 'PB', 'EB'];
/** 1 MiB shifted by `exponent`; sizes above 8 EiB do not exist. */
function barSize(exponent: number): string {
  return exponent > 43 ? '<unknown>' : `${2 ** (exponent % 10)}${barUnits[Math.floor(exponent / 10)]}`;
}

function lines(r: CapabilityReader, d: Decoding): void {
  const count = extract(r.u32(Rebar.CTRL), 7, 5);
  if (count < 1 || count > 6) {
    d.lines.push(`\t\t<error in resizable BAR: num_bars=${count} is out of specification>`);
    return;
  }
  for (let i = 0; i < count; i++) {
    const at = Rebar.CAP + Rebar.PER_BAR_SIZE * i;
    if (!r.has(at, 8)) return;
    const control = r.u32(at + 4);
    const sizes: string[] = [];
    for (let exponent = 0; exponent < 44; exponent++) {
      const set = exponent < 28 ? extract(r.u32(at), exponent + 4, exponent + 4) : extract(control, exponent - 12, exponent - 12);
      if (set === 1) sizes.push(barSize(exponent));
    }
    const current = barSize(extract(control, 13, 8));
    const bar = extract(control, 2, 0);
    d.set(`bar${bar}`, 'current', current).set(`bar${bar}`, 'supported', sizes);
    d.lines.push(`\t\tBAR ${bar}: current size: ${current}${sizes.length > 0 ? `, supported: ${sizes.join(' ')}` : ''}`);
  }
}

export const resizableBars: CapabilityKind = {
  id: ExtCapId.REBAR,
  extended: true,
  name: 'Resizable BAR',
  access: {
    length: {
      kind: 'variable',
      most: Rebar.HEADER_SIZE + Rebar.PER_BAR_SIZE * 7,
      rule: '4, and 8 per BAR',
      of: (read) => Rebar.HEADER_SIZE + Rebar.PER_BAR_SIZE * ((read(Rebar.CTRL, 1) & Rebar.CTRL_NBAR_MASK) >> Rebar.CTRL_NBAR_SHIFT),
    },
    why: 'read-only: the size of a BAR takes address space of the host',
  },
  decode: (r, d) => {
    lines(r, d);
    return { title: 'Physical Resizable BAR' };
  },
};

export const resizableVfBars: CapabilityKind = {
  id: ExtCapId.VF_REBAR,
  extended: true,
  name: 'VF Resizable BAR',
  decode: (r, d) => {
    lines(r, d);
    return { title: 'Virtual Resizable BAR' };
  },
};
