import { describe, expect, it } from 'vitest';
import { refusal } from '../../../tests/kit/errno.ts';
import { ProbeModel, testMachine } from '../../../tests/kit/machines.ts';
import { CapId, ExtCapId } from '../../abi/pci.ts';
import type { DeviceModel, PciDeclaration } from '../../pci/declaration.ts';
import { buildFunction as build4 } from './function-builder.ts';
import type { FunctionSpec, MachineSpec } from './machine-spec.ts';

const buildFunction = (...given: Parameters<typeof build4> extends [...infer Given, unknown] ? Given : never) =>
  build4(...given, (what, error) => {
    throw new Error(what, { cause: error });
  });

const model = (declaration: Partial<PciDeclaration>): DeviceModel => ({
  declaration: { ...ProbeModel.declaration, ...declaration },
  create: () => ({ read: () => 0, write: () => {}, reset: () => {} }),
});

const textOf = (call: () => unknown) => String(refusal(call));

describe('models', () => {
  it('a name is looked up, a factory gets the options, an object is taken as it is', () => {
    const seen: unknown[] = [];
    const models = {
      plain: model({ name: 'plain' }),
      made: (options: object) => {
        seen.push(options);
        return model({ name: 'made' });
      },
    };
    const name = (spec: Omit<FunctionSpec, 'at'>) => buildFunction({ at: '00.0', ...spec }, 'root-port', models).declaration.name;
    expect([name({ model: 'plain' }), name({ model: 'made', options: { mask: 28 } }), name({ model: model({ name: 'own' }) })]).toEqual([
      'plain',
      'made',
      'own',
    ]);
    expect(seen).toEqual([{ mask: 28 }]);
  });

  it('an unknown model says which there are; names of Object.prototype are no models', () => {
    const build = (name: string) => textOf(() => buildFunction({ at: '00.0', model: name }, 'root-port', { edu: model({}) }));
    expect(build('nvme')).toBe("EINVAL: 00.0: there is no model 'nvme'");
    expect(build('toString')).toContain('EINVAL');
    expect(() => buildFunction({ at: '00.0', model: 'x' }, null, { edu: model({}) })).toThrow(
      expect.objectContaining({ fix: 'Known models: edu.' }),
    );
  });

  it('a model says what kind it is: without a PCI Express capability it is conventional', () => {
    const conventional = model({ capabilities: [] });
    expect(buildFunction({ at: '00.0', model: conventional }, null, {}).kind).toBe('conventional');
    expect(buildFunction({ at: '00.0', model: model({}) }, 'root-port', {}).kind).toBe('endpoint');
    expect(textOf(() => buildFunction({ at: '00.0', model: conventional, kind: 'endpoint' }, null, {}))).toContain(
      'EINVAL: 00.0: declared as endpoint',
    );
    expect(textOf(() => buildFunction({ at: '00.0', model: model({}) }, 'pci-bridge', {}))).toContain(
      'EINVAL: 00.0: endpoint cannot be behind a pci-bridge',
    );
  });
});

describe('stubs', () => {
  it('have ids, class and the capabilities of their kind', () => {
    const { declaration, kind } = buildFunction(
      { at: '00.0', id: '8086:10d3', classCode: 0x020000, subsystem: '1af4:1100', msi: 4 },
      'root-port',
      {},
    );
    expect([kind, declaration.vendor, declaration.device, declaration.subsystemVendor, declaration.classCode]).toEqual([
      'endpoint',
      0x8086,
      0x10d3,
      0x1af4,
      0x020000,
    ]);
    expect(declaration.capabilities!.map((c) => c.id)).toEqual([CapId.PM, CapId.MSI, CapId.EXP]);
    const conventional = buildFunction({ at: '00.0', id: '8086:100e', msi: 0 }, 'pci-bridge', {});
    expect([conventional.kind, conventional.declaration.capabilities!.map((c) => c.id)]).toEqual(['conventional', [CapId.PM, CapId.AF]]);
  });

  it('ports have access control by default, and endpoints do not', () => {
    const has = (spec: Omit<FunctionSpec, 'at'>, behind: 'root-port' | null) =>
      buildFunction({ at: '00.0', ...spec }, behind, {}).declaration.extendedCapabilities?.some((c) => c.id === ExtCapId.ACS) ?? false;
    expect([has({ kind: 'root-port' }, null), has({ kind: 'root-port', acs: false }, null)]).toEqual([true, false]);
    expect([has({ id: '8086:10d3' }, 'root-port'), has({ id: '8086:10d3', acs: true }, 'root-port')]).toEqual([false, true]);
    expect(textOf(() => has({ id: '8086:10d3', kind: 'conventional', acs: true }, null))).toContain('EINVAL');
  });

  it.each([
    [{ at: '00.0' }, 'needs a `model`, or an `id`'],
    [{ at: '00.0', id: '8086' }, "write it as 'vendor:device'"],
    [{ at: '00.0', id: '8086:10d3', devices: [] }, 'only bridges and ports can'],
    [{ at: '00.0', kind: 'toaster' as never }, "unknown kind 'toaster'"],
    [{ at: '00.0', kind: 'downstream-port' }, 'downstream-port cannot be on the root bus'],
  ] as [FunctionSpec, string][])('%j is refused: %s', (spec, message) => {
    expect(textOf(() => buildFunction(spec, null, {}))).toMatch(/^EINVAL: 00\.0: /);
    expect(textOf(() => buildFunction(spec, null, {}))).toContain(message);
  });
});

describe('machines', () => {
  const nic = { id: '8086:100e' };
  it.each([
    [
      {
        devices: [
          { at: '04.0', ...nic },
          { at: '00:04.0', ...nic },
        ],
      },
      'EEXIST',
    ],
    [{ devices: [{ at: '20.0', ...nic }] }, 'EINVAL'],
    [{ devices: [{ at: '04.8', ...nic }] }, 'EINVAL'],
    [{ devices: [{ at: '01.0', kind: 'root-port', devices: [{ at: '02:00.0', ...nic }] }] }, 'EINVAL'],
    [{ devices: [{ at: '01.0', kind: 'root-port', devices: [{ at: '0001:01:00.0', ...nic }] }] }, 'EINVAL'],
    [{ devices: [{ at: 4 as never, ...nic }] }, 'EINVAL'],
    [{ devices: [{ at: '04.1', ...nic }] }, 'EINVAL'],
    [{ devices: [{ at: '04.0', ...nic, iommu: 'nowhere' }] }, 'EINVAL'],
    [
      {
        iommus: { a: {} },
        devices: [
          { at: '04.0', ...nic, iommu: 'a' },
          { at: '04.1', ...nic },
        ],
      },
      'EINVAL',
    ],
    [{ iommu: { kind: 'half' as never }, devices: [] }, 'EINVAL'],
    [{ iommu: { pageSizes: 0n }, devices: [] }, 'EINVAL'],
    [{ iommu: { pageSizes: 0x800n }, devices: [] }, 'EINVAL'],
    [{ iommu: { pageSizes: -1n }, devices: [] }, 'EINVAL'],
    [{ iommu: { aperture: { first: 5n, last: 4n } }, devices: [] }, 'EINVAL'],
    [{ iommu: { aperture: { first: 0n, last: 2n ** 64n } }, devices: [] }, 'EINVAL'],
    [{ iommu: { reserved: [{ first: 5n, last: 4n, kind: 'msi' }] }, devices: [] }, 'EINVAL'],
    [{ iommu: { reserved: [{ first: 0n, last: 4n, kind: 'odd' as never }] }, devices: [] }, 'EINVAL'],
    [{ devices: [{ at: '04.0', ...nic, reserved: [{ first: 0n, last: -1n, kind: 'msi' }] }] }, 'EINVAL'],
    [{ hostDrivers: [{ name: 'vfio-pci' }], devices: [] }, 'EEXIST'],
    [{ hostDrivers: [{ name: 'x', ids: ['class:2'] }], devices: [] }, 'EINVAL'],
    [{ hostDrivers: [{ name: '../x' }], devices: [] }, 'EINVAL'],
  ] as [MachineSpec, string][])('%# a machine that cannot be is refused', (spec, errno) => {
    expect(() => testMachine(spec)).toThrow(expect.objectContaining({ code: errno }));
  });

  it('what was built before a refusal is disposed', () => {
    let disposed = 0;
    const counted: DeviceModel = {
      declaration: ProbeModel.declaration,
      create: () => ({ read: () => 0, write: () => {}, reset: () => {}, dispose: () => void disposed++ }),
    };
    const broken: DeviceModel = {
      declaration: ProbeModel.declaration,
      create: () => {
        throw new Error('a bug of the model');
      },
    };
    const behind = (at: string, m: DeviceModel): FunctionSpec => ({ at, kind: 'root-port', devices: [{ at: '00.0', model: m }] });
    expect(() => testMachine({ devices: [behind('01.0', counted), behind('02.0', broken)] })).toThrow('a bug of the model');
    expect(disposed).toBe(1);
  });

  it('functions of one device are marked as such', () => {
    const { machine } = testMachine({
      devices: [
        { at: '04.0', ...nic },
        { at: '05.0', ...nic },
        { at: '05.3', ...nic },
      ],
    });
    expect([...machine.functions.values()].map((f) => f.isMultifunction)).toEqual([false, true, true]);
  });

  it.each([0, 1, 4095, 8192, Number.NaN, 2 ** 53])('page size %s is refused', (pageSize) => {
    expect(() => testMachine({ devices: [] }, { pageSize })).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });
});
