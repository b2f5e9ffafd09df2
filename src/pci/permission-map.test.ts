import fc from 'fast-check';
import { expect, it } from 'vitest';
import { bootedConfig, eduDeclaration, nvmeDeclaration } from '../../tests/kit/declarations.ts';
import { CapId, Config, ExtCapId, Pm, Status } from '../abi/pci.ts';
import { walkCapabilities, walkExtendedCapabilities } from './capabilities/walk.ts';
import { acs, aer, dsn, otherCapability, otherExtendedCapability, pcie, pcix, pm, vendorSpecific, vsec } from './capabilities.ts';
import { ConfigSpace } from './config-space.ts';
import type { Capability, PciDeclaration } from './declaration.ts';
import { PermissionMap } from './permission-map.ts';

const card: PciDeclaration = { name: 'card', vendor: 1, device: 2, classCode: 0 };
const hiddenOne = (at: number) => otherCapability(CapId.DBG, 'debug port', new Uint8Array(6), { at });
const mapOf = (capabilities: readonly Capability[], extendedCapabilities: readonly Capability[] = []) =>
  new PermissionMap(new ConfigSpace({ ...card, capabilities, extendedCapabilities }));
const chainOf = (map: PermissionMap) => walkCapabilities(map.initial).steps.map((s) => [s.id, s.offset]);
const extendedChainOf = (map: PermissionMap) => walkExtendedCapabilities(map.initial).steps.map((s) => [s.id, s.offset]);

it('S2-05 every byte belongs to the header, a capability or a gap', () => {
  const map = new PermissionMap(new ConfigSpace(eduDeclaration));
  expect([0x00, 0x3f, 0x40, 0x4d, 0x4e, 0xff].map((at) => map.regionAt(at).name)).toEqual(['header', 'header', 'MSI', 'MSI', 'gap', 'gap']);
  expect(map.regionAt(0x80)).toMatchObject({ kind: 'gap', start: 0x4e, length: 0xb2 });
  expect(map.fieldAt(0x05)).toMatchObject({ name: 'COMMAND', offset: 4, width: 2 });
  expect(map.fieldAt(0x4d)).toMatchObject({ name: 'message data', offset: 0x4c });
  expect(map.format()).toMatch(/^000-03f header[^\n]*\n040-04d MSI \(capability\)[^\n]*\n04e-0ff gap/);
});

it('C.2 gaps between capabilities are raw: everything goes to hardware', () => {
  const map = new PermissionMap(new ConfigSpace(eduDeclaration));
  for (let at = 0x4e; at < 0x100; at++) expect([map.virt[at], map.write[at]]).toEqual([0, 0xff]);
});

it('B.8 config accesses are chopped at dwords and at the edges of capabilities', () => {
  const map = mapOf([vendorSpecific(new Uint8Array(2), { at: 0x40 }), pm({ at: 0x48 })]);
  expect(map.chunk(0x40, 8)).toBe(4);
  expect(map.chunk(0x41, 3)).toBe(1);
  expect(map.chunk(0x42, 2)).toBe(2);
  expect(map.chunk(0x42, 1)).toBe(1);
  expect(map.chunk(0x40, 3)).toBe(2);
  // The capability has 5 bytes: its last is alone in its dword, three bytes of gap follow.
  expect([0x44, 0x45, 0x46].map((at) => map.chunk(at, 8))).toEqual([1, 1, 2]);
  expect(map.chunk(0xfe, 2)).toBe(2);
});

it('C.2 hidden capabilities are taken out of the list, wherever they stand', () => {
  expect(
    chainOf(
      mapOf([
        hiddenOne(0x40),
        pm({ at: 0x50 }),
        hiddenOne(0x60),
        hiddenOne(0x70),
        vendorSpecific(new Uint8Array(1), { at: 0x80 }),
        hiddenOne(0x90),
      ]),
    ),
  ).toEqual([
    [CapId.PM, 0x50],
    [CapId.VNDR, 0x80],
  ]);
  const map = mapOf([pm({ at: 0x50 }), hiddenOne(0x60)]);
  expect(map.hidden).toEqual([{ id: CapId.DBG, extended: false, offset: 0x60, name: 'Debug Port', why: 'not supported' }]);
  expect(map.regionAt(0x60)).toMatchObject({ kind: 'gap', why: expect.stringMatching(/hidden Debug Port/) });
});

it('C.2 ids 0 and beyond 0x14, and vendor capabilities without bytes, are hidden', () => {
  const none = vendorSpecific(new Uint8Array(0), { at: 0x70 });
  none.bytes[2] = 0;
  const map = mapOf([
    otherCapability(0, 'null', new Uint8Array(2), { at: 0x40 }),
    otherCapability(0x15, 'FPB', new Uint8Array(2), { at: 0x50 }),
    pm({ at: 0x60 }),
    none,
  ]);
  expect(chainOf(map)).toEqual([[CapId.PM, 0x60]]);
  expect(map.hidden.map((h) => h.id)).toEqual([0, 0x15, CapId.VNDR]);
});

it('C.1 STATUS says that there is no list when nothing of it is left', () => {
  const map = mapOf([hiddenOne(0x40)]);
  expect(map.initial[Config.STATUS]! & Status.CAP_LIST).toBe(0);
  expect(map.virt[Config.STATUS]).toBe(Status.CAP_LIST);
  expect(map.initial[Config.CAPABILITY_LIST]).toBe(0);
});

it('C.2 power management events are not shown', () => {
  const config = new ConfigSpace({ ...card, capabilities: [pm({ pme: true, at: 0x40 })] });
  config.write(0x40 + Pm.CTRL, 2, Pm.CTRL_PME_ENABLE);
  expect(config.read(0x40 + Pm.PMC, 2)).toBe(0x4803);
  const map = new PermissionMap(config);
  expect(map.initial[0x43]).toBe(0);
  expect(map.initial[0x45]! & 0x81).toBe(0);
});

it('C.3 extended capabilities are looked at only behind PCI Express or PCI-X with a version', () => {
  expect(mapOf([pcie()], [dsn(1n)]).regions.map((r) => r.name)).toContain('Device Serial Number');
  expect(mapOf([pcix({ version: 2 })], [dsn(1n)]).regions.map((r) => r.name)).toContain('Device Serial Number');
  expect(mapOf([pcix({ version: 0 })], [dsn(1n)]).regions.map((r) => r.name)).not.toContain('Device Serial Number');
});

it('C.3 a hidden first capability stays as a placeholder, later ones are taken out', () => {
  const pasid = (at: number) => otherExtendedCapability(ExtCapId.PASID, 'PASID', new Uint8Array(4), { at });
  const map = mapOf([pcie()], [pasid(0x100), pasid(0x110), dsn(1n, { at: 0x120 }), pasid(0x130), aer({ at: 0x140 })]);
  expect(extendedChainOf(map)).toEqual([
    [0, 0x100],
    [ExtCapId.DSN, 0x120],
    [ExtCapId.ERR, 0x140],
  ]);
  const head = new DataView(map.initial.buffer).getUint32(0x100, true);
  expect(head).toBe(0x1200_0000);
  expect(map.regionAt(0x100)).toMatchObject({ kind: 'placeholder', length: 4 });
  expect([map.virt[0x103], map.write[0x103]]).toEqual([0xff, 0]);
  expect(map.regionAt(0x104).kind).toBe('gap');
});

it('C.3 the first dword reads 0 when no extended capability is left', () => {
  const map = mapOf(
    [pcie()],
    [otherExtendedCapability(ExtCapId.PASID, 'PASID', new Uint8Array(4)), otherExtendedCapability(0x7777, 'new', new Uint8Array(4))],
  );
  expect(new DataView(map.initial.buffer).getUint32(0x100, true)).toBe(0);
});

it('S2-45 an overlap of capabilities is a warning, and the later capability wins', () => {
  const config = new ConfigSpace({
    ...card,
    capabilities: [pm({ at: 0x40 }), otherCapability(CapId.MSIX, 'x', new Uint8Array(10), { at: 0x60 })],
  });
  config.bytes[0x41] = 0x44;
  config.bytes[0x44] = CapId.MSIX;
  const map = new PermissionMap(config);
  expect(map.warnings).toEqual([expect.stringMatching(/MSI-X at 0x44 overlaps Power Management at 0x44/)]);
  expect([map.regionAt(0x43).name, map.regionAt(0x44).name]).toEqual(['Power Management', 'MSI-X']);
});

it('S2-45 a length beyond the end of config space is cut there', () => {
  const config = new ConfigSpace({ ...card, capabilities: [vendorSpecific(new Uint8Array(5), { at: 0xf8 })] });
  config.bytes[0xfa] = 0xff;
  const map = new PermissionMap(config);
  expect(map.regionAt(0xf8).length).toBe(8);
  expect(map.warnings).toEqual([expect.stringMatching(/beyond the end/)]);
  const far = new ConfigSpace({ ...card, capabilities: [pcie()], extendedCapabilities: [vsec({ id: 1, body: new Uint8Array(4) })] });
  new DataView(far.bytes.buffer).setUint32(0x104, 0xfff0_0001, true);
  expect(new PermissionMap(far).regionAt(0xfff)).toMatchObject({ start: 0x100, length: 0xf00 });
});

it('S2-45 a looped chain: the map is made, warns, and the user sees a list that ends', () => {
  const config = bootedConfig(nvmeDeclaration);
  config.bytes[0x61] = 0x40;
  const map = new PermissionMap(config);
  expect(map.warnings).toEqual([expect.stringMatching(/loops back to 0x40/)]);
  expect(chainOf(map).length).toBe(3);
  expect(map.initial[0x61]).toBe(0);
});

it('C.3 isolation’s own registers cannot be written', () => {
  const map = mapOf([pcie()], [acs({ at: 0x100 })]);
  expect(map.write.subarray(0x100, 0x108).every((byte) => byte === 0)).toBe(true);
});

it('refuses bytes that are no config space with EINVAL', () => {
  for (const size of [0, 255, 512, 4095, Number.NaN]) {
    expect(() => new PermissionMap({ size, bytes: new Uint8Array(4096) })).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  }
  expect(() => new PermissionMap({ size: 4096, bytes: new Uint8Array(256) })).toThrow(expect.objectContaining({ code: 'EINVAL' }));
});

it('S2-45 property: a map is made from any bytes, its list ends, and only shown capabilities are in it', () => {
  const bytes = fc
    .tuple(fc.uint8Array({ minLength: 256, maxLength: 256 }), fc.uint8Array({ minLength: 64, maxLength: 64 }))
    .map(([low, pattern]) => {
      const all = new Uint8Array(4096);
      for (let at = 256; at < 4096; at++) all[at] = pattern[at % 64]!;
      all.set(low);
      // Often enough: a list, and capabilities that exist.
      all[Config.STATUS] = all[Config.STATUS]! | Status.CAP_LIST;
      for (let at = 0x40; at < 0x100; at += 16) all[at] = all[at]! % 0x16;
      for (let at = 0x100; at < 0x1000; at += 16) all[at + 1] = 0;
      return all;
    });
  fc.assert(
    fc.property(bytes, fc.constantFrom(256, 4096), (all, size) => {
      const map = new PermissionMap({ size, bytes: all.subarray(0, size) });
      const walk = walkCapabilities(map.initial, Config.CAPABILITY_LIST);
      // Overlapping capabilities are garbage in, and the later one wins: only the bounds hold then.
      const clean = !map.warnings.some((w) => w.includes('overlaps'));
      const strangers = walk.steps.filter((s) => !map.regions.some((r) => r.kind === 'capability' && r.start === s.offset));
      if (clean) expect(strangers).toEqual([]);
      if (clean) expect(walk.warnings.filter((w) => w.includes('loops'))).toEqual([]);
      expect(map.warnings.length).toBeLessThanOrEqual(100);
      for (let at = 0; at < size; at += 61) expect(map.fieldAt(at).why).not.toBe('');
    }),
    { numRuns: 200 },
  );
});
