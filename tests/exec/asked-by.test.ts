/**
 * The programs that asked Linux 7.3 (tests/kernel-answers), unchanged, on a machine of ours: their
 * lines are the recorded ones. Descriptor numbers differ, and the kernel's log is not theirs.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Machine } from '../../src/engine/machine/machine.ts';
import { edu } from '../../src/models/edu/edu.ts';
import { MemfdMemory } from '../../src/sys/memfd.ts';
import { EDU } from '../kernel-answers/guest.ts';
import { compiled, compiler, runOn } from './programs.ts';

/** The guest's edu, at the address that QEMU's firmware chose for its BAR, and a second device. */
function guest(): Machine {
  const machine = new Machine(
    {
      name: 'guest',
      devices: [
        { at: '04.0', model: edu({ factorialMs: 1, dmaMs: 100, migration: false }), driver: 'vfio-pci' },
        { at: '06.0', kind: 'root-port', bus: 2, devices: [{ at: '00.0', id: '1b36:0010', reset: 'flr', driver: 'vfio-pci' }] },
      ],
    },
    { allocate: MemfdMemory.allocate },
  );
  machine.function(EDU).config.setBarAddress(0, 0xfe20_0000n);
  return machine;
}

/** Whether a program may raise its limit of locked memory to 1 GiB, which the questions do. */
const mayRaise = spawnSync('prlimit', ['--memlock=8388608:1073741824', 'true']).status === 0;
/** Lines of dma-edu.txt before the questions about limits. */
const BEFORE_LIMITS = 55;
/** Lines of dma-edu.txt of the second run, with another dma_entry_limit. */
const OTHER_LIMIT = 68;

/** Numbers of descriptors, and a device's own part of a name, are the process's. */
const plain = (line: string): string => line.replace(/^((?:open|GET_DEVICE_FD).* ->) \d+$/, '$1 N');
const isLog = (line: string): boolean => /^\[ *\d+\.\d+\]/.test(line);

function recorded(file: string): string[] {
  const lines = readFileSync(join(import.meta.dirname, '../kernel-answers/linux-7.3', file), 'utf8')
    .trimEnd()
    .split('\n');
  return lines.filter((line) => !isLog(line)).map(plain);
}

const asked: readonly (readonly [string, string, readonly string[]])[] = [
  ['container.txt', 'asked-by', ['container']],
  ['group-edu.txt', 'asked-by', ['group', 'GROUP', EDU]],
  ['dma-edu.txt', 'asked-by', ['dma', 'GROUP', EDU]],
  ['device-edu.txt', 'asked-by', ['device', 'GROUP', EDU]],
  ['config-edu.txt', 'asked-by', ['config', 'GROUP', EDU]],
  ['edu-irq-dma.txt', 'asked-by', ['edu', 'GROUP', EDU]],
  ['cdev-edu.txt', 'asked-by-cdev', ['/dev/vfio/devices/vfio0', '/dev/vfio/GROUP']],
];

it.skipIf(compiler === null || process.getuid!() !== 0).each(asked)('%s', async (file, name, words) => {
  using machine = guest();
  const group = String(machine.function(EDU).group!.id);
  const program = compiled(name, '-w', '-Wno-error');
  const { lines } = await runOn(machine, 'prlimit', '--memlock=8388608:', program, ...words.map((word) => word.replace('GROUP', group)));
  const end = file === 'dma-edu.txt' ? (mayRaise ? OTHER_LIMIT : BEFORE_LIMITS) : undefined;
  expect(lines.map(plain).slice(0, end)).toEqual(recorded(file).slice(0, end));
});

/** Lines that the host or its kernel writes, not VFIO: its /proc, and a file's own numbers. */
const ofHost: readonly RegExp[] = [
  /^ {2}Vm(?:Lck|Pin):/,
  /^ {2}(?:pos|flags|mnt_id|ino|eventfd-[a-z]+|vfio-device-syspath):/,
  /^[^ ]+ mode [0-7]+ rdev /,
  /^fsync\(/,
  // A program's descriptor is a memfd here, which is always ready.
  /^ {2}revents /,
  // Real pins keep the page; here the device reaches what the program has mapped there since.
  /^ {2}new page at that address/,
];
const ofIommufd = (line: string): string =>
  plain(line)
    .replace(/^(fdinfo of .*): link ".*"$/, '$1')
    .replace(/^(FAULT_QUEUE_ALLOC -> 0 \[8\]=0x[0-9a-f]+) \[12\]=.*$/, '$1')
    .replace(/^(IOAS_MAP pick (?:48 pages|4 MiB) -> 0) .*$/, '$1');
const answersIn = (lines: readonly string[]): string[] =>
  lines.filter((line) => !ofHost.some((pattern) => pattern.test(line))).map(ofIommufd);

const iommufd: readonly (readonly [string, string, ...string[]])[] = [
  ['iommufd-bind-edu.txt', 'bind', 'CDEV', 'CDEV2', 'GROUP'],
  ['iommufd-ioas.txt', 'ioas', 'CDEV'],
  ['iommufd-hwpt-edu.txt', 'hwpt', 'CDEV'],
  ['iommufd-pt.txt', 'pt', 'CDEV', 'CDEV2'],
  ['iommufd-life.txt', 'life', 'CDEV', 'CDEV2'],
  ['iommufd-compat.txt', 'compat', 'CDEV', 'GROUP', EDU],
  ['iommufd-dev-edu.txt', 'dev', 'CDEV'],
  ['iommufd-reset-edu.txt', 'reset', 'CDEV'],
  ['iommufd-edu.txt', 'edu', 'CDEV'],
];

it.skipIf(compiler === null || process.getuid!() !== 0).each(iommufd)('B.5 %s', async (file, kind, ...words) => {
  using machine = guest();
  const node = (bdf: string) => `/dev/vfio/devices/vfio${machine.function(bdf).vfioIndex}`;
  const names: Readonly<Record<string, string>> = {
    CDEV: node(EDU),
    CDEV2: node('0000:02:00.0'),
    GROUP: `/dev/vfio/${machine.function(EDU).group!.id}`,
  };
  const program = compiled('asked-by-iommufd', '-w', '-Wno-error');
  const { lines } = await runOn(machine, program, kind, ...words.map((word) => names[word] ?? word));
  const [theirs] = readFileSync(join(import.meta.dirname, '../kernel-answers/linux-7.3', file), 'utf8').split('# kernel log:');
  expect(answersIn(lines)).toEqual(answersIn(theirs!.trimEnd().split('\n')));
});
