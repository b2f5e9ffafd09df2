import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CapId } from '../abi/pci.ts';
import { powerLimit } from './capabilities/pci-express-text.ts';
import * as caps from './capabilities.ts';
import { classNames } from './class-names.ts';
import { ConfigSpace } from './config-space.ts';
import { sizeText } from './decode/text.ts';
import { decodeConfig } from './decode.ts';
import { formatLspci } from './format-lspci.ts';
import { parseHex, toHex } from './hex-dump.ts';

const levels = [0, 1, 2, 3] as const;
const sizes = [64, 256, 4096] as const;
/** Bytes that tend to make chains: pointers into the space, capability ids, all ones. */
const hostile = fc.constantFrom(...sizes).chain((size) =>
  fc
    .tuple(fc.uint8Array({ minLength: size, maxLength: size }), fc.boolean(), fc.constantFrom(0, 1, 2, 5, 0x80))
    .map(([bytes, listed, header]) => {
      if (listed) bytes[0x06] = bytes[0x06]! | 0x10;
      bytes[0x0e] = header;
      return bytes;
    }),
);

const device = new ConfigSpace({
  name: 'd',
  vendor: 0x1234,
  device: 0x11e8,
  classCode: 0x010802,
  bars: [
    { index: 0, size: 0x100000, type: 'mem64' },
    { index: 2, size: 32, type: 'io' },
  ],
  rom: new Uint8Array(2048),
  capabilities: [caps.pcie({ flr: true, linkSpeed: 3, linkWidth: 4 }), caps.msi({ vectors: 4 })],
  extendedCapabilities: [caps.aer(), caps.dsn(0x1122_3344_5566_7788n)],
});

describe('S2-45 decoding is bounded and never throws', () => {
  it('S2-45 whatever the bytes: every level prints, the result survives JSON, nothing is longer than the space can hold', () => {
    fc.assert(
      fc.property(hostile, (bytes) => {
        const decoded = decodeConfig(bytes, { names: classNames });
        expect(decoded.capabilities.length).toBeLessThanOrEqual(48);
        expect(decoded.extendedCapabilities.length).toBeLessThanOrEqual(960);
        expect(JSON.parse(JSON.stringify(decoded))).toEqual(decoded);
        for (const level of levels) {
          const text = formatLspci(decoded, level, { numeric: level % 2 === 0 });
          expect(text.endsWith('\n')).toBe(true);
          // Nothing from a device reaches a terminal but printable characters, tabs and newlines.
          expect(text).toMatch(/^[\x20-\x7e\t\n]*$/);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('S2-45 a chain of extended capabilities as long as there is room: each once', () => {
    const bytes = new Uint8Array(4096);
    const view = new DataView(bytes.buffer);
    bytes.set([0x10, 0, 2], 0x40);
    bytes[0x06] = 0x10;
    bytes[0x34] = 0x40;
    for (let at = 0x100; at < 0x1000; at += 4) view.setUint32(at, (0x0b | (1 << 16) | (((at + 4) % 0x1000 || 0x100) << 20)) >>> 0, true);
    const decoded = decodeConfig(bytes);
    expect(decoded.extendedCapabilities.length).toBe(960);
    expect(decoded.chainEnds).toEqual([{ extended: true, offset: 0x100, version: 1, why: 'looped' }]);
    expect(decoded.warnings).toEqual([expect.stringContaining('loops back to 0x100')]);
  });

  it('S2-45 fewer bytes than a header are EINVAL, others count as the next smaller size', () => {
    for (const size of [0, 1, 63]) expect(() => decodeConfig(new Uint8Array(size))).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect([64, 128, 256, 300, 4096, 5000].map((size) => decodeConfig(new Uint8Array(size)).size)).toEqual([64, 64, 256, 256, 4096, 4096]);
    expect(() => decodeConfig(new Uint8Array(64), { bdf: 'here' })).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });
});

describe('pci: decoded for programs', () => {
  const decoded = decodeConfig(device.bytes, {
    bdf: '01:02.3',
    names: classNames,
    resources: [0x100000, undefined, 32, undefined, undefined, undefined, 2048],
  });

  it('pci: header, regions and their sizes', () => {
    expect(decoded).toMatchObject({
      bdf: '0000:01:02.3',
      size: 4096,
      vendor: { id: 0x1234 },
      class: { base: 1, sub: 8, progIf: 2, name: 'Non-Volatile memory controller', progIfName: 'NVM Express' },
      header: { type: 0, kind: 'endpoint', multifunction: false },
      subsystem: null,
      bridge: null,
    });
    expect(decoded.regions).toEqual([
      { index: 0, kind: 'memory', width: '64-bit', prefetchable: false, address: null, disabled: true, size: 0x100000 },
      { index: 2, kind: 'io', width: '32-bit', prefetchable: false, address: null, disabled: true, size: 32 },
    ]);
  });

  it('pci: capabilities with their registers, field by field', () => {
    const express = decoded.capabilities.find((capability) => capability.id === CapId.EXP)!;
    expect(express.fields.DevCap).toMatchObject({ FLReset: true, ExtTag: true, AttnBtn: false, MaxPayload: '128' });
    expect(express.fields.LnkCap).toMatchObject({ Speed: '8GT/s', Width: 4, Port: 0, ASPM: 'L0s' });
    expect(decoded.capabilities.find((capability) => capability.id === CapId.MSI)!.fields).toEqual({
      control: { Enable: false, Count: '1', Available: '4', Maskable: false, '64bit': true },
      message: { address: '0x0000000000000000', data: 0 },
    });
    expect(decoded.extendedCapabilities.map(({ title, version, offset }) => [title, version, offset])).toEqual([
      ['Advanced Error Reporting', expect.any(Number), 0x100],
      ['Device Serial Number 11-22-33-44-55-66-77-88', 1, expect.any(Number)],
    ]);
    expect(decoded.extendedCapabilities[1]!.fields).toEqual({ serial: { number: '11-22-33-44-55-66-77-88' } });
  });

  it('pci: no field overwrites another: a capability has as many booleans as its lines have plus and minus signs', () => {
    const flagged = (bytes: Uint8Array) => {
      const { capabilities, extendedCapabilities } = decodeConfig(bytes);
      for (const capability of [...capabilities, ...extendedCapabilities]) {
        const signs = [capability.fullTitle, ...capability.lines].join(' ').match(/[\w:][+-](?=[ ,;)]|$)/g)?.length ?? 0;
        const values = Object.values(capability.fields).flatMap((fields) => Object.values(fields));
        // Arbitration schemes are one field of text.
        if (![2, 9].includes(capability.id))
          expect(values.filter((value) => typeof value === 'boolean').length, capability.title).toBeGreaterThanOrEqual(signs);
      }
    };
    const bytes = new Uint8Array(4096);
    const view = new DataView(bytes.buffer);
    bytes[0x06] = 0x10;
    bytes[0x34] = 0x40;
    bytes[0x10] = 0x08;
    for (let id = 0; id <= 0x40; id++) {
      bytes.set([id, 0x80], 0x40);
      // A root port with a slot. Its link has every ability.
      bytes.set([0x10, 0, 0x42, 0x01], 0x80);
      view.setUint32(0x80 + 0x2c, 0x8000_0000, true);
      view.setUint32(0x100, id | (1 << 16), true);
      flagged(bytes);
    }
  });

  it('pci: sizes that are known are printed, in the units of lspci', () => {
    const text = formatLspci(decoded, 3);
    expect(text).toContain('\tRegion 0: Memory at <unassigned> (64-bit, non-prefetchable) [disabled] [size=1M]\n');
    expect(text).toContain('\tRegion 2: I/O ports at <unassigned> [disabled] [size=32]\n');
    expect([0n, 512n, 1024n, 1536n, 0x12000n, 1n << 20n, 4098n << 20n, 1n << 30n, 1n << 50n].map(sizeText)).toEqual([
      '0',
      '512',
      '1K',
      '1536',
      '72K',
      '1M',
      '4098M',
      '1G',
      '1024T',
    ]);
  });

  it('pci: without a database classes have names, ids are numbers', () => {
    expect(formatLspci(decoded, 0)).toBe('01:02.3 Non-Volatile memory controller: Device 1234:11e8\n');
    expect(formatLspci(decoded, 0, { numeric: true })).toBe('01:02.3 0108: 1234:11e8\n');
    expect(formatLspci(decodeConfig(device.bytes), 0)).toBe('00:00.0 0108: 1234:11e8\n');
  });

  it('pci: slot power as value and scale, and the fixed steps above 239 W', () => {
    expect([powerLimit(250, 1), powerLimit(25, 2), powerLimit(1, 3), powerLimit(239, 0)]).toEqual(['25', '0.25', '0.001', '239']);
    expect([powerLimit(0xf0, 0), powerLimit(0xfe, 0), powerLimit(0xff, 0), powerLimit(0xf0, 1)]).toEqual(['250', '600', '>600', '24']);
  });
});

describe('pci: hexadecimal dumps', () => {
  it('pci: a dump that was written reads back the same, for any bytes and any number of functions', () => {
    const size = fc.constantFrom(...sizes).chain((n) => fc.uint8Array({ minLength: n, maxLength: n }));
    fc.assert(
      fc.property(fc.array(size, { minLength: 1, maxLength: 4 }), (spaces) => {
        const text = spaces.map((bytes, i) => toHex(bytes, `0001:00:0${i}.0`)).join('');
        expect(parseHex(text)).toEqual(spaces.map((bytes, i) => ({ bdf: `0001:00:0${i}.0`, bytes })));
      }),
      { numRuns: 50 },
    );
  });

  it('pci: reads lspci -v -xxx: other lines are skipped, and missing bytes are all ones', () => {
    const dumps = parseHex(
      '# by hand\n00:1f.2 SATA: Intel (rev 02)\n\tFlags: fast devsel\n00: 86 80 22 29\n10: 01\n\n00:1f.3 SMBus\n00: 86 80\nf0: 00\n',
    );
    expect(dumps.map(({ bdf, bytes }) => [bdf, bytes.length, [...bytes.subarray(0, 6)]])).toEqual([
      ['0000:00:1f.2', 64, [0x86, 0x80, 0x22, 0x29, 0xff, 0xff]],
      ['0000:00:1f.3', 256, [0x86, 0x80, 0xff, 0xff, 0xff, 0xff]],
    ]);
  });

  it('pci: a byte order mark, and the line ends of other systems', () => {
    expect(parseHex('\ufeff00:04.0 x\r\n00: 12 34\r\n')[0]!.bytes.subarray(0, 3)).toEqual(new Uint8Array([0x12, 0x34, 0xff]));
  });

  it.each([
    ['no function', 'hello\n'],
    ['nothing', ''],
    ['bytes before an address', '00: 12 34\n'],
    ['a row beyond config space', '00:04.0 x\n00: 12 34\n1000: 00\n'],
    ['a function without bytes', '00:04.0 x\n00:05.0 y\n00: 01\n'],
    ['a row that is not hexadecimal', '00:04.0 x\n00: 12 zz\n'],
    ['a row that is too long', `00:04.0 x\n00:${' 00'.repeat(17)}\n`],
    ['a row that is not aligned', '00:04.0 x\n08: 00\n'],
    ['a device number that there is not', '00:20.0 x\n00: 00\n'],
  ])('pci: %s is EINVAL', (_, text) => {
    expect(() => parseHex(text)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  it('pci: any text is either read or EINVAL, never anything else', () => {
    const line = fc.oneof(fc.string(), fc.constantFrom('00:04.0 x', '00: 01 02', 'ff0: 00', '100: 1', '', 'ffff:ff:1f.7'));
    fc.assert(
      fc.property(fc.array(line), (lines) => {
        try {
          for (const { bytes } of parseHex(lines.join('\n'))) expect(sizes).toContain(bytes.length);
        } catch (error) {
          expect(error).toMatchObject({ code: 'EINVAL' });
        }
      }),
    );
  });
});
