import type { CommandSpec, OptionSpec } from '../command.ts';
import { eventNote, eventOptions } from '../event-options.ts';
import { doorbellKinds, interruptKinds, patterns } from '../nvme/patterns.ts';
import { hardwareOptions, jsonOption, vfTokenOption } from '../options.ts';
import { address, file, integer, oneOf, seconds, size } from '../values.ts';

const actions = () => import('../nvme/actions.ts');

const controller = { name: '<address>', help: 'the controller: sim:nvme, unix:PATH or a BDF', kind: address };
const namespace = integer(1, 0xffff_fffe);
const lba = integer(0, Number.MAX_SAFE_INTEGER);
const namespaceOption: OptionSpec = { flags: '-n, --namespace <id>', help: 'the namespace', kind: namespace, default: 1 };
const startOption: OptionSpec = { flags: '-s, --start <lba>', help: 'the first block', kind: lba, default: 0 };
const countOption = (otherwise: string): OptionSpec => ({
  flags: '-c, --count <blocks>',
  help: `the number of blocks. Default: ${otherwise}`,
  kind: lba,
});

const list: CommandSpec = {
  name: 'list',
  summary: 'the namespaces of controllers, one a line',
  arguments: [{ ...controller, name: '<address...>', help: 'the controllers: sim:nvme, unix:PATH or a BDF each' }],
  options: [jsonOption, ...hardwareOptions, vfTokenOption, ...eventOptions],
  examples: ['vfio nvme list sim:nvme,size=1G,blockSize=4096'],
  run: async () => (await actions()).listNamespaces,
};

const id: CommandSpec = {
  name: 'id',
  summary: 'the description that a controller and its namespaces give of themselves (Identify), in words',
  arguments: [controller],
  options: [
    { flags: '-n, --namespace <id>', help: 'one namespace. Default: all', kind: namespace },
    jsonOption,
    ...hardwareOptions,
    vfTokenOption,
    ...eventOptions,
  ],
  examples: ['vfio nvme id sim:nvme'],
  run: async () => (await actions()).identifyController,
};

const smart: CommandSpec = {
  name: 'smart',
  summary: 'the health of a controller (SMART log), with units',
  arguments: [controller],
  options: [jsonOption, ...hardwareOptions, vfTokenOption, ...eventOptions],
  notes: ['Exit status 3: the controller reports a critical warning.'],
  examples: ['vfio nvme smart sim:nvme'],
  run: async () => (await actions()).printSmart,
};

const read: CommandSpec = {
  name: 'read',
  summary: 'copy blocks to a file or to standard output',
  arguments: [controller],
  options: [
    startOption,
    countOption('to the end of the namespace'),
    namespaceOption,
    { flags: '-o, --output <file>', help: 'the file to write; - is standard output', kind: file(), default: '-' },
    ...hardwareOptions,
    vfTokenOption,
    ...eventOptions,
  ],
  examples: ['vfio nvme read sim:nvme,size=16M --count 1 | xxd | head', 'vfio nvme read unix:/tmp/disk.sock --output disk.img'],
  run: async () => (await actions()).readBlocks,
};

const write: CommandSpec = {
  name: 'write',
  summary: 'copy a file or standard input to blocks, and flush',
  arguments: [controller],
  options: [
    startOption,
    countOption('all of the input'),
    namespaceOption,
    { flags: '-i, --input <file>', help: 'the file to read; - is standard input', kind: file(), default: '-' },
    { flags: '--fua', help: 'every command is on the medium before it counts as done (Force Unit Access)' },
    { flags: '--verify', help: 'read back what was written, and compare' },
    { flags: '--pad', help: 'fill the last block with zeroes when the input ends within one, which is an error otherwise' },
    ...hardwareOptions,
    vfTokenOption,
    ...eventOptions,
  ],
  examples: [
    'vfio nvme write unix:/tmp/disk.sock --input system.img --verify',
    'head -c 4096 /dev/urandom | vfio nvme write sim:nvme,size=16M --start 8',
  ],
  run: async () => (await actions()).writeBlocks,
};

const bench: CommandSpec = {
  name: 'bench',
  summary: 'IOPS, bandwidth and latencies of a namespace under load',
  arguments: [controller],
  options: [
    { flags: '--rw <pattern>', help: 'the load', kind: oneOf(patterns), default: 'randread' },
    { flags: '-b, --block-size <size>', help: 'bytes of each command', kind: size, default: '4K' },
    { flags: '-d, --depth <commands>', help: 'commands in flight on each queue', kind: integer(1, 1023), default: 32 },
    { flags: '-q, --queues <number>', help: 'queue pairs', kind: integer(1, 64), default: 1 },
    { flags: '-t, --seconds <seconds>', help: 'how long', kind: seconds, default: 5 },
    { flags: '--interrupts <kind>', help: 'how the driver finds completions', kind: oneOf(interruptKinds), default: 'msix' },
    { flags: '--doorbells <kind>', help: 'where the driver rings', kind: oneOf(doorbellKinds), default: 'auto' },
    namespaceOption,
    {
      flags: '--overwrite',
      help: 'allow loads that write (randwrite, write, randrw): they destroy the data in the namespace',
    },
    jsonOption,
    ...hardwareOptions,
    vfTokenOption,
    ...eventOptions,
  ],
  notes: [
    'A latency is the time from the submission of a command to the moment when the driver finds its completion. The first 0.3 seconds do not count. A file of events slows the load down.',
    eventNote,
  ],
  examples: [
    'vfio nvme bench sim:nvme,size=256M --seconds 2',
    'vfio nvme bench sim:nvme,size=256M --seconds 0.1 --events bench.pftrace',
    'vfio nvme bench unix:/tmp/disk.sock --rw read --block-size 128K --depth 8',
    'vfio nvme bench unix:/tmp/disk.sock --rw randwrite --overwrite',
  ],
  run: async () => (await actions()).benchNamespace,
};

export const nvme: CommandSpec = {
  name: 'nvme',
  summary: 'look at NVMe controllers, copy disks in and out, and measure them',
  commands: [list, id, smart, read, write, bench],
  examples: [
    'vfio nvme list sim:nvme,size=1G',
    'vfio serve nvme --image disk.img --size 1G --socket-path /tmp/disk.sock &',
    'vfio nvme write unix:/tmp/disk.sock --input system.img --verify',
    'vfio nvme bench unix:/tmp/disk.sock --depth 32',
    'vfio nvme id 0000:03:00.0',
  ],
};
