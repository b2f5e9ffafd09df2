/**
 * Opening devices by Linux's VFIO: our client on our virtual kernel, by groups and by devices' own
 * files.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { parseMachine } from '../../src/api/machine-file.ts';
import { machineOf } from '../../src/api/machine-of-spec.ts';
import { silentLogger } from '../../src/base/log.ts';
import { answersOf } from './machine.ts';

const machine = `
name: many devices
hostDrivers:
  - { name: e1000, ids: ["8086:100e"] }
devices:
  - { at: "1c.0", kind: root-port, devices: [{ at: "00.0", model: edu, driver: vfio-pci }] }
  - { at: "1c.1", kind: root-port, devices: [{ at: "00.0", model: edu, driver: vfio-pci }] }
  - { at: "1c.2", kind: root-port, devices: [{ at: "00.0", model: edu, driver: vfio-pci }] }
  - at: "1c.3"
    kind: root-port
    devices:
      - at: "00.0"
        kind: pcie-to-pci-bridge
        devices:
          - { at: "01.0", model: edu, driver: vfio-pci }
          - { at: "02.0", model: edu, driver: vfio-pci }
  - at: "1c.4"
    kind: root-port
    devices:
      - at: "00.0"
        kind: pcie-to-pci-bridge
        devices:
          - { at: "01.0", model: edu, driver: vfio-pci }
          - { at: "02.0", name: network card, id: "8086:100e", class: "020000" }
`;

type Answers = Record<'ways' | 'shared', Record<string, unknown>[]> &
  Record<'oneGroup' | 'notViable' | 'nativeDriver' | 'notThere', Record<string, unknown>> & {
    readonly leaked: number;
    readonly lines: readonly string[];
  };
let answers: Answers;

beforeAll(async () => {
  using computer = machineOf('machine.yaml', parseMachine(machine), { log: silentLogger, nodeOwner: process.getuid!() });
  answers = (await answersOf(computer, 'opens')) as Answers;
});

describe('opening a device of the kernel', () => {
  it('takes its own file where the kernel has it, and says so', () => {
    expect(answers.ways.map(({ via, why }) => [via, why])).toEqual([
      ['cdev', 'the device has a file of its own, and /dev/iommu is there'],
      ['group', 'the caller chose the group'],
      ['cdev', "the caller chose the device's own file"],
    ]);
    expect(answers.lines).toContain('debug: 0000:01:00.0: opened by group: the caller chose the group');
  });

  it('maps memory with the same answers by group and by file', () => {
    for (const { references, cut, unmapped } of answers.ways) {
      expect({ references, unmapped }).toEqual({ references: 2, unmapped: 8192 });
      expect(cut).toMatchObject({ code: 'EINVAL', message: expect.stringContaining('would cut the mapping at 0x100000 in two') });
    }
  });

  it('S2-30 leaves no file open', () => {
    expect(answers.leaked).toBe(0);
  });

  it('S1-07 shares the mappings of a container, or address space, between devices until the last is closed', () => {
    for (const { over, other, closed, unmapped, late } of answers.shared) {
      expect(over).toMatchObject({ code: 'EEXIST' });
      expect(other).toMatchObject({ code: 'EINVAL', message: expect.stringContaining('the device that it shares its memory with') });
      expect(closed).toMatchObject({ code: 'ENODEV', message: '0000:01:00.0 is closed' });
      expect(unmapped).toBe(4096);
      expect(late).toMatchObject({ code: 'ENODEV', message: 'the device to share memory with is closed' });
    }
  });

  it('S1-04 has one user of a device at a time, whichever way it was opened', () => {
    for (const { busy } of answers.shared) expect(busy).toMatchObject({ code: 'EBUSY', message: expect.stringContaining('in use') });
  });

  it('S1-04 opens a second device of a group with the first, and names that remedy', () => {
    expect(answers.oneGroup).toMatchObject({ alone: { code: 'EBUSY', fix: expect.stringContaining('`with` of open()') }, via: 'group' });
  });

  it('S1-08 names the devices that hold a group back', () => {
    expect(answers.notViable).toMatchObject({ code: 'EPERM', culprits: ['0000:07:02.0'] });
  });

  it('names the driver of a device that is not given away, and the devices beside one that is not there', () => {
    expect(answers.nativeDriver).toMatchObject({ code: 'EBUSY', fix: 'As root: vfio bind 0000:07:02.0.' });
    expect(answers.notThere).toMatchObject({ code: 'ENODEV', message: expect.stringContaining('0000:01:00.0 is there') });
  });
});
