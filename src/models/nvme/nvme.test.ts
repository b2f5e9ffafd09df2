import { expect, it } from 'vitest';
import { ControllerUnderTest } from '../../../tests/kit/nvme/controller-under-test.ts';
import { AdminOpcode, FormatCdw10, NvmOpcode, regBits } from '../../abi/nvme.ts';
import { CapId, Config, ExtCapId } from '../../abi/pci.ts';
import { PciExp } from '../../pci/capabilities/pci-express-registers.ts';
import { ConfigSpace } from '../../pci/config-space.ts';
import { MemoryStorage } from '../storage/memory-storage.ts';
import { nvme } from './nvme.ts';

it('is an NVMe controller to PCI: class, BARs, PM, MSI, MSI-X, PCI Express with FLR', () => {
  const config = new ConfigSpace(nvme({ namespaces: [] }).declaration);
  expect(config.read(Config.CLASS_PROG, 1)).toBe(0x02);
  expect(config.read(Config.CLASS_DEVICE, 2)).toBe(0x0108);
  expect(config.read(Config.INTERRUPT_PIN, 1)).toBe(1);
  config.write(Config.BASE_ADDRESS_0, 4, 0xffff_ffff);
  expect(config.read(Config.BASE_ADDRESS_0, 4)).toBe(0xffff_e004);
  expect(config.read(Config.BASE_ADDRESS_1, 4)).toBe(0);
  for (const id of [CapId.PM, CapId.MSI, CapId.MSIX, CapId.EXP]) expect(config.findCapability(id)).not.toBe(0);
  expect(config.read(config.findCapability(CapId.MSIX) + 2, 2)).toBe(64);
  expect(config.read(config.findCapability(CapId.EXP) + PciExp.DEVCAP, 4) & PciExp.DEVCAP_FLR).not.toBe(0);
});

it('reports errors by AER, which aer-inject of Linux wants, in the physical function alone', () => {
  const model = nvme({ namespaces: [], vfs: { total: 1, namespaces: () => [] } });
  expect(new ConfigSpace(model.declaration).findExtendedCapability(ExtCapId.ERR)).toBe(0x100);
  expect(model.sriov!.vf.declaration.extendedCapabilities ?? []).toEqual([]);
});

it('has one MSI-X vector for each queue, however few', () => {
  const config = new ConfigSpace(nvme({ namespaces: [], queues: 1 }).declaration);
  expect(config.read(config.findCapability(CapId.MSIX) + 2, 2)).toBe(1);
});

it.each([
  [{ queues: 0 }],
  [{ queues: 65 }],
  [{ queueEntries: 1 }],
  [{ queueEntries: 1025 }],
  [{ mdts: 0 }],
  [{ mdts: 14 }],
  [{ queues: Number.NaN }],
  [{ serial: 'ä' }],
  [{ serial: 'x'.repeat(21) }],
  [{ serial: '' }],
  [{ firmware: '123456789' }],
  [{ namespaces: [{ storage: new MemoryStorage(4096), limits: { iops: 0 } }] }],
])('refuses options that make no disk: %o', (options) => {
  expect(() => nvme({ namespaces: [], ...options })).toThrow(expect.objectContaining({ code: 'EINVAL' }));
});

it('NVMe 1.4 6.9, 6.15 Read, Write: what one queue writes another reads, and what one controller writes the next', () => {
  const storage = new MemoryStorage(2 ** 20);
  const first = new ControllerUnderTest({ namespaces: [{ storage }] });
  first.enable();
  first.createPair(1);
  first.createPair(2);
  const data = first.page();
  first.bytes(data, 4096).set(Uint8Array.from({ length: 4096 }, (_, i) => i * 7));
  const written = first.bytes(data, 4096).slice();
  expect(first.run(1, { opcode: NvmOpcode.WRITE, nsid: 1, prp1: data, cdw10: 8, cdw12: 7 })).toMatchObject({ code: 0, sqid: 1, sqhd: 1 });
  const back = first.page();
  expect(first.run(2, { opcode: NvmOpcode.READ, nsid: 1, prp1: back, cdw10: 8, cdw12: 7 })).toMatchObject({ code: 0, sqid: 2, sqhd: 1 });
  expect(first.bytes(back, 4096)).toEqual(written);
  first.model.dispose!();

  const second = new ControllerUnderTest({ namespaces: [{ storage }] });
  second.enable();
  second.createPair(1);
  const again = second.page();
  expect(second.run(1, { opcode: NvmOpcode.READ, nsid: 1, prp1: again, cdw10: 8, cdw12: 7 }).code).toBe(0);
  expect(second.bytes(again, 4096)).toEqual(written);
});

it('NVMe 1.4 5.23 Format NVM: the block size lasts as long as the disk, for every controller that follows', () => {
  const options = { storage: new MemoryStorage(2 ** 20), blockSize: 512 } as const;
  const c = new ControllerUnderTest({ namespaces: [options] });
  c.enable();
  expect(c.admin({ opcode: AdminOpcode.FORMAT_NVM, nsid: 1, cdw10: regBits(FormatCdw10.LBAF, 1) }).code).toBe(0);
  c.model.dispose!();
  const next = c.device.create(c.host);
  Object.assign(c, { model: next });
  c.enable();
  const page = c.page();
  expect(c.admin({ opcode: AdminOpcode.IDENTIFY, nsid: 1, prp1: page }).code).toBe(0);
  expect([c.u32(page), c.bytes(page, 4096)[26]]).toEqual([256, 1]);
  expect(options.blockSize).toBe(512);
  // Another disk over the same storage is as its options say.
  const other = new ControllerUnderTest({ namespaces: [options] });
  other.enable();
  const identified = other.page();
  other.admin({ opcode: AdminOpcode.IDENTIFY, nsid: 1, prp1: identified });
  expect(other.u32(identified)).toBe(2048);
});

it('a disposed controller leaves no timer and no interrupt behind', () => {
  const c = new ControllerUnderTest({ mode: 'intx' });
  c.enable();
  c.createPair(1, 16, { vector: 0 });
  c.submit(1, { opcode: NvmOpcode.FLUSH, nsid: 1 });
  expect(c.host.asserted).toBe(true);
  c.model.dispose!();
  expect(c.host.asserted).toBe(false);
  expect(c.host.clock.pendingTimers).toBe(0);
});
