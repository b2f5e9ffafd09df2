import fc from 'fast-check';
import { expect, it } from 'vitest';
import { bootedConfig, eduDeclaration, nvmeDeclaration } from '../../tests/kit/declarations.ts';
import { CapId, Command, Config, ExtCapId, Msi, Pm, PowerState, Status } from '../abi/pci.ts';
import { PciExp } from './capabilities/pci-express-registers.ts';
import { Vpd } from './capabilities/vpd.ts';
import { acs, aer, ari, dsn, ltr, msi, msix, otherCapability, pcie, pm, vendorSpecific, vpd } from './capabilities.ts';
import { ConfigSpace } from './config-space.ts';
import type { PciDeclaration } from './declaration.ts';

const card: PciDeclaration = { name: 'card', vendor: 0x1234, device: 0x5678, classCode: 0x020000 };

it('C.1 the header holds what was declared', () => {
  const config = new ConfigSpace({
    ...card,
    revision: 3,
    classCode: 0x010802,
    subsystemVendor: 0xaaaa,
    subsystem: 0xbbbb,
    interruptPin: 2,
  });
  expect(config.size).toBe(256);
  expect(config.read(Config.VENDOR_ID, 4)).toBe(0x56781234);
  expect(config.read(Config.REVISION_ID, 4)).toBe(0x01080203);
  expect(config.read(Config.SUBSYSTEM_VENDOR_ID, 4)).toBe(0xbbbbaaaa);
  expect(config.read(Config.INTERRUPT_PIN, 1)).toBe(2);
  expect(config.read(Config.STATUS, 2)).toBe(0);
});

it('C.1 a declaration that no header can hold is refused with EINVAL', () => {
  for (const wrong of [
    { vendor: 0x10000 },
    { device: -1 },
    { classCode: 0x1000000 },
    { revision: Number.NaN },
    { interruptPin: 5 as never },
    { subsystem: 2 ** 53 },
  ]) {
    expect(() => new ConfigSpace({ ...card, ...wrong }), JSON.stringify(wrong)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  }
});

it('C.1 hardware keeps read-only bits and lets COMMAND have the bits that it implements', () => {
  const config = new ConfigSpace(card);
  config.write(Config.COMMAND, 2, 0xffff);
  expect(config.command).toBe(0x0507);
  expect([config.memoryEnabled, config.ioEnabled, config.busMaster, config.intxDisabled]).toEqual([true, true, true, true]);
  config.write(Config.VENDOR_ID, 4, 0);
  expect(config.read(Config.VENDOR_ID, 4)).toBe(0x56781234);
  config.write(Config.CACHE_LINE_SIZE, 4, 0xffff_ffff);
  expect(config.read(Config.CACHE_LINE_SIZE, 4)).toBe(0xff);
});

it('S2-12 a device older than PCI 2.3 cannot set InterruptDisable', () => {
  const config = new ConfigSpace({ ...card, interruptDisable: false });
  config.write(Config.COMMAND, 2, 0xffff);
  expect(config.command).toBe(0x0107);
});

it('C.1 STATUS errors clear by writing one, and only where the mask allows', () => {
  const config = new ConfigSpace(card);
  config.bytes[Config.STATUS + 1] = 0xf9;
  config.writeBits(Config.STATUS, 2, 0xffff, Status.PARITY);
  expect(config.read(Config.STATUS, 2)).toBe(0xf800);
  config.write(Config.STATUS, 2, 0xffff);
  expect(config.read(Config.STATUS, 2)).toBe(0);
});

it('C.1 BARs size and hold their address', () => {
  const config = new ConfigSpace({
    ...card,
    bars: [
      { index: 0, size: 0x4000, type: 'mem64' },
      { index: 2, size: 64, type: 'io' },
    ],
    rom: new Uint8Array(4096),
  });
  config.write(Config.BASE_ADDRESS_0, 4, 0xffff_ffff);
  config.write(Config.BASE_ADDRESS_1, 4, 0xffff_ffff);
  config.write(Config.BASE_ADDRESS_2, 4, 0xffff_ffff);
  expect(config.read(Config.BASE_ADDRESS_0, 4)).toBe(0xffffc004);
  expect(config.read(Config.BASE_ADDRESS_1, 4)).toBe(0xffffffff);
  expect(config.read(Config.BASE_ADDRESS_2, 4)).toBe(0xffffffc1);
  config.setBarAddress(0, 0x12_3456_8000n);
  config.setBarAddress(2, 0xc040n);
  expect([config.barAddress(0), config.barAddress(2)]).toEqual([0x12_3456_8000n, 0xc040n]);
  config.romAddress = 0xfebf_0000;
  expect([config.romAddress, config.romSize]).toEqual([0xfebf_0000, 4096]);
  for (const [bar, address] of [
    [0, 0x1000n],
    [0, -1n],
    [0, 2n ** 64n],
    [1, 0n],
    [2, 2n ** 32n],
    [3, 0n],
  ] as const) {
    expect(() => config.setBarAddress(bar, address)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  }
});

it('C.2 the NVMe declaration gives the bytes that a real one shows', () => {
  const config = bootedConfig(nvmeDeclaration, [[0, 0xfde0_0000n]], 0xb);
  expect(config.size).toBe(4096);
  expect(Buffer.from(config.bytes.subarray(0x40, 0x4c)).toString('hex')).toBe('118002000020000000300000');
  expect(Buffer.from(config.bytes.subarray(0x80, 0x94)).toString('hex')).toBe('1060020020800010000000001104000000001100');
  expect(config.findCapability(CapId.PM)).toBe(0x60);
  expect(config.findExtendedCapability(ExtCapId.SRIOV)).toBe(0x120);
  expect([config.findCapability(CapId.MSI), config.findExtendedCapability(ExtCapId.ERR)]).toEqual([0, 0]);
});

it('C.2 capabilities without a place go to the first gap and are linked in order', () => {
  const config = new ConfigSpace({
    ...card,
    capabilities: [
      pm(),
      msi({ vectors: 4, maskable: true, at: 0x50 }),
      msix({ vectors: 8 }),
      pcie(),
      vendorSpecific(Uint8Array.of(1, 2, 3)),
    ],
    extendedCapabilities: [aer(), dsn(0x1122334455667788n), acs(), ari(), ltr()],
  });
  const chain: [number, number][] = [];
  for (let at = config.read(Config.CAPABILITY_LIST, 1); at !== 0; at = config.bytes[at + 1]!) chain.push([config.bytes[at]!, at]);
  expect(chain).toEqual([
    [CapId.PM, 0x40],
    [CapId.MSI, 0x50],
    [CapId.MSIX, 0x68],
    [CapId.EXP, 0x74],
    [CapId.VNDR, 0x48],
  ]);
  expect(config.read(0x100, 4)).toBe(0x1482_0001);
  expect(config.read(0x148, 4)).toBe(0x1541_0003);
  expect(config.read(0x14c, 4)).toBe(0x55667788);
});

it('C.2 capabilities that cannot be laid out are refused with EINVAL', () => {
  const wrong: Partial<PciDeclaration>[] = [
    { capabilities: [pm({ at: 0x40 }), msi({ at: 0x44 })] },
    { capabilities: [pm({ at: 0x3c })] },
    { capabilities: [pm({ at: 0x41 })] },
    { capabilities: [pm({ at: 0xfc })] },
    { capabilities: [pm({ at: Number.NaN })] },
    { capabilities: [dsn(1n)] },
    { capabilities: [pcie()], extendedCapabilities: [pm()] },
    { extendedCapabilities: [dsn(1n)] },
    { capabilities: [pcie()], extendedCapabilities: [dsn(1n, { at: 0x200 })] },
    { capabilities: Array.from({ length: 25 }, () => pm()) },
    { capabilities: [{ ...pm(), writable: new Uint8Array(0) }] },
    { capabilities: [{ ...pm(), id: 256 }] },
    { capabilities: [{ ...pm(), bytes: new Uint8Array(1) }] },
  ];
  for (const w of wrong)
    expect(() => new ConfigSpace({ ...card, ...w }), JSON.stringify(w)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
});

it('C.2 builders refuse numbers that their registers cannot hold', () => {
  const wrong = [
    () => msi({ vectors: 3 }),
    () => msi({ vectors: 64 }),
    () => msi({ vectors: Number.NaN }),
    () => msix({ vectors: 0 }),
    () => msix({ vectors: 2049 }),
    () => msix({ vectors: 1, tableOffset: 4 }),
    () => msix({ vectors: 1, tableBar: 6 }),
    () => msix({ vectors: 1, pbaOffset: 2 ** 53 }),
    () => pcie({ maxPayload: 100 }),
    () => pcie({ maxPayload: 8192 }),
    () => pcie({ linkWidth: 3 }),
    () => pcie({ linkSpeed: 9 }),
    () => pcie({ portType: 'toString' as never }),
    () => pm({ version: 9 }),
    () => vpd(new Uint8Array(3)),
    () => vpd(new Uint8Array(40_000)),
    () => vendorSpecific(new Uint8Array(200)),
    () => otherCapability(300, 'x', new Uint8Array(4)),
    () => dsn(-1n),
    () => dsn(2n ** 64n),
  ];
  for (const w of wrong) expect(w, w.toString()).toThrow(expect.objectContaining({ code: 'EINVAL' }));
});

it('C.2 the hardware of MSI takes an address, data and masks for its vectors only', () => {
  const config = new ConfigSpace({ ...card, capabilities: [msi({ vectors: 4, maskable: true, at: 0x40 })] });
  for (let at = 0x40; at < 0x58; at += 4) config.write(at, 4, 0xffff_ffff);
  expect(config.read(0x40 + Msi.FLAGS, 2)).toBe(0x01f5);
  expect(config.read(0x40 + Msi.ADDRESS_LO, 4)).toBe(0xfffffffc);
  expect(config.read(0x40 + Msi.DATA_64, 4)).toBe(0xffff);
  expect(config.read(0x40 + Msi.MASK_64, 4)).toBe(0xf);
  expect(config.read(0x40 + Msi.PENDING_64, 4)).toBe(0);
});

it('S2-34 an MSI-X table lies at any multiple of 8: nothing is rounded to a page', () => {
  const config = new ConfigSpace({
    ...card,
    bars: [{ index: 2, size: 4096, type: 'mem32' }],
    capabilities: [msix({ vectors: 5, tableBar: 2, tableOffset: 0x108, at: 0x40 })],
  });
  expect([config.read(0x42, 2), config.read(0x44, 4), config.read(0x48, 4)]).toEqual([4, 0x10a, 0x15a]);
});

it('C.2 PMCSR holds the power state', () => {
  const config = new ConfigSpace({ ...card, capabilities: [pm({ at: 0x40 })] });
  expect([config.powerState, config.sleeping]).toEqual([PowerState.D0, false]);
  config.write(0x40 + Pm.CTRL, 2, 3);
  expect([config.powerState, config.sleeping]).toEqual([PowerState.D3HOT, true]);
  expect(new ConfigSpace(card).powerState).toBe(PowerState.D0);
});

it('C.2 VPD answers four bytes at a time', () => {
  const config = new ConfigSpace({ ...card, capabilities: [vpd(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), { at: 0x40 })] });
  config.write(0x40 + Vpd.ADDR, 2, 4);
  expect(config.read(0x40 + Vpd.ADDR, 2)).toBe(0x8004);
  expect(config.read(0x40 + Vpd.DATA, 4)).toBe(0x08070605);
  config.write(0x40 + Vpd.DATA, 4, 0xaabbccdd);
  config.write(0x40 + Vpd.ADDR, 2, 0x8000);
  expect(config.read(0x40 + Vpd.ADDR, 2)).toBe(0);
  config.write(0x40 + Vpd.ADDR, 2, 0);
  expect(config.read(0x40 + Vpd.DATA, 4)).toBe(0xaabbccdd);
});

it('each write reaches a listener until the listener is disposed', () => {
  const config = new ConfigSpace(card);
  const heard: [number, number][] = [];
  const listening = config.onWrite((offset, width) => heard.push([offset, width]));
  config.write(Config.COMMAND, 2, Command.MEMORY);
  const saved = config.save();
  config.reset();
  expect(config.command).toBe(0);
  config.restore(saved);
  expect(config.command).toBe(Command.MEMORY);
  listening[Symbol.dispose]();
  listening[Symbol.dispose]();
  config.write(Config.COMMAND, 2, 0);
  expect(heard).toEqual([
    [Config.COMMAND, 2],
    [0, 256],
    [0, 256],
  ]);
});

it('S2-30 save, reset and restore give back everything that software had set', () => {
  const config = bootedConfig(nvmeDeclaration, [[0, 0xfde0_0000n]]);
  config.write(0x80 + PciExp.DEVCTL, 2, 0x000f);
  config.markMultifunction();
  const before = config.bytes.slice();
  const saved = config.save();
  config.reset();
  expect(config.barAddress(0)).toBe(0n);
  expect(config.read(Config.HEADER_TYPE, 1)).toBe(0x80);
  config.restore(saved);
  expect(config.bytes).toEqual(before);
});

it('refuses an access that is outside or misaligned with EFAULT, and changes nothing', () => {
  const config = new ConfigSpace(eduDeclaration);
  const before = config.bytes.slice();
  for (const [offset, width] of [
    [-1, 1],
    [256, 1],
    [254, 4],
    [1, 2],
    [2, 4],
    [Number.NaN, 1],
    [0.5, 1],
    [2 ** 53, 1],
    [0, 3],
    [0, 8],
    [Infinity, 1],
  ] as const) {
    expect(() => config.read(offset, width as never)).toThrow(expect.objectContaining({ code: 'EFAULT' }));
    expect(() => config.write(offset, width as never, 0xffff_ffff)).toThrow(expect.objectContaining({ code: 'EFAULT' }));
  }
  expect(config.bytes).toEqual(before);
});

it('C.1 property: no write ever changes a bit that hardware has read-only', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(1023), fc.constantFrom(1, 2, 4), fc.nat(0xffff_ffff), fc.nat(0xffff_ffff)), { maxLength: 40 }),
      (writes) => {
        const config = bootedConfig(nvmeDeclaration, [[0, 0xfde0_0000n]]);
        const before = config.bytes.slice();
        for (const [slot, width, value, mask] of writes) config.writeBits(slot * 4, width as 1, value, mask);
        const wrong = config.bytes.findIndex(
          (byte, at) => ((byte ^ before[at]!) & ~(config.writableBits(at) | config.writeOneClearsBits(at))) !== 0,
        );
        expect(wrong).toBe(-1);
      },
    ),
  );
});
