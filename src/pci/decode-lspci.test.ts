/** The decoder against the real lspci: our hex, its output, every line. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { CapId, ExtCapId } from '../abi/pci.ts';
import * as caps from './capabilities.ts';
import { ConfigSpace } from './config-space.ts';
import type { Capability, PciDeclaration } from './declaration.ts';
import { decodeConfig, formatLspci } from './decode.ts';
import { parseHex, toHex } from './hex-dump.ts';
import { PciIds } from './pci-ids.ts';

const version = spawnSync('lspci', ['--version'], { encoding: 'utf8' }).stdout?.match(/version (\S+)/)?.[1];
/** Its lines change between versions; these are those of Debian 12. */
const comparable = version?.startsWith('3.9.') === true;
const why =
  version === undefined ? 'skipped: no lspci, install pciutils' : comparable ? `lspci ${version}` : `skipped: lspci ${version}, not 3.9`;

const directory = mkdtempSync(join(tmpdir(), 'vfio-ts-lspci-'));
afterAll(() => rmSync(directory, { recursive: true }));
/** Debian's place for the database: the same one that its lspci reads. */
const database = '/usr/share/misc/pci.ids';
const names = existsSync(database) ? new PciIds(readFileSync(database, 'utf8')) : null;

interface Sample {
  readonly bdf: string;
  readonly bytes: Uint8Array;
}

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

/** lspci's text by BDF. */
function lspci(samples: readonly Sample[], level: 0 | 1 | 2 | 3, numeric: boolean): Map<string, string> {
  const file = join(directory, 'dump.txt');
  writeFileSync(file, samples.map(({ bytes, bdf }) => toHex(bytes, bdf)).join(''));
  const args = ['-F', file, ...(numeric ? ['-n'] : []), ...(level > 0 ? [`-${'v'.repeat(level)}`] : [])];
  const { stdout } = spawnSync('lspci', args, { encoding: 'utf8', maxBuffer: 2 ** 28 });
  const blocks = stdout.trimEnd().split(level === 0 ? '\n' : '\n\n');
  return new Map(blocks.map((block) => [block.slice(0, block.indexOf(' ')), block]));
}

function ours({ bytes, bdf }: Sample, level: 0 | 1 | 2 | 3, numeric: boolean): string {
  return formatLspci(decodeConfig(bytes, { bdf, names }), level, { numeric }).trimEnd();
}

/** Address as lspci prints it when all domains are 0. */
const short = (bdf: string): string => bdf.replace(/^0000:/, '');
const bdfAt = (i: number): string => `${(i >> 3).toString(16).padStart(2, '0')}:${(i % 8).toString(16).padStart(2, '0')}.0`;

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
  'capabilities nobody decodes': standard(
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
  'extended capabilities nobody decodes': extended(
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

describe.skipIf(!comparable)(`pci: the decoder prints what lspci prints (${why})`, () => {
  for (const [level, verbosity] of levels) {
    for (const [mode, numeric] of modes) {
      it.skipIf(!numeric && names === null)(`pci: ${level}, ${mode}`, () => {
        const theirs = lspci(listed, verbosity, numeric);
        for (const sample of listed) expect(ours(sample, verbosity, numeric), sample.name).toBe(theirs.get(sample.bdf));
      });
    }
  }

  it('pci: function 0 of device 0 controls its link: LnkCtl2 is shown', () => {
    const sample = { bytes: extended({ linkSpeed: 3 }), bdf: '05:00.0' };
    expect(ours(sample, 3, true)).toBe(lspci([sample], 3, true).get(sample.bdf));
    expect(ours(sample, 3, true)).toContain('LnkCtl2: Target Link Speed: 8GT/s');
  });

  it('pci: other domains', () => {
    const sample = { bytes: space({}), bdf: '10001:02:03.4' };
    expect(ours(sample, 1, true)).toBe(lspci([sample], 1, true).get(sample.bdf));
  });

  it('pci: differs on purpose: lspci -F 3.9 prints the upper half of a 64-bit address as one more region', () => {
    const bytes = bars((config) => config.setBarAddress(4, 0x38_0000_0000n));
    const theirs = lspci([{ bytes, bdf: '01:00.0' }], 3, true).get('01:00.0')!;
    const mine = ours({ bytes, bdf: '01:00.0' }, 3, true);
    expect(mine).toContain('Region 4: Memory at 3800000000 (64-bit, prefetchable)');
    expect(theirs.split('\n').filter((line) => !mine.includes(line))).toEqual([expect.stringContaining('Region 5: ')]);
  });

  it('pci: differs on purpose: lspci 3.9 shows the error bit of DOE from the wrong bits', () => {
    const bytes = extended({}, caps.otherExtendedCapability(ExtCapId.DOE, 'DOE', new Uint8Array([0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0])));
    expect(ours({ bytes, bdf: '01:00.0' }, 3, true)).toContain('DOESta: Busy- IntSta- Error+ ObjectReady-');
  });
});

/** Registers full of random bits, of the kinds that are decoded in full. */
const randomStandard = [
  CapId.PM,
  CapId.VPD,
  CapId.SLOTID,
  CapId.MSI,
  CapId.VNDR,
  CapId.DBG,
  CapId.SSVID,
  CapId.MSIX,
  CapId.SATA,
  CapId.AF,
  CapId.PCIX,
];
const randomExtended = [
  ExtCapId.ERR,
  ExtCapId.VC,
  ExtCapId.DSN,
  ExtCapId.VNDR,
  ExtCapId.DVSEC,
  ExtCapId.ACS,
  ExtCapId.ARI,
  ExtCapId.ATS,
  ExtCapId.SRIOV,
  ExtCapId.PRI,
  ExtCapId.REBAR,
  ExtCapId.TPH,
  ExtCapId.SECPCI,
  ExtCapId.PASID,
  ExtCapId.DPC,
  ExtCapId.L1SS,
  ExtCapId.PTM,
];
const portTypes = [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11];
const body = (size: number) => fc.uint8Array({ minLength: size, maxLength: size });
const randomDevice = fc
  .record({
    header: body(0x3c),
    bridge: fc.boolean(),
    standard: fc.array(fc.tuple(fc.constantFrom(...randomStandard), body(0x28)), { maxLength: 2 }),
    express: fc.tuple(fc.constantFrom(...portTypes), fc.constantFrom(1, 2), body(0x40)),
    extended: fc.array(fc.tuple(fc.constantFrom(...randomExtended), body(0x80)), { maxLength: 3 }),
  })
  .map(({ header, bridge, standard: some, express, extended: more }) => {
    const bytes = new Uint8Array(4096);
    const view = new DataView(bytes.buffer);
    bytes.set(header, 4);
    view.setUint16(0, 0x1af4, true);
    view.setUint16(2, 0x1041, true);
    bytes[0x06] = bytes[0x06]! | 0x10;
    bytes[0x0e] = bridge ? 1 : 0;
    bytes[0x3d] = bytes[0x3d]! % 6;
    if (bridge) view.setUint16(0x0a, 0x0604, true);
    // The upper half of every 64-bit address is zero, see above; so is that of a bridge's windows, whose sizes overflow in lspci.
    for (let i = 0; i < (bridge ? 2 : 6); i++) if ((bytes[0x10 + 4 * i]! & 7) === 4) view.setUint32(0x10 + 4 * ++i, 0);
    if (bridge) bytes.fill(0, 0x28, 0x30);
    let at = 0x40;
    bytes[0x34] = at;
    for (const [id, registers] of some) {
      bytes.set(registers, at);
      bytes.set([id, at + 0x28], at);
      // A bridge's PCI-X capability is another one.
      if (id === CapId.PCIX && bridge) bytes[at] = CapId.PM;
      at += 0x28;
    }
    bytes.set(express[2], at);
    bytes.set([CapId.EXP, 0, (express[0] << 4) | express[1]], at);
    let from = 0x100;
    more.forEach(([id, registers], i) => {
      bytes.set(registers, from);
      // CXL's registers are not decoded.
      if (id === ExtCapId.DVSEC) view.setUint16(from + 4, 0x8086, true);
      view.setUint32(from, (id | (1 << 16) | ((i + 1 < more.length ? from + 0x80 : 0) << 20)) >>> 0, true);
      from += 0x80;
    });
    if (more.length === 0) view.setUint32(0x100, 0);
    return bytes;
  });

describe.skipIf(!comparable)(`pci: registers full of random bits print as lspci prints them (${why})`, () => {
  it('pci: 300 devices at every level', () => {
    const devices = fc.sample(randomDevice, { numRuns: 300, seed: 20 }).map((bytes, i) => ({ bytes, bdf: bdfAt(i + 1) }));
    for (const [, verbosity] of levels) {
      const theirs = lspci(devices, verbosity, true);
      for (const device of devices) {
        expect(ours(device, verbosity, true), toHex(device.bytes.subarray(0, 0x100), device.bdf)).toBe(theirs.get(device.bdf));
      }
    }
  });
});

describe.skipIf(version === undefined)(`pci: lspci -F reads our hex (${version === undefined ? why : `lspci ${version}`})`, () => {
  it('pci: and prints the same bytes with -xxxx; we read that back', () => {
    const file = join(directory, 'hex.txt');
    const written = listed.map(({ bytes, bdf }) => toHex(bytes, bdf, 'title with ü and\nnewline')).join('');
    writeFileSync(file, written);
    const { stdout } = spawnSync('lspci', ['-F', file, '-n', '-vvv', '-xxxx'], { encoding: 'utf8', maxBuffer: 2 ** 28 });
    const back = parseHex(stdout);
    expect(back.map((dump) => short(dump.bdf))).toEqual(listed.map((sample) => sample.bdf));
    for (const [i, dump] of back.entries()) expect(dump.bytes, listed[i]!.name).toEqual(listed[i]!.bytes);
  });
});
