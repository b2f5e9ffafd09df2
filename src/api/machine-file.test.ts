import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openAll } from '../../tests/kit/machines.ts';
import { RegionIndex } from '../abi/vfio.ts';
import { VfioError } from '../base/errno.ts';
import { Machine } from '../engine/machine/machine.ts';
import type { MachineSpec } from '../engine/machine/machine-spec.ts';
import { HeapMemory } from '../sys/fake.ts';
import { parseMachine, readMachineFile } from './machine-file.ts';
import { modelsOn } from './models-of-computer.ts';
import { Wires } from './wires.ts';

const examples = join(import.meta.dirname, '../../examples/machines');
const models = modelsOn(new Wires({ planned: true }));
const start = (spec: MachineSpec) => new Machine(spec, { allocate: HeapMemory.allocate, models });

function problems(source: string): string[] {
  try {
    parseMachine(source, 'm.yaml');
  } catch (error) {
    expect(error).toBeInstanceOf(VfioError);
    expect((error as VfioError).code).toBe('EINVAL');
    return (error as VfioError).message
      .split('\n')
      .slice(1)
      .map((line) => line.trim());
  }
  throw new Error('parseMachine accepted the file');
}

describe('parseMachine', () => {
  it('reads every field as the author writes it: addresses are text, numbers exact, options keep YAML’s types', () => {
    expect(
      parseMachine(`
name: all
iommu:
  kind: full
  isolatedMsi: false
  coherent: true
  enforcesCoherency: true
  pageSizes: [4K, 2M, 1G]
  aperture: { first: 0, last: 0xffffffffffffffff }
  reserved: [{ first: 0xfee00000, last: 4277141503, kind: msi }, { first: 1, last: 2 }]
iommus: { other: { kind: none } }
hostDrivers: [{ name: e1000, ids: ['8086:100e', 'class:0200'], dma: kernel }]
memoryBase: 0xfe200000
devices:
  - at: 1c.0
    kind: root-port
    slot: true
    bus: 16
    acs: false
    iommu: other
    devices:
      - at: 00.0
        model: edu
        options: { dmaMask: 0xfffffff, name: '28', deep: { on: true } }
        driver: none
        driverOverride: vfio-pci
      - { at: 00.1, id: 1234:5678, subsystem: 1af4:1100, class: 020000, reset: none, msi: 4, dmaAliases: [00.0], name: stub,
          bars: [{ index: 0, size: 64K, type: mem64, prefetchable: true, backing: memory }], reserved: [{ first: 0, last: 0xfff, kind: direct }] }
`),
    ).toEqual({
      name: 'all',
      iommu: {
        kind: 'full',
        isolatedMsi: false,
        coherent: true,
        enforcesCoherency: true,
        pageSizes: 0x4020_1000n,
        aperture: { first: 0n, last: 2n ** 64n - 1n },
        reserved: [
          { first: 0xfee0_0000n, last: 0xfeef_ffffn, kind: 'msi' },
          { first: 1n, last: 2n, kind: 'reserved' },
        ],
      },
      iommus: { other: { kind: 'none' } },
      hostDrivers: [{ name: 'e1000', ids: ['8086:100e', 'class:0200'], dma: 'kernel' }],
      memoryBase: 0xfe20_0000,
      devices: [
        {
          at: '1c.0',
          kind: 'root-port',
          slot: true,
          bus: 16,
          acs: false,
          iommu: 'other',
          devices: [
            {
              at: '00.0',
              model: 'edu',
              options: { dmaMask: 0xfff_ffff, name: '28', deep: { on: true } },
              driver: null,
              driverOverride: 'vfio-pci',
            },
            {
              at: '00.1',
              id: '1234:5678',
              subsystem: '1af4:1100',
              classCode: 0x020000,
              reset: 'none',
              msi: 4,
              dmaAliases: ['00.0'],
              name: 'stub',
              bars: [{ index: 0, size: 65536, type: 'mem64', prefetchable: true, backing: 'memory' }],
              reserved: [{ first: 0n, last: 0xfffn, kind: 'direct' }],
            },
          ],
        },
      ],
    });
  });

  it('reports every problem at once, with line and column, in the order of the file', () => {
    expect(
      problems(`name: [a]
iommu: { kind: ful }
devices:
  - at: 04.0
    acs: yes
    clas: 3
  - model: x
    id: 12:34
    bars: [{ index: 9, size: 5X }]
`),
    ).toEqual([
      'm.yaml:1:7: name: expected string, received array',
      'm.yaml:2:16: iommu.kind: expected one of none, translation, full',
      'm.yaml:5:10: devices[0].acs: expected true or false',
      "m.yaml:6:11: devices[0]: unknown key 'clas'",
      'm.yaml:7:5: devices[1].at: missing',
      'm.yaml:8:9: devices[1].id: expected vendor:device, four hexadecimal digits each',
      'm.yaml:9:21: devices[1].bars[0].index: BARs are 0 to 5',
      'm.yaml:9:30: devices[1].bars[0].size: expected a size such as 4096, 4K, 1.5G or 0x1000',
    ]);
  });

  it.each([
    ['a: [', /^m\.yaml:1:\d+: /],
    ['devices:\n  - at: 00.0\n    at: 01.0\n', /^m\.yaml:3:5: Map keys must be unique/],
    ['just text', /^m\.yaml:1:1: expected object, received string/],
    ['', /^m\.yaml:1:1: expected object/],
    ['devices: []', /^m\.yaml:1:10: devices: /],
    ['devices: [{ at: 00.0, msi: 18446744073709551616 }]', /too large/],
    ['devices: [{ at: 00.0, msi: -1 }]', /expected a number/],
    ['devices: [{ at: 00.0, reserved: [{ first: 0x1ffffffffffffffff, last: 0 }] }]', /expected an address/],
    [
      'a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: &d [*c, *c]\ne: &e [*d, *d]\nf: &f [*e, *e]\ng: &g [*f, *f]\ndevices: [*g, *g]',
      /./,
    ],
    [`devices: ${'['.repeat(50_000)}`, /./],
    ['devices: [{ at: *nowhere }]', /./],
  ])('%# refuses a text that is not a machine: %j', (source, message) => {
    expect(problems(source)[0]).toMatch(message);
  });

  it('a file that is too large is refused before it is parsed', () => {
    expect(() => parseMachine('#'.repeat(2 ** 20 + 1))).toThrow('larger than');
  });

  it('a file that is not there is ENOENT', () => {
    expect(() => readMachineFile('/nonexistent/machine.yaml')).toThrow(expect.objectContaining({ code: 'ENOENT' }));
  });

  it('for any text the result is a machine, EINVAL or a refusal of the machine with an errno', () => {
    const source = readFileSync(join(examples, 'desktop.yaml'), 'utf8');
    const words = [...new Set(source.split(/\s+/))];
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(source.length), fc.nat(20), fc.oneof(fc.constantFrom(...words), fc.string({ maxLength: 6 }))), {
          maxLength: 4,
        }),
        (edits) => {
          const text = edits.reduce((t, [pos, cut, put]) => t.slice(0, pos) + put + t.slice(pos + cut), source);
          try {
            start(parseMachine(text))[Symbol.dispose]();
          } catch (error) {
            expect(error).toBeInstanceOf(VfioError);
          }
        },
      ),
      { numRuns: 150 },
    );
  });
});

describe('what only a declaration can bring about', () => {
  const switchOn = (source: string) => start(parseMachine(source));

  it.each(['none', 'null', '~'])('driver: %s is no driver', (word) => {
    const { devices } = parseMachine(`devices: [{ at: 04.0, model: edu, driver: ${word} }]`, 'm.yaml');
    expect(devices[0]!.driver).toBeNull();
  });

  it('B.8 params takes every parameter by its name, with its kind of value', () => {
    using machine = switchOn(`
params:
  { dmaEntryLimit: 7, allowUnsafeInterrupts: true, unsafeNoIommu: true, noIntxMask: true, disableIdleD3: true, enableSriov: true, disableDenylist: true, requireReset: true,
    forceRevokeAfterMs: 250, suspendTimeoutMs: 20, maxVectors: 3, dynamicMsix: false }
pageSize: 64K
devices: [{ at: 04.0, model: edu, driver: none }]
`);
    expect(machine.context.pageSize).toBe(65536);
    const values = Object.fromEntries(machine.params.map(({ name, value }) => [name, value]));
    expect(values).toEqual({
      dmaEntryLimit: 7,
      allowUnsafeInterrupts: true,
      unsafeNoIommu: true,
      noIntxMask: true,
      disableIdleD3: true,
      enableSriov: true,
      disableDenylist: true,
      requireReset: true,
      forceRevokeAfterMs: 250,
      suspendTimeoutMs: 20,
      maxVectors: 3,
      dynamicMsix: false,
    });
    using usual = switchOn('params: { forceRevokeAfterMs: none, maxVectors: none }\ndevices: [{ at: 04.0, model: edu }]');
    expect(usual.context.params).toMatchObject({ forceRevokeAfterMs: null, maxVectors: null });
  });

  it('S1-05 the advice that explain prints for interrupts that are not isolated works', () => {
    const source = (more: string) => `${more}\niommu: { isolatedMsi: false }\ndevices: [{ at: 04.0, model: edu, driver: vfio-pci }]`;
    using strict = switchOn(source(''));
    const { fix } = strict.explain('00:04.0').blockers.find((b) => b.why.includes('not isolated'))!;
    using loose = switchOn(source(/`(.*)`/.exec(fix!)![1]!));
    expect(openAll(loose, '0000:00:04.0').device.info.name).toBe('0000:00:04.0');
  });

  it('reads stubs without DisINTx, pins without a route, and the links of ports', () => {
    using machine = switchOn(`
devices:
  - { at: 03.0, id: '1234:0001', interruptDisable: false, intxRouted: false }
  - { at: 04.0, kind: root-port, link: { generation: 4, width: 32, active: false }, devices: [{ at: 00.0, id: '1234:0002' }] }
`);
    expect(machine.function('00:03.0')).toMatchObject({ interruptLine: null, declaration: { interruptDisable: false } });
    // As QEMU's pcie-root-port has them.
    const port = machine.function('00:04.0').config;
    const express = port.findCapability(0x10);
    expect([port.read(express + 0x0c, 4) & 0x0010_03ff, port.read(express + 0x12, 2)]).toEqual([0x0010_0204, 0x0204]);
  });

  it.each([
    ['params: { nope: true }', "m.yaml:1:17: params: unknown key 'nope'"],
    ['params: { enableSriov: 1 }', 'm.yaml:1:24: params.enableSriov: expected true or false'],
    ['params: { dmaEntryLimit: none }', 'm.yaml:1:26: params.dmaEntryLimit: expected a number, decimal or 0x…'],
  ])('%s is refused with its place', (line, problem) => {
    expect(problems(`${line}\ndevices: [{ at: 04.0, model: edu }]`)).toEqual([problem]);
  });

  it.each([
    ['{ at: 04.0, model: edu, interruptDisable: false }', 'is for stubs'],
    ["{ at: 04.0, id: '1234:0001', link: {} }", 'is for root ports'],
    ['{ at: 04.0, kind: root-port, link: { width: 3 } }', 'cannot have speed 1 and 3 lanes'],
  ])('%s is no device', (device, why) => {
    expect(() => switchOn(`devices: [${device}]`)).toThrow(why);
  });
});

describe('schema', () => {
  it('takes a class as device() does: by name or by digits, and names the choices', () => {
    const classOf = (text: string) => parseMachine(`devices: [{ at: 04.0, id: 1234:0001, class: ${text} }]`).devices[0]!.classCode;
    expect(['serial', '070002', '0x070002', 'signal-processing'].map(classOf)).toEqual([0x070002, 0x070002, 0x070002, 0x118000]);
    expect(() => classOf('uart')).toThrow(
      /machine.yaml:1:\d+: devices\[0\].class: class is 'uart', which is no class of devices; Give one of .*serial/,
    );
  });
});

describe('examples', () => {
  const files = readdirSync(examples).filter((f) => f.endsWith('.yaml'));

  it.each(files)('%s is a machine', (file) => {
    using machine = start(readMachineFile(join(examples, file)));
    expect(machine.functions.size).toBeGreaterThan(0);
  });

  const groupsOf = (file: string) => groupsIn(readMachineFile(join(examples, file)));
  const groupsIn = (spec: MachineSpec) => {
    using machine = start(spec);
    return [...machine.groups.values()].map((g) => g.functions.map((f) => f.bdf.slice(5)).join(' '));
  };

  it('S1-01 desktop.yaml: the multifunction card, the cards behind the bridge and the chipset are groups', () => {
    expect(groupsOf('desktop.yaml')).toEqual([
      '00:00.0',
      '00:01.0',
      '00:04.0',
      '00:1c.0',
      '00:1c.1',
      '00:1f.0 00:1f.4',
      '01:00.0 01:00.1',
      '02:00.0',
      '03:00.0 04:00.0 04:01.0',
    ]);
  });

  it('S1-01 switch.yaml: devices behind a port without access control share its group; under grouping strict the whole switch does', () => {
    const left = ['00:01.0', '01:00.0', '02:00.0', '02:01.0', '03:00.0', '04:00.0'];
    expect(groupsOf('switch.yaml')).toEqual([...left, '00:02.0', '05:00.0', '06:00.0', '06:01.0 08:00.0', '07:00.0']);
    const strict = { ...readMachineFile(join(examples, 'switch.yaml')), grouping: 'strict' as const };
    expect(groupsIn(strict)).toEqual([...left, '00:02.0', '05:00.0', '06:00.0 06:01.0 07:00.0 08:00.0']);
  });

  it('S1-08 not-viable.yaml: the container is refused, naming the two cards; pci-stub is harmless', () => {
    using machine = start(readMachineFile(join(examples, 'not-viable.yaml')));
    const edu = [...machine.functions.values()].find((f) => f.driver === 'vfio-pci')!;
    expect(machine.explain(edu.bdf).culprits.map((c) => c.driver)).toEqual(['e1000', 'snd_ens1371']);
    expect(() => openAll(machine, edu.bdf)).toThrow(expect.objectContaining({ code: 'EPERM' }));
  });

  it.each(['translation-only.yaml', 'no-iommu.yaml'])('S1-05 %s: no groups, vfio-pci is EINVAL', (file) => {
    using machine = start(readMachineFile(join(examples, file)));
    expect(machine.groups.size).toBe(0);
    expect(() => machine.bind('00:04.0', 'vfio-pci')).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  it('S1-05 no-msi-isolation.yaml: attaching is EPERM', () => {
    using machine = start(readMachineFile(join(examples, 'no-msi-isolation.yaml')));
    expect(() => openAll(machine, '0000:00:04.0')).toThrow(expect.objectContaining({ code: 'EPERM' }));
  });

  it('hello.yaml: edu opens and identifies itself', () => {
    using machine = start(readMachineFile(join(examples, 'hello.yaml')));
    const { device } = openAll(machine, '0000:00:04.0');
    device.region(RegionIndex.CONFIG).write16(4, 2);
    expect(device.region(RegionIndex.BAR0).read32(0)).toBe(0x010000ed);
  });
});
