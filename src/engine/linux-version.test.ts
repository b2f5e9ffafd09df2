import { describe, expect, it } from 'vitest';
import { testContainer, testContext, testGroup } from '../../tests/kit/dma-rig.ts';
import { errnoFrom } from '../../tests/kit/errno.ts';
import { HeapMemory } from '../sys/fake.ts';
import { Container } from './dma/container.ts';
import { Process } from './dma/process.ts';
import { type LinuxVersion, linuxDifferences, linuxRules, linuxVersions, NEWEST_LINUX } from './linux-version.ts';
import { Machine } from './machine/machine.ts';

const TOP = 2n ** 64n;

describe('the answers of older kernels', () => {
  it('the newest kernel has the newer answer everywhere, the oldest nowhere', () => {
    expect(linuxVersions.at(-1)).toBe(NEWEST_LINUX);
    expect(new Set(Object.values(linuxRules()))).toEqual(new Set([true]));
    expect(new Set(Object.values(linuxRules('6.12')))).toEqual(new Set([false]));
  });

  it('each difference begins with one of the kernels, and changes an answer', () => {
    for (const { since, older, newer } of Object.values(linuxDifferences)) {
      expect(linuxVersions.indexOf(since)).toBeGreaterThan(0);
      expect(older).not.toBe(newer);
    }
  });

  it.each([
    ['6.12', 1, 'EINVAL', 'EINVAL'],
    ['7.2', 0, 'ENODEV', 'EOVERFLOW'],
    ['7.3', 0, 'ENODEV', 'EOVERFLOW'],
  ] as const)('Linux %s: nesting of type1, and ranges that pass 2^64', (linux, extension, setIommu, overflow) => {
    const context = { ...testContext(), linux: linuxRules(linux) };
    const unset = new Container(context);
    unset.attachGroup(testGroup(1));
    expect([unset.checkExtension(6), errnoFrom(() => unset.setIommu(6))]).toEqual([extension, setIommu]);
    const container = testContainer(context, [testGroup(2)]);
    const process = Process.root({ allocate: HeapMemory.allocate });
    const vaddr = process.addressSpace.anonymous(4096);
    const range = { iova: TOP - 4096n, size: 8192n };
    expect(errnoFrom(() => container.mapDma({ process, vaddr, flags: 3, ...range }))).toBe(overflow);
    expect(errnoFrom(() => container.unmapDma(range))).toBe(overflow);
  });

  it('a kernel without recorded answers is EINVAL, and the error lists those that have some', () => {
    const machine = () => new Machine({ linux: '5.4' as LinuxVersion, devices: [] }, { allocate: HeapMemory.allocate });
    expect(errnoFrom(machine)).toBe('EINVAL');
    expect(machine).toThrow('5.4');
  });
});
