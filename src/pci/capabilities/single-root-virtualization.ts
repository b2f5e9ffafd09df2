/** Single-root I/O virtualization of a physical function (SR-IOV 1.1, 3.3). */
import { ExtCapId } from '../../abi/pci.ts';
import { checkIndex, hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import type { Capability } from '../declaration.ts';
import { hexDigits } from '../decode/text.ts';
import { fixed } from '../permissions/rows.ts';
import { CapabilityBuilder, type Placed } from './builder.ts';
import type { CapabilityDecoder, CapabilityKind } from './kind.ts';

export const Sriov = {
  CAP: 0x04,
  CTRL: 0x08,
  CTRL_VFE: 0x01,
  CTRL_MSE: 0x08,
  CTRL_ARI: 0x10,
  STATUS: 0x0a,
  INITIAL_VF: 0x0c,
  TOTAL_VF: 0x0e,
  NUM_VF: 0x10,
  FUNC_LINK: 0x12,
  VF_OFFSET: 0x14,
  VF_STRIDE: 0x16,
  VF_DID: 0x1a,
  SUP_PGSIZE: 0x1c,
  SYS_PGSIZE: 0x20,
  BAR: 0x24,
  VFM: 0x3c,
  SIZE: 0x40,
} as const;

/** One BAR that every virtual function has: bytes, a power of two from 4096. */
export interface VfBar {
  readonly index: number;
  readonly size: number;
  readonly type: 'mem32' | 'mem64';
  readonly prefetchable?: boolean;
}

/** Single-root I/O virtualization of a physical function. @throws VfioError EINVAL */
export function sriov(
  options: {
    totalVfs: number;
    vfDevice: number;
    firstOffset?: number;
    stride?: number;
    bars?: readonly VfBar[];
  } & Placed,
): Capability {
  const total = checkIndex(options.totalVfs, 0xffff, 'number of VFs');
  const builder = new CapabilityBuilder(Sriov.SIZE)
    .set(Sriov.CTRL, 2, 0, Sriov.CTRL_VFE | Sriov.CTRL_MSE | Sriov.CTRL_ARI)
    .set(Sriov.INITIAL_VF, 2, total)
    .set(Sriov.TOTAL_VF, 2, total)
    .set(Sriov.NUM_VF, 2, 0, 0xffff)
    .set(Sriov.VF_OFFSET, 2, checkIndex(options.firstOffset ?? 1, 0xffff, 'first VF offset'))
    .set(Sriov.VF_STRIDE, 2, checkIndex(options.stride ?? 1, 0xffff, 'VF stride'))
    .set(Sriov.VF_DID, 2, checkIndex(options.vfDevice, 0xffff, 'VF device id'))
    .set(Sriov.SUP_PGSIZE, 4, 0x553)
    .set(Sriov.SYS_PGSIZE, 4, 0x1, 0x553);
  for (const bar of options.bars ?? []) {
    const last = bar.index + (bar.type === 'mem64' ? 1 : 0);
    if (
      !Number.isInteger(bar.index) ||
      bar.index < 0 ||
      last > 5 ||
      !Number.isInteger(Math.log2(bar.size)) ||
      bar.size < 4096 ||
      bar.size > 2 ** 52
    ) {
      throw new VfioError(
        'EINVAL',
        `VF BAR ${String(bar.index)} of ${String(bar.size)} bytes: index 0 to 5, a power of two from ${hex(4096)}`,
      );
    }
    const mask = ~(BigInt(bar.size) - 1n);
    const at = Sriov.BAR + 4 * bar.index;
    const type = (bar.type === 'mem64' ? 4 : 0) | (bar.prefetchable === true ? 8 : 0);
    builder.set(at, 4, type, Number(BigInt.asUintN(32, mask)));
    if (bar.type === 'mem64') builder.set(at + 4, 4, 0, Number(BigInt.asUintN(32, mask >> 32n)));
  }
  return builder.build(singleRootVirtualization, options);
}

const decode: CapabilityDecoder = (r, d) => {
  const title = 'Single Root I/O Virtualization (SR-IOV)';
  if (!r.has(Sriov.CAP, Sriov.SIZE - 4)) return { title };
  d.line('IOVCap', r.u32(Sriov.CAP), '\t\tIOVCap:\tMigration{0} 10BitTagReq{2} IntMsgNum {31:21}');
  d.line('IOVCtl', r.u16(Sriov.CTRL), '\t\tIOVCtl:\tEnable{0} Migration{1} Interrupt{2} MSE{3} ARIHierarchy{4} 10BitTagReq{5}');
  d.line('IOVSta', r.u16(Sriov.STATUS), '\t\tIOVSta:\tMigration{0}');
  const vfs = `Initial VFs: ${r.u16(Sriov.INITIAL_VF)}, Total VFs: ${r.u16(Sriov.TOTAL_VF)}, Number of VFs: ${r.u16(Sriov.NUM_VF)}`;
  d.lines.push(`\t\t${vfs}, Function Dependency Link: ${hexDigits(r.u8(Sriov.FUNC_LINK), 2)}`);
  d.lines.push(
    `\t\tVF offset: ${r.u16(Sriov.VF_OFFSET)}, stride: ${r.u16(Sriov.VF_STRIDE)}, Device ID: ${hexDigits(r.u16(Sriov.VF_DID), 4)}`,
  );
  const pages = [r.u32(Sriov.SUP_PGSIZE), r.u32(Sriov.SYS_PGSIZE)].map((mask) => hexDigits(mask, 8));
  d.lines.push(`\t\tSupported Page Size: ${pages[0]}, System Page Size: ${pages[1]}`);
  const counts = {
    initial: Sriov.INITIAL_VF,
    total: Sriov.TOTAL_VF,
    number: Sriov.NUM_VF,
    offset: Sriov.VF_OFFSET,
    stride: Sriov.VF_STRIDE,
  };
  for (const [key, at] of Object.entries(counts)) d.set('VFs', key, r.u16(at));
  d.set('VFs', 'deviceId', r.u16(Sriov.VF_DID));
  d.set('VFs', 'supportedPageSizes', r.u32(Sriov.SUP_PGSIZE)).set('VFs', 'systemPageSize', r.u32(Sriov.SYS_PGSIZE));
  for (let i = 0; i < 6; i++) {
    const low = r.u32(Sriov.BAR + 4 * i);
    if (low === 0 || low === 0xffff_ffff) continue;
    const index = i;
    let address = hexDigits((low & 0xffff_fff0) >>> 0, 8);
    const wide = (low & 0x6) !== 0;
    // lspci reads the next field as the upper half of the last register, although it is not.
    if (wide && (low & 0x6) === 0x4) address = hexDigits(r.u32(Sriov.BAR + 4 * ++i), 8) + address;
    const kind = `${wide ? '64' : '32'}-bit, ${(low & 8) !== 0 ? '' : 'non-'}prefetchable`;
    d.lines.push(`\t\tRegion ${index}: Memory at ${address} (${kind})`);
    d.set(`region${index}`, 'address', `0x${address}`).set(`region${index}`, 'kind', kind);
  }
  d.line('VFMigration', r.u32(Sriov.VFM), `\t\tVF Migration: offset: ${hexDigits((r.u32(Sriov.VFM) & ~7) >>> 0, 8)}, BIR: {2:0}`);
  return { title };
};

export const singleRootVirtualization: CapabilityKind = {
  id: ExtCapId.SRIOV,
  extended: true,
  name: 'Single Root I/O Virtualization',
  access: { length: fixed(Sriov.SIZE), why: 'read-only: the administrator makes virtual functions' },
  decode,
};
