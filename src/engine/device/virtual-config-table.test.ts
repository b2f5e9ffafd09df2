/**
 * Part C once more, typed in independently of src/pci/permissions.ts, and compared with
 * VirtualConfig over hardware that lets everything be written: the test tries every bit of every
 * capability, which must land where the table below says.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bootedConfig } from '../../../tests/kit/declarations.ts';
import { VfioError } from '../../base/errno.ts';
import { msi, otherCapability, otherExtendedCapability, pcie, pm, vendorSpecific, vpd } from '../../pci/capabilities.ts';
import type { ConfigSpace } from '../../pci/config-space.ts';
import type { Capability, PciDeclaration } from '../../pci/declaration.ts';
import { aer, vsec } from '../../pci/extended-capabilities.ts';
import { VirtualConfig } from './virtual-config.ts';

/** offset, width, virtual bits, writable bits */
type Field = readonly [number, number, number, number];

interface Expected {
  readonly id: number;
  readonly name: string;
  /** 0: hidden */
  readonly length: number;
  /** First bytes after the header, where the length depends on them. */
  readonly start?: readonly number[];
  readonly fields?: readonly Field[];
  readonly raw?: true;
  /**
   * Bytes where a write has side effects on other bits: other tests check that nothing forbidden
   * lands there.
   */
  readonly effects?: readonly number[];
}

const ALL = 0xffffffff;

const standard: readonly Expected[] = [
  { id: 0x00, name: 'null', length: 0 },
  {
    id: 0x01,
    name: 'PM',
    length: 8,
    fields: [
      [2, 2, 0xf800, 0],
      [4, 2, 0x8100, 0x7efc],
    ],
  },
  { id: 0x02, name: 'AGP', length: 12 },
  {
    id: 0x03,
    name: 'VPD',
    length: 8,
    fields: [
      [2, 2, 0xffff, 0xffff],
      [4, 4, ALL, ALL],
    ],
    effects: [3],
  },
  { id: 0x04, name: 'slot', length: 0 },
  {
    id: 0x05,
    name: 'MSI 32',
    length: 10,
    start: [0x00, 0],
    fields: [
      [2, 1, 0xff, 0xff],
      [4, 4, ALL, ALL],
      [8, 2, 0xffff, 0xffff],
    ],
    effects: [2],
  },
  {
    id: 0x05,
    name: 'MSI 64',
    length: 14,
    start: [0x80, 0],
    fields: [
      [2, 1, 0xff, 0xff],
      [4, 4, ALL, ALL],
      [8, 4, ALL, ALL],
      [12, 2, 0xffff, 0xffff],
    ],
    effects: [2],
  },
  {
    id: 0x05,
    name: 'MSI 32 masked',
    length: 20,
    start: [0x00, 1],
    fields: [
      [2, 1, 0xff, 0xff],
      [4, 4, ALL, ALL],
      [8, 2, 0xffff, 0xffff],
      [12, 4, 0, ALL],
      [16, 4, 0, ALL],
    ],
    effects: [2],
  },
  {
    id: 0x05,
    name: 'MSI 64 masked',
    length: 24,
    start: [0x80, 1],
    fields: [
      [2, 1, 0xff, 0xff],
      [4, 4, ALL, ALL],
      [8, 4, ALL, ALL],
      [12, 2, 0xffff, 0xffff],
      [16, 4, 0, ALL],
      [20, 4, 0, ALL],
    ],
    effects: [2],
  },
  { id: 0x06, name: 'CompactPCI', length: 0 },
  { id: 0x07, name: 'PCI-X 0', length: 8, start: [0, 0x00], fields: [[2, 2, 0, 0xffff]] },
  {
    id: 0x07,
    name: 'PCI-X 2',
    length: 24,
    start: [0, 0x20],
    fields: [
      [2, 2, 0, 0xffff],
      [8, 4, 0, ALL],
    ],
  },
  { id: 0x08, name: 'HyperTransport long', length: 28, start: [0, 0x08] },
  { id: 0x08, name: 'HyperTransport short', length: 24, start: [0, 0xa8] },
  { id: 0x09, name: 'vendor', length: 11, start: [11], raw: true },
  { id: 0x0a, name: 'debug', length: 0 },
  { id: 0x0b, name: 'CCRC', length: 0 },
  { id: 0x0c, name: 'SHPC', length: 0 },
  { id: 0x0d, name: 'SSVID', length: 0 },
  { id: 0x0e, name: 'AGP3', length: 0 },
  { id: 0x0f, name: 'secure', length: 0 },
  { id: 0x10, name: 'PCIe 1', length: 20, start: [0x01, 0], fields: [[8, 2, 0xf0e0, 0xfdff]], effects: [9] },
  {
    id: 0x10,
    name: 'PCIe 2',
    length: 0x34,
    start: [0x02, 0],
    fields: [
      [8, 2, 0xf0e0, 0xfdff],
      [0x28, 2, 0, 0xffdf],
    ],
    effects: [9],
  },
  {
    id: 0x10,
    name: 'PCIe 2 without link',
    length: 0x2c,
    start: [0x92, 0],
    fields: [
      [8, 2, 0xf0e0, 0xfdff],
      [0x28, 2, 0, 0xffdf],
    ],
    effects: [9],
  },
  { id: 0x11, name: 'MSI-X', length: 12 },
  { id: 0x12, name: 'SATA', length: 8, start: [0, 0, 0] },
  { id: 0x12, name: 'SATA inline', length: 16, start: [0, 0, 0x0f] },
  { id: 0x13, name: 'AF', length: 6, fields: [[4, 1, 1, 1]], effects: [4] },
  { id: 0x14, name: 'EA', length: 0 },
  { id: 0x15, name: 'FPB', length: 0 },
  { id: 0x77, name: 'unknown', length: 0 },
];

const extended: readonly Expected[] = [
  {
    id: 0x01,
    name: 'AER',
    length: 0x2c,
    fields: [
      [4, 4, 0, 0x03fff031],
      [8, 4, 0, 0x03fff031],
      [12, 4, 0, 0x03fff031],
      [16, 4, 0, 0xf1c1],
      [20, 4, 0, 0xf1c1],
      [24, 4, 0, 0x140],
    ],
  },
  { id: 0x02, name: 'VC', length: 28 },
  { id: 0x02, name: 'VC with arbitration', length: 48, start: [0, 0, 0, 0, 2] },
  { id: 0x03, name: 'DSN', length: 12 },
  { id: 0x04, name: 'power budgeting', length: 16, fields: [[4, 1, 0, 0xff]] },
  { id: 0x05, name: 'RCLD', length: 0 },
  { id: 0x06, name: 'RCILC', length: 0 },
  { id: 0x07, name: 'RCEC', length: 0 },
  { id: 0x08, name: 'MFVC', length: 28 },
  { id: 0x09, name: 'VC9', length: 28 },
  { id: 0x0a, name: 'RCRB', length: 0 },
  { id: 0x0b, name: 'VSEC', length: 0x14, start: [0, 0, 0x40, 0x01], raw: true },
  { id: 0x0c, name: 'CAC', length: 0 },
  { id: 0x0d, name: 'ACS', length: 8 },
  { id: 0x0d, name: 'ACS with egress', length: 16, start: [0x20, 33] },
  { id: 0x0e, name: 'ARI', length: 8 },
  { id: 0x0f, name: 'ATS', length: 8 },
  { id: 0x10, name: 'SR-IOV', length: 64 },
  { id: 0x11, name: 'MR-IOV', length: 0 },
  { id: 0x12, name: 'multicast', length: 40 },
  { id: 0x13, name: 'PRI', length: 16 },
  { id: 0x14, name: 'AMD', length: 0 },
  { id: 0x15, name: 'resizable BAR', length: 20, start: [0, 0, 0, 0, 0x40] },
  { id: 0x16, name: 'DPA', length: 20, start: [3] },
  { id: 0x17, name: 'TPH', length: 12 },
  { id: 0x17, name: 'TPH with table', length: 20, start: [0, 2, 3, 0] },
  { id: 0x18, name: 'LTR', length: 8 },
  ...[0x19, 0x1a, 0x1b, 0x1d, 0x1e, 0x1f, 0x25, 0x26, 0x2a, 0x2e, 0x31, 0x7777].map((id) => ({
    id,
    name: `hidden ${id.toString(16)}`,
    length: 0,
  })),
  { id: 0x23, name: 'DVSEC', length: 0x14, start: [0, 0, 0x40, 0x01], raw: true },
];

const header: Expected = {
  id: 0,
  name: 'header',
  length: 64,
  fields: [
    [0x00, 2, 0xffff, 0],
    [0x02, 2, 0xffff, 0],
    [0x04, 2, 0x0400, 0xffff],
    [0x06, 2, 0x0010, 0],
    [0x0c, 1, 0, 0xff],
    [0x0d, 1, 0, 0xff],
    [0x0f, 1, 0, 0xff],
    ...[0, 1, 2, 3, 4, 5].map((i) => [0x10 + 4 * i, 4, ALL, ALL] as const),
    [0x30, 4, ALL, ALL],
    [0x34, 1, 0xff, 0],
    [0x3c, 1, 0xff, 0xff],
    [0x3d, 1, 0xff, 0],
  ],
};

/** virtual and writable bits of the byte at `offset` of a capability. */
function masks(e: Expected, offset: number, headerBytes: number): { virt: number; write: number } {
  for (const [at, width, virt, write] of e.fields ?? []) {
    if (offset >= at && offset < at + width)
      return { virt: (virt >>> (8 * (offset - at))) & 0xff, write: (write >>> (8 * (offset - at))) & 0xff };
  }
  const own = offset >= headerBytes || e === header;
  return { virt: !own && (headerBytes === 4 || offset === 1) ? 0xff : 0, write: own && e.raw === true ? 0xff : 0 };
}

/**
 * A capability whose every byte hardware lets software write, followed by another one far enough
 * away.
 */
function writableCapability(e: Expected, isExtended: boolean): Capability {
  const size = Math.max(e.length, 8) + 4;
  const headerBytes = isExtended ? 4 : 2;
  const body = new Uint8Array(size - headerBytes);
  body.set(e.start ?? []);
  const writable = new Uint8Array(body.length).fill(0xff);
  return isExtended
    ? otherExtendedCapability(e.id, e.name, body, { writable })
    : otherCapability(e.id, e.name, body, { writable, at: 0x60 });
}

function open(config: ConfigSpace): VirtualConfig {
  return new VirtualConfig(config, {
    memoryDisabled: () => {},
    intxDisable: () => {},
    setPowerState: () => {},
    functionReset: () => {},
    msiEnabled: () => true,
    msiQueueMax: () => 7,
  });
}

const card: PciDeclaration = {
  name: 'card',
  vendor: 1,
  device: 2,
  classCode: 0,
  interruptPin: 1,
  bars: [{ index: 0, size: 16, type: 'mem32' }],
};

type Fate = 'virtual' | 'hardware' | 'dropped';

/** Flip one bit of the byte at `at` and see where it landed. */
function tryBit(vconfig: VirtualConfig, at: number, bit: number): Fate | string {
  const { config } = vconfig;
  const hardware = config.bytes.slice();
  const copy = vconfig.bytes.slice();
  const byte = new Uint8Array(1);
  vconfig.read(at, byte);
  const seen = byte[0]!;
  vconfig.write(at, Uint8Array.of(seen ^ (1 << bit)));
  vconfig.read(at, byte);
  const inHardware = config.bytes.reduce(
    (n, b, i) => n + (b === hardware[i] ? 0 : i === at && (b ^ hardware[i]!) === 1 << bit ? 1 : 100),
    0,
  );
  const inCopy = vconfig.bytes.reduce((n, b, i) => n + (b === copy[i] ? 0 : i === at && (b ^ copy[i]!) === 1 << bit ? 1 : 100), 0);
  const visible = byte[0]! ^ seen;
  config.bytes.set(hardware);
  vconfig.bytes.set(copy);
  if (inHardware === 0 && inCopy === 0 && visible === 0) return 'dropped';
  if (inHardware === 0 && inCopy === 1 && visible === 1 << bit) return 'virtual';
  if (inHardware === 1 && inCopy === 0 && visible === 1 << bit) return 'hardware';
  return `hardware ${inHardware}, copy ${inCopy}, visible ${visible.toString(16)}`;
}

function fates(
  vconfig: VirtualConfig,
  e: Expected,
  start: number,
  length: number,
  headerBytes: number,
): { wrong: string[]; tried: number } {
  const wrong: string[] = [];
  let tried = 0;
  for (let offset = 0; offset < length; offset++) {
    if (e.effects?.includes(offset) === true) continue;
    const { virt, write } = masks(e, offset, headerBytes);
    for (let bit = 0; bit < 8; bit++) {
      const want: Fate = ((write >> bit) & 1) === 0 ? 'dropped' : ((virt >> bit) & 1) === 1 ? 'virtual' : 'hardware';
      const got = tryBit(vconfig, start + offset, bit);
      if (got !== want) wrong.push(`+${offset.toString(16)} bit ${bit}: ${got}, not ${want}`);
      tried++;
    }
  }
  return { wrong, tried };
}

/**
 * The gap after a capability, or the whole of a hidden one behind its header, goes straight to
 * hardware.
 */
function gapWrong(vconfig: VirtualConfig, from: number, to: number): string[] {
  const wrong: string[] = [];
  for (let at = from; at < to; at++)
    for (let bit = 0; bit < 8; bit++) if (tryBit(vconfig, at, bit) !== 'hardware') wrong.push(`gap ${at.toString(16)} bit ${bit}`);
  return wrong;
}

describe('every bit of every capability', () => {
  for (const e of standard) {
    it(`S2-43 C.2 ${e.id.toString(16).padStart(2, '0')} ${e.name}: each bit lands where part C says`, () => {
      const capability = writableCapability(e, false);
      const vconfig = open(bootedConfig({ ...card, capabilities: [capability] }));
      if (e.length === 0) {
        expect(vconfig.map.hidden).toHaveLength(1);
        expect(gapWrong(vconfig, 0x62, 0x60 + capability.bytes.length)).toEqual([]);
        return;
      }
      expect(vconfig.map.regionAt(0x60)).toMatchObject({ kind: 'capability', length: e.length });
      const { wrong, tried } = fates(vconfig, e, 0x60, e.length, 2);
      expect(wrong).toEqual([]);
      expect(tried).toBe(8 * (e.length - (e.effects?.length ?? 0)));
      expect(gapWrong(vconfig, 0x60 + e.length, 0x60 + capability.bytes.length)).toEqual([]);
    });
  }

  for (const e of extended) {
    it(`S2-43 C.3 ${e.id.toString(16).padStart(2, '0')} ${e.name}: each bit lands where part C says`, () => {
      const capability = writableCapability(e, true);
      const vconfig = open(bootedConfig({ ...card, capabilities: [pcie()], extendedCapabilities: [capability] }));
      if (e.length === 0) {
        expect(vconfig.map.regionAt(0x100).kind).toBe('placeholder');
        expect(fates(vconfig, e, 0x100, 4, 4).wrong).toEqual([]);
        expect(gapWrong(vconfig, 0x104, 0x100 + capability.bytes.length)).toEqual([]);
        return;
      }
      expect(vconfig.map.regionAt(0x100)).toMatchObject({ kind: 'extended', length: e.length });
      expect(fates(vconfig, e, 0x100, e.length, 4)).toEqual({ wrong: [], tried: 8 * e.length });
      expect(gapWrong(vconfig, 0x100 + e.length, 0x100 + capability.bytes.length)).toEqual([]);
    });
  }

  it('S2-05 C.1 header: each bit is virtual, writable or neither as part C says', () => {
    const { map } = open(bootedConfig(card));
    for (let at = 0; at < 64; at++)
      expect([at, map.virt[at], map.write[at]]).toEqual([at, masks(header, at, 0).virt, masks(header, at, 0).write]);
  });
});

/** A device with one of each kind of behaviour, its expectation from the tables above. */
const everything: PciDeclaration = {
  ...card,
  capabilities: [
    pm({ at: 0x40 }),
    msi({ at: 0x48, vectors: 4, maskable: true }),
    vpd(new Uint8Array(64).fill(7), { at: 0x60 }),
    vendorSpecific(new Uint8Array(8), { at: 0x68, writable: true }),
    otherCapability(0x0a, 'hidden', new Uint8Array(6).fill(3), { at: 0x74, writable: new Uint8Array(6).fill(0xff) }),
    pcie({ at: 0x80, flr: true, deviceControl: 0x7fff }),
    otherCapability(0x11, 'MSI-X', new Uint8Array(10).fill(1), { at: 0xc0, writable: new Uint8Array(10).fill(0xff) }),
  ],
  extendedCapabilities: [aer({ at: 0x100 }), vsec({ id: 9, body: new Uint8Array(8), writable: true, at: 0x148 })],
};
const parts: readonly (readonly [Expected, number, number])[] = [
  [header, 0, 0],
  [standard.find((e) => e.name === 'PM')!, 0x40, 2],
  [standard.find((e) => e.name === 'MSI 64 masked')!, 0x48, 2],
  [standard.find((e) => e.name === 'VPD')!, 0x60, 2],
  [{ ...standard.find((e) => e.name === 'vendor')!, length: 11 }, 0x68, 2],
  [standard.find((e) => e.name === 'PCIe 2')!, 0x80, 2],
  [standard.find((e) => e.name === 'MSI-X')!, 0xc0, 2],
  [extended.find((e) => e.name === 'AER')!, 0x100, 4],
  [{ ...extended.find((e) => e.name === 'VSEC')!, length: 16 }, 0x148, 4],
];

/**
 * Bits of hardware that a user's write may change: those that the tables give the user, and those
 * that the host changes for the user.
 */
function mayChange(): { hardware: Uint8Array; seen: Uint8Array } {
  const hardware = new Uint8Array(4096).fill(0xff);
  const seen = new Uint8Array(4096).fill(0xff);
  for (const [e, start, headerBytes] of parts) {
    for (let offset = 0; offset < e.length; offset++) {
      const { virt, write } = masks(e, offset, headerBytes);
      hardware[start + offset] = write & ~virt;
      seen[start + offset] = write;
    }
  }
  hardware[0x4a] = 0x71; // MSI control is checked and then given to hardware
  hardware[0x81 + 8] = hardware[0x81 + 8]! | 0x70; // read request size is set by the host
  hardware.fill(0xff, 0x62, 0x68); // the host does the VPD access
  return { hardware, seen };
}

const writes = fc.array(
  fc.record({
    at: fc.oneof(
      fc.nat(0xff),
      fc.integer({ min: 0x100, max: 0x170 }),
      fc.nat(4100),
      fc.constantFrom(-1, 4095, 4096, 0.5, Number.NaN, 2 ** 53),
    ),
    bytes: fc.uint8Array({ maxLength: 12 }),
  }),
  { maxLength: 30 },
);

describe('any sequence of writes', () => {
  it('S2-05 property: config writes change only permitted bits, and throw nothing but EFAULT and EINVAL', () => {
    const may = mayChange();
    fc.assert(
      fc.property(writes, fc.boolean(), fc.nat(5), (sequence, msiOn, most) => {
        const config = bootedConfig(everything, [[0, 0xfe00_0000n]]);
        config.bytes[0x07] = 0xf9;
        const vconfig = new VirtualConfig(config, {
          memoryDisabled: () => {},
          intxDisable: () => {},
          setPowerState: () => {},
          functionReset: () => {},
          msiEnabled: () => msiOn,
          msiQueueMax: () => most,
        });
        const hardware = config.bytes.slice();
        const before = new Uint8Array(4096);
        const after = new Uint8Array(4096);
        vconfig.read(0, before);
        for (const { at, bytes } of sequence) {
          const inside = Number.isInteger(at) && at >= 0 && at < 4096 && at + bytes.length <= 4096;
          try {
            expect(vconfig.write(at, bytes)).toBe(bytes.length);
            if (!inside) expect(bytes.length).toBe(0);
          } catch (error) {
            if (!(error instanceof VfioError)) throw error;
            expect([error.code, inside]).toEqual(['EFAULT', false]);
          }
        }
        vconfig.read(0, after);
        const inHardware = config.bytes.findIndex((byte, at) => ((byte ^ hardware[at]!) & ~may.hardware[at]!) !== 0);
        const seen = after.findIndex((byte, at) => ((byte ^ before[at]!) & ~may.seen[at]!) !== 0);
        expect([inHardware, seen]).toEqual([-1, -1]);
        if (!msiOn) expect(config.bytes[0x4a]! & 1).toBe(0);
        expect((config.bytes[0x4a]! & 0x70) >> 4).toBeLessThanOrEqual(most);
      }),
      { numRuns: 2000 },
    );
  });

  it('B.8 config property: a long access does what single bytes of it would, where no register has a side effect', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0x68, max: 0x7f }), fc.uint8Array({ minLength: 1, maxLength: 24 }), (at, bytes) => {
        const long = open(bootedConfig(everything));
        const single = open(bootedConfig(everything));
        const count = Math.min(bytes.length, 0x80 - at);
        long.write(at, bytes.subarray(0, count));
        for (let i = 0; i < count; i++) single.write(at + i, bytes.subarray(i, i + 1));
        const whole = new Uint8Array(4096);
        const parted = new Uint8Array(4096);
        long.read(0, whole);
        for (let i = 0; i < 4096; i++) single.read(i, parted.subarray(i, i + 1));
        expect(Buffer.compare(whole, parted)).toBe(0);
      }),
    );
  });

  it('S2-45 property: hostile config space: opened, read and written without a crash', () => {
    const bytes = fc.tuple(fc.uint8Array({ minLength: 256, maxLength: 256 }), fc.uint8Array({ minLength: 64, maxLength: 64 }));
    fc.assert(
      fc.property(bytes, fc.boolean(), writes, ([low, pattern], large, sequence) => {
        const config = bootedConfig(large ? everything : card);
        for (let at = 0x100; at < config.size; at++) config.bytes[at] = pattern[at % 64]!;
        config.bytes.set(low.subarray(0x34), 0x34);
        config.bytes[0x06] = 0x10;
        for (let at = 0x40; at < 0x100; at += 8) config.bytes[at] = config.bytes[at]! % 0x16;
        const vconfig = open(config);
        const whole = new Uint8Array(vconfig.size);
        expect(vconfig.read(0, whole)).toBe(vconfig.size);
        for (const { at, bytes: data } of sequence) {
          try {
            vconfig.write(at, data);
            if (data.length === 4) vconfig.explain(at, 4, 0xffff_ffff);
          } catch (error) {
            if (!(error instanceof VfioError) || !['EFAULT', 'EINVAL'].includes(error.code)) throw error;
          }
        }
        vconfig.write(0x40, new Uint8Array(vconfig.size - 0x40).fill(0xff));
      }),
      { numRuns: 300 },
    );
  });
});
