/** The facts that a guest must print of its NVMe disk, and those of the image on the host. */
import { createHash } from 'node:crypto';
import { type Check, type Expected, tells } from './checks.ts';
import type { DiskImage } from './disk-image.ts';
import type { Facts } from './facts.ts';

const MIB = 2 ** 20;

/** The output of `seq FIRST LAST`. */
function lines(first: number, last: number): string {
  let text = '';
  for (let n = first; n <= last; n++) text += `${n}\n`;
  return text;
}

/** Names and SHA-256 of the files that nvme.sh makes. */
function filesMade(): ReadonlyMap<string, string> {
  const files = new Map<string, string>();
  const add = (name: string, text: string) => files.set(name, createHash('sha256').update(text).digest('hex'));
  for (let i = 1; i <= 120; i++) add(`small-${i}`, lines(i * 100_000, i * 100_000 + i * 7));
  for (let i = 1; i <= 3; i++) add(`long-${i}`, lines(i * 1_000_000, i * 1_000_000 + 400_000));
  return files;
}

/** Faults of the found files, by name and SHA-256; null: none. */
function fileTrouble(found: ReadonlyMap<string, string>): string | null {
  const made = filesMade();
  const wrong = [...made].filter(([name, sum]) => found.get(name) !== sum).map(([name]) => name);
  return wrong.length === 0 && found.size === made.size ? null : `${found.size} files, wrong or missing: ${wrong.join(', ')}`;
}

/** Of lines as sha256sum prints them. */
function filesAreWhole(title: string, subject: string): Check {
  return holds(title, (facts) => {
    const told = facts.get(subject, 'files').split('\n');
    return fileTrouble(new Map(told.map((line) => line.split(/\s+/).reverse() as [string, string])));
  });
}

/** Fails with the result of `problem`; null: no fault. */
function holds(title: string, problem: (facts: Facts) => string | null): Check {
  return {
    title,
    run(facts) {
      const text = problem(facts);
      if (text !== null) throw new Error(text);
    },
  };
}

/** Checks that the work of `disk churn` under `keys` read what it had written, without an error. */
function worked(title: string, subject: string, keys: readonly string[]): Check {
  return holds(title, (facts) => {
    for (const key of keys) {
      const [wrong, error] = [facts.get(subject, `${key}.wrong`), facts.get(subject, `${key}.error`)];
      if (wrong !== '0' || error !== 'none') return `${key}: ${wrong} units wrong, error ${error}`;
      if (Number(facts.get(subject, `${key}.compared`)) < 500)
        return `${key}: only ${facts.get(subject, `${key}.compared`)} units compared`;
    }
    return null;
  });
}

/** Warnings and worse, and texts of trouble on any level. */
const TROUBLE =
  /^[0-4] |timeout|timed out|\breset|abort|I\/O error|\bfault|failed|controller is down|not ready|BUG|WARNING|Call Trace|Oops/i;

/**
 * Checks that the kernel logged nothing bad in any of its `phases`.
 * @param allowed messages that the scenario provokes
 */
function kernelIsQuiet(phases: readonly string[], allowed = /^$/): Check {
  return holds("the guest's kernel says nothing of warnings, timeouts or resets", (facts) => {
    const said = phases.flatMap((phase) => (facts.has('guest', `log.${phase}`) ? facts.get('guest', `log.${phase}`).split('\n') : []));
    if (!said.some((line) => line.includes('default/read/poll queues'))) return 'nor does it say that it found a controller';
    const trouble = said.filter((line) => TROUBLE.test(line) && !allowed.test(line));
    return trouble.length === 0 ? null : trouble.join('\n');
  });
}

/** The output of nvme-cli under a key, decoded. */
function decoded(facts: Facts, subject: string, key: string): Record<string, unknown> {
  return JSON.parse(facts.get(subject, `cli.${key}`)) as Record<string, unknown>;
}

/** Checks that nvme-cli decoded `key` with these values, among others. */
function decodes(title: string, subject: string, key: string, expected: Readonly<Record<string, unknown>>): Check {
  return holds(title, (facts) => {
    const values = decoded(facts, subject, key);
    const wrong = Object.entries(expected).filter(([name, value]) => values[name] !== value);
    return wrong.length === 0 ? null : wrong.map(([name, value]) => `${name} is ${values[name]}, should be ${value}`).join('; ');
  });
}

const FEATURES = [1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 14].map((id) => `feature.${id}`);
const COMMANDS = [
  ...['id-ctrl', 'id-ctrl-text', 'id-ns', 'id-ns-text', 'id-ns-2', 'ns-descs', 'list-ns', 'list', 'smart-log', 'smart-log-after'],
  ...['error-log', 'fw-log', 'changed-ns-list-log', 'effects-log', 'format', ...FEATURES],
];

/**
 * Statuses as Linux traces them: done, and Invalid Field for data structures that came after NVMe
 * 1.4 (with Do Not Retry and More, or either).
 */
const KNOWN_STATUSES = new Set(['0x0', '0x2', '0x4002', '0x6002']);

export interface Disk {
  readonly model: string;
  /** Of the first namespace, with blocks of 512 bytes, and of the second. */
  readonly sizes: readonly [number, number];
}

/** Of the guest of nvme.sh. */
export function newDiskChecks(subject: string, { model, sizes }: Disk): Check[] {
  const linux: Expected = {
    'sys.model': model,
    'sys.state': 'live',
    'sys.transport': 'pcie',
    'sys.queue_count': '3', // one for each processor, and the admin queue
    'sys.n1.bytes': `${sizes[0]}`,
    'sys.n1.logical_block_size': '512',
    'sys.n1.write_cache': 'write back',
    'sys.n1.fua': '1',
    'sys.n2.bytes': `${sizes[1]}`,
    'format.block': '4096',
  };
  return [
    tells("Linux's driver finds the controller and both namespaces", subject, linux),
    holds('nvme-cli decodes everything without complaint', (facts) => {
      const wrong = COMMANDS.filter((key) => facts.get(subject, `cli.${key}.status`) !== '0' || facts.has(subject, `cli.${key}.complaint`));
      return wrong.length === 0 ? null : wrong.map((key) => `${key} ended with ${facts.get(subject, `cli.${key}.status`)}`).join('; ');
    }),
    decodes('nvme id-ctrl', subject, 'id-ctrl', { mn: model.padEnd(40), ver: 0x10400, nn: 2, cntrltype: 1, sqes: 0x66, cqes: 0x44 }),
    decodes('nvme id-ns', subject, 'id-ns', { nsze: sizes[0] / 512, flbas: 0 }),
    decodes('nvme id-ns, after nvme format', subject, 'id-ns-2', { nsze: sizes[1] / 4096, ncap: sizes[1] / 4096 }),
    decodes('nvme smart-log', subject, 'smart-log', { critical_warning: 0, media_errors: 0, avail_spare: 100, percent_used: 0 }),
    holds('nvme smart-log counts', (facts) => {
      const [before, after] = ['smart-log', 'smart-log-after'].map((key) => decoded(facts, subject, key)) as [
        Record<string, number>,
        Record<string, number>,
      ];
      const counts = ['data_units_read', 'data_units_written', 'host_read_commands', 'host_write_commands'];
      const stuck = counts.filter((name) => after[name]! <= before[name]!);
      return stuck.length === 0 ? null : `${stuck.join(', ')} did not grow`;
    }),
    holds('nvme list', (facts) => {
      const { Devices: all } = decoded(facts, subject, 'list') as {
        Devices: { SerialNumber: string; PhysicalSize: number; SectorSize: number }[];
      };
      const serial = String(decoded(facts, subject, 'id-ctrl').sn).trimEnd();
      const ours = all.filter((each) => each.SerialNumber === serial).map((each) => `${each.PhysicalSize} in ${each.SectorSize}`);
      const should = [`${sizes[0]} in 512`, `${sizes[1]} in 4096`].sort().join(', ');
      return ours.sort().join(', ') === should ? null : `it has ${ours.join(', ')}, should have ${should}`;
    }),
    holds('nvme get-feature', (facts) => {
      const told = (id: number) => facts.get(subject, `cli.feature.${id}`);
      if (!/Volatile Write Cache Enable \(WCE\): Enabled/.test(told(6))) return told(6);
      if (!/\(NCQA\): 2\n.*\(NSQA\): 2/.test(told(7))) return told(7);
      const millis = Number(/timestamp is : (\d+)/.exec(told(14))?.[1]);
      return Math.abs(millis - Date.now()) < 3_600_000 ? null : `Linux has set the timestamp ${millis}`;
    }),
    holds('features and blocks that do not exist are refused, as the specification says', (facts) => {
      const told = (key: string) => facts.get(subject, `cli.${key}.complaint`);
      if (!told('no-such-feature').includes('Invalid Field in Command')) return told('no-such-feature');
      return told('past-the-end').includes('LBA Out of Range') ? null : told('past-the-end');
    }),
    worked('reads what was written, from both processors, at any length and alignment, in blocks of 512 and 4096 bytes', subject, [
      'work.first',
      'work.second',
    ]),
    holds('each processor has interrupts of its own queue', (facts) => {
      const counts = (key: string) =>
        new Map(
          facts
            .get(subject, key)
            .split('\n')
            .map((line) => line.split(' ') as [string, string]),
        );
      const [before, after] = [counts('interrupts.before'), counts('interrupts.after')];
      const [, ...queues] = [...after.keys()];
      const still = queues.filter((queue) => Number(after.get(queue)) <= Number(before.get(queue)));
      return queues.length === 2 && still.length === 0 ? null : `of ${queues.join(', ')}: none for ${still.join(', ')}`;
    }),
    tells('a controller reset during the work', subject, { 'reset.written': '0', 'reset.state': 'live' }),
    worked('no command is lost in the reset', subject, ['reset']),
    holds("Linux's own admin commands succeed, doorbell buffers among them", (facts) => {
      if (!facts.get(subject, 'reset.admin').split('\n').includes('nvme_admin_dbbuf')) return 'no Doorbell Buffer Config';
      const bad = facts
        .get(subject, 'reset.statuses')
        .split('\n')
        .filter((line) => !KNOWN_STATUSES.has(line.split(' ')[1]!));
      return bad.length === 0 ? null : `other statuses: ${bad.join(', ')}`;
    }),
    tells('is partitioned, gets a file system, is filled and made bootable', subject, { mount: '0', umount: '0', 'install.status': '0' }),
    tells('write zeroes leaves zeroes', subject, { 'zeroes.status': '0', 'zeroes.left': '0' }),
    tells('discarded blocks read as zeroes', subject, { 'discard.status': '0', 'discard.left': '0' }),
    holds('the image on the host shrinks by what fstrim and blkdiscard give back', (facts) => {
      const held = (when: string) => Number(facts.get('host', `allocated.${when}`));
      const trimmed = held('with-passing') - held('after-fstrim');
      if (trimmed < 15 * MIB) return `fstrim gave back ${trimmed} bytes of 16 MiB`;
      const discarded = held('filled-again') - held('discarded');
      return discarded >= 23 * MIB ? null : `blkdiscard gave back ${discarded} bytes of 24 MiB`;
    }),
    kernelIsQuiet(['boot', ...['cli', 'work', 'reset', 'disk'].map((phase) => `${subject}.${phase}`)]),
  ];
}

/** Of the guest of nvme-disk.sh, whose only disk is the bootable one. */
export function startedFromChecks(subject: string): Check[] {
  return [
    tells('holds the boot loader and kernel that the firmware loads, and the root file system', subject, {
      root: '/dev/root ext4',
      'smart-log.status': '0',
      remount: '0',
    }),
    filesAreWhole('all files are whole', subject),
    kernelIsQuiet(['boot']),
  ];
}

/** Of the guest of nvme-unplug.sh. */
export function unpluggedChecks(subject: string): Check[] {
  // Commands under way end with an error; results of earlier commands were right.
  const gone = (key: string) => (facts: Facts) => {
    if (facts.get(subject, `${key}.gone`) !== '0') return 'it is still there';
    if (facts.get(subject, `${key}.error`) === 'none') return 'no work was under way';
    return facts.get(subject, `${key}.wrong`) === '0' ? null : `${facts.get(subject, `${key}.wrong`)} units wrong`;
  };
  return [
    holds('loses its driver while it is at work', gone('unbound')),
    worked('gets it back, and works', subject, ['bound']),
    holds('is removed while it is at work', gone('removed')),
    worked('is found again, and works', subject, ['found']),
    filesAreWhole('all files are whole afterwards', subject),
    kernelIsQuiet(
      ['boot', 'unbound', 'bound', 'removed', 'found', 'end'].map((phase) => `${subject}.${phase}`),
      /I\/O error/,
    ),
  ];
}

/**
 * Of the image, from the host, when no guest has it.
 *
 * @param folder one that exists, for copies of files
 */
export function imageChecks(image: DiskImage, folder: string): Check[] {
  return [
    holds('e2fsck finds nothing wrong with the file system', () => image.fileSystemTrouble(image.partition(1)) || null),
    holds('all files are whole', () => fileTrouble(image.checksums(image.partition(1), '/files', folder))),
  ];
}
