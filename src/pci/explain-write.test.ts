import fc from 'fast-check';
import { expect, it } from 'vitest';
import { bootedConfig, nvmeDeclaration } from '../../tests/kit/declarations.ts';
import { Config } from '../abi/pci.ts';
import { aer, af, dvsec, otherCapability, pcie, vendorSpecific, vsec } from './capabilities.ts';
import { ConfigSpace } from './config-space.ts';
import { explainConfigWrite } from './explain-write.ts';
import { PermissionMap } from './permission-map.ts';

function setUp(config: ConfigSpace = bootedConfig(nvmeDeclaration, [[0, 0xfde0_0000n]])) {
  const map = new PermissionMap(config);
  return { map, target: { virtual: map.initial, hardware: config } };
}

it('S2-44 COMMAND: which bits stay in the copy, reach hardware, or are wired to zero there', () => {
  const { map, target } = setUp();
  const { bits, triggers, where } = explainConfigWrite(map, target, Config.COMMAND, 2, 0xffff);
  expect(where).toBe('header');
  expect(bits.map((b) => [b.register, b.msb, b.lsb, b.landing, b.after])).toEqual([
    ['COMMAND', 15, 11, 'hardware read-only', 0],
    ['COMMAND', 10, 10, 'virtual', 1],
    ['COMMAND', 9, 9, 'hardware read-only', 0],
    ['COMMAND', 8, 8, 'hardware', 1],
    ['COMMAND', 7, 3, 'hardware read-only', 0],
    ['COMMAND', 2, 0, 'hardware', 7],
  ]);
  expect(triggers.map((t) => t.trigger)).toEqual(['intx-mask', 'memory-decode'].sort((a) => (a === 'memory-decode' ? -1 : 1)));
});

it('S2-44 a dropped write says why', () => {
  const { map, target } = setUp();
  expect(explainConfigWrite(map, target, Config.VENDOR_ID, 2, 0xbeef).bits).toEqual([
    {
      register: 'vendor id',
      offset: 0,
      msb: 15,
      lsb: 0,
      landing: 'dropped',
      before: 0x1b36,
      written: 0xbeef,
      after: 0x1b36,
      why: expect.stringMatching(/virtual functions/),
    },
  ]);
  expect(explainConfigWrite(map, target, 0x42, 2, 0xc000).bits[0]).toMatchObject({
    landing: 'dropped',
    why: expect.stringMatching(/SET_IRQS/),
  });
  expect(explainConfigWrite(map, target, 0x128, 2, 1).bits[0]).toMatchObject({
    landing: 'dropped',
    why: expect.stringMatching(/administrator/),
  });
});

it('S2-44 a write over several registers names each', () => {
  const { map, target } = setUp();
  const { bits } = explainConfigWrite(map, target, 0x62, 4, 0xffff_ffff);
  expect(bits.map((b) => [b.register, b.offset, b.msb, b.lsb, b.landing])).toEqual([
    ['power management control', 0x64, 15, 15, 'dropped'],
    ['power management control', 0x64, 14, 9, 'hardware read-only'],
    ['power management control', 0x64, 8, 8, 'dropped'],
    ['power management control', 0x64, 7, 2, 'hardware read-only'],
    ['power management control', 0x64, 1, 0, 'dropped'],
    ['power management capabilities', 0x62, 15, 11, 'dropped'],
    ['power management capabilities', 0x62, 10, 0, 'dropped'],
  ]);
});

it('S2-44 gaps and vendors’ registers say that they are raw', () => {
  const config = new ConfigSpace({
    name: 'card',
    vendor: 1,
    device: 2,
    classCode: 0,
    capabilities: [
      vendorSpecific(new Uint8Array(4), { at: 0x40, writable: true }),
      otherCapability(0x0a, 'debug', new Uint8Array(6), { at: 0x50 }),
    ],
  });
  const { map, target } = setUp(config);
  expect(explainConfigWrite(map, target, 0x44, 1, 5).bits[0]).toMatchObject({
    landing: 'hardware',
    after: 5,
    why: expect.stringMatching(/straight to hardware/),
  });
  expect(explainConfigWrite(map, target, 0x51, 1, 5)).toMatchObject({ kind: 'gap', bits: [{ landing: 'hardware read-only' }] });
});

it('S2-44 write-one-to-clear bits read as they will afterwards', () => {
  const { map, target } = setUp(
    new ConfigSpace({ name: 'card', vendor: 1, device: 2, classCode: 0, capabilities: [pcie()], extendedCapabilities: [aer()] }),
  );
  target.hardware.bytes[0x105] = 0x30;
  const explained = explainConfigWrite(map, target, 0x104, 2, 0x1000);
  expect(explained.bits.find((b) => b.landing === 'hardware')).toMatchObject({
    register: 'uncorrectable error status',
    msb: 15,
    lsb: 12,
    before: 3,
    written: 1,
    after: 2,
  });
});

it('S2-44 bytes that no row names are explained as one', () => {
  const { map, target } = setUp();
  expect(explainConfigWrite(map, target, 0x8a, 2, 5).bits).toEqual([
    expect.objectContaining({
      register: 'PCI Express',
      offset: 0x8a,
      msb: 15,
      lsb: 0,
      landing: 'dropped',
      why: expect.stringMatching(/^read-only/),
    }),
  ]);
});

it('S2-44 refuses what is no write: EINVAL, EFAULT', () => {
  const { map, target } = setUp();
  for (const [offset, width, value, code] of [
    [0, 3, 0, 'EINVAL'],
    [0, 1, 256, 'EINVAL'],
    [0, 4, 2 ** 32, 'EINVAL'],
    [0, 2, -1, 'EINVAL'],
    [0, 2, Number.NaN, 'EINVAL'],
    [4096, 1, 0, 'EFAULT'],
    [4094, 4, 0, 'EFAULT'],
    [-1, 1, 0, 'EFAULT'],
    [0.5, 1, 0, 'EFAULT'],
    [Number.NaN, 1, 0, 'EFAULT'],
  ] as const) {
    expect(() => explainConfigWrite(map, target, offset, width as 1, value)).toThrow(expect.objectContaining({ code }));
  }
});

it('S2-44 property: every bit of every write is accounted for once, with a reason', () => {
  const { map, target } = setUp();
  fc.assert(
    fc.property(fc.nat(4092), fc.constantFrom(1, 2, 4), fc.nat(0xffff_ffff), (offset, width, raw) => {
      const value = raw % 2 ** (8 * width);
      const { bits } = explainConfigWrite(map, target, offset, width as 1, value);
      expect(bits.reduce((n, b) => n + b.msb - b.lsb + 1, 0)).toBe(8 * width);
      expect(bits.every((b) => b.why.length > 0)).toBe(true);
      let together = 0;
      for (const b of bits) together = together * 2 ** (b.msb - b.lsb + 1) + b.written;
      expect(together).toBe(value);
    }),
  );
});

it('S2-44 a bit that is dropped is never explained by what may be written', () => {
  const config = new ConfigSpace({
    name: 'card',
    vendor: 1,
    device: 2,
    classCode: 0,
    capabilities: [pcie(), vendorSpecific(new Uint8Array(4), { at: 0xc0 }), af({ at: 0xd0 })],
    extendedCapabilities: [
      aer(),
      vsec({ id: 1, revision: 1, body: new Uint8Array(8) }),
      dvsec({ vendor: 1, id: 2, body: new Uint8Array(8) }),
    ],
  });
  const { map, target } = setUp(config);
  const dropped: string[] = [];
  for (let offset = 0; offset < map.size; offset++) {
    for (const { landing, why } of explainConfigWrite(map, target, offset, 1, 0xff).bits) if (landing === 'dropped') dropped.push(why);
  }
  expect(dropped.length).toBeGreaterThan(100);
  expect(dropped.filter((why) => /straight to hardware|the user may set|no harm|the host does the reset/.test(why))).toEqual([]);
  expect(explainConfigWrite(map, target, 0xc0, 1, 0xff).bits[0]).toMatchObject({
    landing: 'dropped',
    why: expect.stringMatching(/^read-only: the header/),
  });
  expect(explainConfigWrite(map, target, 0xc3, 1, 0xff).bits[0]!.landing).not.toBe('dropped');
});
