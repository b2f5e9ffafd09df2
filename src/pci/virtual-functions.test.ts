import { expect, it } from 'vitest';
import { Command, Config, ExtCapId } from '../abi/pci.ts';
import { bdfParts, formatBdf } from './bdf.ts';
import { Sriov } from './capabilities/single-root-virtualization.ts';
import { acs, msi, pcie } from './capabilities.ts';
import { ConfigSpace } from './config-space.ts';
import type { PciDeclaration, VirtualFunctionModel } from './declaration.ts';
import { physicalFunctionOf, virtualFunctionAt, virtualFunctionOf } from './virtual-functions.ts';

const pf: PciDeclaration = {
  name: 'card',
  vendor: 0x8086,
  device: 0x10c9,
  classCode: 0x020000,
  subsystemVendor: 0x1af4,
  interruptPin: 1,
  bars: [{ index: 0, size: 0x4000, type: 'mem32' }],
  capabilities: [pcie({ flr: true })],
  extendedCapabilities: [acs()],
};
const vf: PciDeclaration = {
  name: 'part of a card',
  vendor: 0x1234,
  device: 0x10ca,
  classCode: 0x020000,
  interruptPin: 1,
  rom: new Uint8Array(2048),
  bars: [
    { index: 0, size: 0x4000, type: 'mem32' },
    { index: 2, size: 0x10_0000, type: 'mem64', prefetchable: true },
  ],
  capabilities: [msi({ vectors: 2 })],
};
const model = (declaration: PciDeclaration): VirtualFunctionModel => ({
  declaration,
  create: () => ({ read: () => 0, write: () => {}, reset: () => {} }),
});
const sriov = { totalVfs: 8, vf: model(vf), firstOffset: 0x10, stride: 2 };

it("S3-15 a PF's SR-IOV capability says how many VFs there can be, what they are and where", () => {
  const config = new ConfigSpace(physicalFunctionOf(pf, sriov));
  const at = config.findExtendedCapability(ExtCapId.SRIOV);
  expect(config.findExtendedCapability(ExtCapId.ACS)).not.toBe(0);
  const word = (offset: number) => config.read(at + offset, 2);
  expect([Sriov.TOTAL_VF, Sriov.INITIAL_VF, Sriov.NUM_VF, Sriov.VF_OFFSET, Sriov.VF_STRIDE, Sriov.VF_DID].map(word)).toEqual([
    8, 8, 0, 16, 2, 0x10ca,
  ]);
  config.write(at + Sriov.BAR + 8, 4, 0xffff_ffff);
  expect(config.read(at + Sriov.BAR + 8, 4)).toBe(0xfff0_000c);
  const where = (index: number, of = '0000:03:00.0') => {
    const parts = virtualFunctionAt(bdfParts(of), config, index);
    return parts === null ? null : formatBdf(parts);
  };
  expect([0, 1, 7].map((i) => where(i))).toEqual(['0000:03:02.0', '0000:03:02.2', '0000:03:03.6']);
  expect(where(120)).toBe('0000:04:00.0');
  expect(where(7, '0000:ff:1e.0')).toBe(null);
});

it("C.1 a VF's hardware: ids read FFFF, BARs are not there, COMMAND knows bus mastering only", () => {
  const declaration = virtualFunctionOf(pf, vf);
  expect(declaration).toMatchObject({ vendor: 0x8086, device: 0x10ca, subsystemVendor: 0x1af4, interruptPin: 0 });
  const config = new ConfigSpace(declaration);
  expect(config.read(Config.VENDOR_ID, 4)).toBe(0xffff_ffff);
  config.write(Config.BASE_ADDRESS_0, 4, 0xffff_ffff);
  expect([config.read(Config.BASE_ADDRESS_0, 4), config.romSize]).toEqual([0, 0]);
  config.write(Config.COMMAND, 2, 0xffff);
  expect([config.command, config.memoryEnabled]).toEqual([Command.MASTER, true]);
  config.setBarAddress(2, 0x8_0010_0000n);
  expect([config.barAddress(2), config.barAddress(0)]).toEqual([0x8_0010_0000n, 0n]);
  config.reset();
  expect([config.read(Config.VENDOR_ID, 4), config.barAddress(2), config.command]).toEqual([0xffff_ffff, 0x8_0010_0000n, 0]);
});

it('S3-15 what cannot be a PF, or a VF, is refused where it is declared', () => {
  const refused = (change: object, of: PciDeclaration = pf) => {
    expect(() => physicalFunctionOf(of, { ...sriov, ...change })).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  };
  for (const totalVfs of [0, -1, 1.5, Number.NaN, 0x1_0000]) refused({ totalVfs });
  for (const offset of [-1, 0x1_0000, Number.NaN]) refused({ firstOffset: offset });
  refused({ vf: model({ ...vf, bars: [{ index: 0, size: 64, type: 'io' }] }) });
  refused({ vf: model({ ...vf, bars: [{ index: 0, size: 2048, type: 'mem32' }] }) });
  refused({}, { ...pf, capabilities: [], extendedCapabilities: [] });
  refused({}, physicalFunctionOf(pf, sriov));
});
