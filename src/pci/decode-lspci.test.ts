/** The decoder beside the real lspci: both decode the same bytes, and every line is compared. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { mutate, randomDevice } from '../../tests/kit/config-spaces.ts';
import { comparable, database, likewise, lspci, lspciWhy, type Sample } from '../../tests/kit/lspci.ts';
import { CapId } from '../abi/pci.ts';
import * as caps from './capabilities.ts';
import { ConfigSpace } from './config-space.ts';
import type { Capability, PciDeclaration } from './declaration.ts';
import { decodeConfig } from './decode.ts';
import { formatLspci } from './format-lspci.ts';
import { parseHex, toHex } from './hex-dump.ts';
import { PciIds } from './pci-ids.ts';

const names = existsSync(database) ? new PciIds(readFileSync(database, 'utf8')) : null;

const modes = [
  ['-n', true],
  ['with names', false],
] as const;
const levels = [
  ['no -v', 0],
  ['-v', 1],
  ['-vv', 2],
  ['-vvv', 3],
] as const;

function ours({ bytes, bdf }: Sample, level: 0 | 1 | 2 | 3, numeric: boolean): string {
  return formatLspci(decodeConfig(bytes, { bdf, names }), level, { numeric, domain: true }).trimEnd();
}

const bdfAt = (i: number): string =>
  `${(i >> 11).toString(16).padStart(4, '0')}:${((i >> 3) & 0xff).toString(16).padStart(2, '0')}:${(i % 8).toString(16).padStart(2, '0')}.1`;

const base: PciDeclaration = { name: 'sample', vendor: 0x1af4, device: 0x1000, classCode: 0x020000, revision: 1 };
function space(declaration: Partial<PciDeclaration>, prepare?: (config: ConfigSpace) => void): Uint8Array {
  const config = new ConfigSpace({ ...base, ...declaration });
  prepare?.(config);
  return config.bytes.slice();
}
const standard = (...capabilities: Capability[]): Uint8Array => space({ capabilities });
const extended = (options: caps.PcieOptions, ...extendedCapabilities: Capability[]): Uint8Array =>
  space({ capabilities: [caps.pcie(options)], extendedCapabilities });

/** The bytes that Linux 7.2 read through VFIO. */
function kernelAnswer(name: string): Uint8Array {
  const text = readFileSync(new URL(`../../tests/kernel-answers/linux-7.2/config-${name}.txt`, import.meta.url), 'utf8');
  const rows = [...text.matchAll(/^([0-9a-f]{3}): ((?:[0-9a-f]{2} ?){16})$/gm)];
  const [first] = parseHex(`00:04.0\n${rows.map((row) => `${row[1]}: ${row[2]!.trim()}`).join('\n')}\n`);
  return first!.bytes.slice(0, 256);
}

const bars = (prepare?: (config: ConfigSpace) => void): Uint8Array =>
  space(
    {
      bars: [
        { index: 0, size: 0x4000, type: 'mem64' },
        { index: 2, size: 0x1000, type: 'mem32', prefetchable: true },
        { index: 3, size: 32, type: 'io' },
        { index: 4, size: 0x10000, type: 'mem64', prefetchable: true },
      ],
      rom: new Uint8Array(4096),
      interruptPin: 2,
      subsystemVendor: 0x1af4,
      subsystem: 0x1100,
    },
    (config) => {
      config.setBarAddress(0, 0xfe00_0000n);
      config.setBarAddress(2, 0xfd00_1000n);
      config.setBarAddress(3, 0xc040n);
      prepare?.(config);
    },
  );

const bridge = (prepare?: (config: ConfigSpace) => void): Uint8Array =>
  space(
    {
      header: 'bridge',
      classCode: 0x060400,
      capabilities: [caps.pcie({ portType: 'root-port', slot: true, linkSpeed: 3, linkWidth: 4 }), caps.msi()],
    },
    prepare,
  );

const samples: Record<string, Uint8Array> = {
  'edu of Linux 7.2': kernelAnswer('edu'),
  'nvme of Linux 7.2': kernelAnswer('nvme'),
  'nothing but a header': space({}),
  'a header of 64 bytes': space({ capabilities: [caps.pm()] }).slice(0, 64),
  'regions, disabled': bars(),
  'regions, enabled, bus master': bars((config) => {
    config.write(4, 2, 0x507);
    config.write(0x0c, 1, 16);
    config.write(0x3c, 1, 11);
    config.romAddress = 0xf000_0001;
  }),
  'a bridge, windows closed': bridge((config) => {
    config.write(0x1c, 2, 0x00f0);
    config.write(0x20, 4, 0x0000_fff0);
    config.write(0x24, 4, 0x0001_fff1);
  }),
  'a bridge, windows open': bridge((config) => {
    config.write(0x04, 2, 0x107);
    config.write(0x18, 4, 0x0003_0201);
    config.write(0x1c, 2, 0x2010);
    config.write(0x20, 4, 0xfe30_fe20);
    config.write(0x24, 4, 0x1ff1_0001);
    config.write(0x28, 4, 0x38);
    config.write(0x2c, 4, 0x38);
    config.write(0x3e, 2, 0x0b);
  }),
  'a bridge with a subsystem': space({
    header: 'bridge',
    classCode: 0x060400,
    capabilities: [caps.otherCapability(CapId.SSVID, 'Subsystem', new Uint8Array([0, 0, 0xf4, 0x1a, 0x00, 0x11]))],
  }),
  'a class that has no business here': space({ header: 'bridge', classCode: 0x020000 }),
  'an unknown class, an unknown vendor': space({
    vendor: 0x1234,
    device: 0x11e8,
    classCode: 0x204007,
    subsystemVendor: 0x1235,
    subsystem: 7,
  }),
  'a subsystem that is the device': space({
    vendor: 0x1b36,
    device: 0x0010,
    classCode: 0x010802,
    subsystemVendor: 0x1b36,
    subsystem: 0x0010,
  }),
  'PM, everything': standard(caps.pm({ d1: true, d2: true, pme: true, noSoftReset: false })),
  'PM, plain, in D3': space({ capabilities: [caps.pm()] }, (config) => config.write(config.findCapability(CapId.PM) + 4, 2, 0x0103)),
  'MSI 32-bit': standard(caps.msi({ is64: false })),
  'MSI 64-bit maskable, programmed': space({ capabilities: [caps.msi({ vectors: 8, maskable: true })] }, (config) => {
    const at = config.findCapability(CapId.MSI);
    config.write(at + 4, 4, 0xfee0_1000);
    config.write(at + 8, 4, 1);
    config.write(at + 12, 2, 0x4021);
    config.write(at + 16, 4, 0xa5);
    config.write(at + 2, 2, 0x31);
  }),
  'MSI-X, enabled and masked': space(
    { capabilities: [caps.msix({ vectors: 33, tableBar: 2, tableOffset: 0x2000, pbaOffset: 0x3000 })] },
    (config) => config.write(config.findCapability(CapId.MSIX) + 2, 2, 0xc000),
  ),
  'VPD, AF, vendor-specific, PCI-X': standard(
    caps.vpd(new Uint8Array(64)),
    caps.af(),
    caps.vendorSpecific(new Uint8Array([9, 8, 7, 6, 5])),
    caps.pcix(),
  ),
  'virtio capabilities': standard(
    caps.vendorSpecific(new Uint8Array([1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0])),
    caps.vendorSpecific(new Uint8Array([2, 4, 0, 0, 0, 0, 0x30, 0, 0, 0, 0x10, 0, 0, 4, 0, 0, 0])),
  ),
  'capabilities without a decoder': standard(
    caps.otherCapability(0x15, 'FPB', new Uint8Array([1, 2])),
    caps.otherCapability(0x7a, 'x', new Uint8Array(2)),
  ),
  'express endpoint, FLR, 8 GT/s x4': extended({ flr: true, maxPayload: 512, linkSpeed: 3, linkWidth: 4 }),
  'express legacy endpoint': extended({ portType: 'legacy-endpoint' }),
  'express version 1': extended({ version: 1 }),
  'express root complex endpoint': extended({ portType: 'rc-endpoint', flr: true }),
  'express upstream port': extended({ portType: 'upstream', linkSpeed: 4, linkWidth: 16 }),
  'express downstream port with a slot': extended({ portType: 'downstream', slot: true, port: 5 }),
  'express to PCI': extended({ portType: 'pcie-to-pci' }),
  'PCI to express': extended({ portType: 'pci-to-pcie' }),
  'AER, DSN, ACS, ARI, LTR': extended(
    {},
    caps.aer({ ecrc: true }),
    caps.dsn(0x0123_4567_89ab_cdefn),
    caps.acs(),
    caps.ari({ nextFunction: 3 }),
    caps.ltr(),
  ),
  'AER of a root port': extended({ portType: 'root-port' }, caps.aer({ rootPort: true })),
  'ATS, SR-IOV, VSEC, DVSEC': extended(
    {},
    caps.ats(),
    caps.sriov({ totalVfs: 7, vfDevice: 0x1041, bars: [{ index: 0, size: 0x4000, type: 'mem64', prefetchable: true }] }),
    caps.vsec({ id: 0x20, revision: 3, body: new Uint8Array(8) }),
    caps.dvsec({ vendor: 0x8086, id: 7, body: new Uint8Array(6) }),
  ),
  'resizable BARs, power budgeting, virtual channels': extended(
    {},
    caps.resizableBar([{ index: 0, sizes: [20, 21, 28], current: 21 }]),
    caps.powerBudgeting(),
    caps.virtualChannels({ extra: 2 }),
  ),
  'extended capabilities without a decoder': extended(
    {},
    caps.otherExtendedCapability(0x26, '16 GT/s', new Uint8Array(4)),
    caps.otherExtendedCapability(0x777, 'x', new Uint8Array(4)),
  ),
  'a loop of capabilities': (() => {
    const bytes = standard(caps.pm(), caps.msi());
    const second = bytes[bytes[0x34]! + 1]!;
    bytes[second + 1] = bytes[0x34]!;
    return bytes;
  })(),
  'a chain that leads to all ones': (() => {
    const bytes = standard(caps.pm());
    bytes[bytes[0x34]! + 1] = 0xc0;
    return bytes.fill(0xff, 0xc0, 0xc4);
  })(),
  'a loop of extended capabilities': (() => {
    const bytes = extended({}, caps.dsn(1n));
    bytes[0x103] = 0x10;
    return bytes;
  })(),
  'capabilities against the end': (() => {
    const bytes = space({});
    bytes[0x06] = 0x10;
    bytes[0x34] = 0xfc;
    bytes[0xfc] = CapId.PM;
    return bytes;
  })(),
};

const listed: readonly (Sample & { readonly name: string })[] = Object.entries(samples).map(([name, bytes], i) => ({
  name,
  bytes,
  bdf: bdfAt(i + 1),
}));

/**
 * Compares all functions at one level, without those on which lspci gave up.
 * @returns how many were compared, and the lines of the first that differ
 */
function compare(all: readonly (Sample & { readonly name?: string })[], level: 0 | 1 | 2 | 3, numeric: boolean) {
  const different: { readonly name: string; readonly mine: readonly string[]; readonly theirs: readonly string[] }[] = [];
  let compared = 0;
  lspci(all, level, numeric).forEach((text, i) => {
    if (text === null) return;
    compared++;
    const { mine, theirs } = likewise(ours(all[i]!, level, numeric), text);
    if (mine === theirs || different.length >= 5) return;
    const [a, b] = [mine.split('\n'), theirs.split('\n')];
    const only = (x: readonly string[], y: readonly string[]) => x.filter((line) => !y.includes(line));
    different.push({ name: all[i]!.name ?? `#${i} ${all[i]!.bdf}`, mine: only(a, b), theirs: only(b, a) });
  });
  return { compared, different };
}

describe.skipIf(!comparable)(`pci: the decoder prints what lspci prints (${lspciWhy})`, () => {
  for (const [level, verbosity] of levels) {
    for (const [mode, numeric] of modes) {
      it.skipIf(!numeric && names === null)(`pci: ${level}, ${mode}`, () => {
        expect(compare(listed, verbosity, numeric)).toEqual({ compared: listed.length, different: [] });
      });
    }
  }

  it('pci: function 0 of device 0 controls its link: LnkCtl2 is shown', () => {
    const sample = { bytes: extended({ linkSpeed: 3 }), bdf: '0000:05:00.0' };
    expect(compare([sample], 3, true)).toEqual({ compared: 1, different: [] });
    expect(ours(sample, 3, true)).toContain('LnkCtl2: Target Link Speed: 8GT/s');
  });

  it('pci: other domains', () => {
    expect(compare([{ bytes: space({}), bdf: '10001:02:03.4' }], 1, true)).toEqual({ compared: 1, different: [] });
  });

  it('pci: differs on purpose: lspci -F prints the upper half of a 64-bit address as one more region', () => {
    const sample = { bytes: bars((config) => config.setBarAddress(4, 0x38_0000_0000n)), bdf: '0000:01:00.0' };
    const mine = ours(sample, 3, true);
    expect(mine).toContain('Region 4: Memory at 3800000000 (64-bit, prefetchable)');
    const theirs = lspci([sample], 3, true)[0]!;
    expect(theirs).toContain('Region 5: ');
    expect(mine).not.toContain('Region 5: ');
  });
});

describe.skipIf(!comparable)(`pci: registers full of random bits print as lspci prints them (${lspciWhy})`, () => {
  const many = process.env.LSPCI_RUNS === undefined ? 400 : Number(process.env.LSPCI_RUNS);
  const devices = fc.sample(randomDevice, { numRuns: many, seed: 20 }).map((bytes, i) => ({ bytes, bdf: bdfAt(i + 1) }));

  it(`pci: ${many} devices with every capability`, () => {
    // lspci ends at an entry of Enhanced Allocation that goes on past the end of the dump.
    const { compared, different } = compare(devices, 3, true);
    expect(different).toEqual([]);
    expect(compared).toBeGreaterThan(many * 0.9);
  });

  it('pci: their titles', () => {
    expect(compare(devices, 0, true)).toEqual({ compared: many, different: [] });
  });
});

const dumps = process.env.LSPCI_DUMPS;
describe.skipIf(!comparable || dumps === undefined)(
  `pci: dumps of other people's machines (${dumps === undefined ? 'skipped: LSPCI_DUMPS names no folder' : `${dumps}, ${lspciWhy}`})`,
  () => {
    it('pci: every function, and bits flipped in its capabilities', () => {
      const samples: (Sample & { name: string })[] = [];
      for (const file of readdirSync(dumps!)) {
        for (const { bdf, bytes } of parseHex(readFileSync(join(dumps!, file), 'latin1'))) {
          samples.push({ name: `${file} ${bdf}`, bdf: bdfAt(samples.length + 1), bytes });
          for (const flips of fc.sample(fc.array(fc.tuple(fc.nat(), fc.nat(7)), { minLength: 1, maxLength: 6 }), {
            numRuns: 20,
            seed: 9,
          })) {
            const mutant = mutate(bytes, flips);
            samples.push({ name: `${file} ${bdf} ${JSON.stringify(flips)}`, bdf: bdfAt(samples.length + 1), bytes: mutant });
          }
        }
      }
      const { compared, different } = compare(samples, 3, true);
      expect(different).toEqual([]);
      console.log(`${compared} of ${samples.length} functions compared`);
      expect(compared).toBeGreaterThan(samples.length * 0.9);
    });
  },
);

describe.skipIf(!comparable)(`pci: lspci -F reads our hex (${lspciWhy})`, () => {
  it('pci: and prints the same functions from it, whatever the title', () => {
    const { bytes, bdf } = listed[0]!;
    const [dump] = parseHex(toHex(bytes, bdf, 'title with ü and\nnewline'));
    expect(dump!.bytes).toEqual(bytes);
    expect(lspci([dump!], 0, true)[0]).toBe(ours({ bytes, bdf }, 0, true));
  });
});
