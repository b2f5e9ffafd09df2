/**
 * Linux 7.3's answers to iommufd and to devices' own nodes against ours, line by line, as in
 * replay.test.ts.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { Dma } from '../../src/abi/device-host.ts';
import { type LinuxVersion, NEWEST_LINUX } from '../../src/engine/linux-version.ts';
import type { IommuSpec } from '../../src/engine/machine/machine-spec.ts';
import { CARD, EDU, Guest, NVME } from './guest.ts';
import { LimitQuestions, ManyQuestions, ProcessQuestions, UserQuestions } from './iommufd/ask-accounts.ts';
import { BindQuestions } from './iommufd/ask-bind.ts';
import { CdevQuestions } from './iommufd/ask-cdev.ts';
import { CompatQuestions } from './iommufd/ask-compat.ts';
import { DeviceQuestions, ResetQuestions } from './iommufd/ask-dev.ts';
import { DirtyQuestions } from './iommufd/ask-dirty.ts';
import { EduQuestions } from './iommufd/ask-edu.ts';
import { HwptQuestions } from './iommufd/ask-hwpt.ts';
import { IoasQuestions } from './iommufd/ask-ioas.ts';
import { LifeQuestions } from './iommufd/ask-life.ts';
import { MapFileQuestions } from './iommufd/ask-mapfile.ts';
import { NoIommuQuestions } from './iommufd/ask-noiommu.ts';
import { OptionQuestions } from './iommufd/ask-opt.ts';
import { TwoDeviceQuestions } from './iommufd/ask-pt.ts';
import { SizesQuestions } from './iommufd/ask-sizes.ts';
import type { IommufdAsker, IommufdSubject } from './iommufd/asker.ts';

interface Replay {
  readonly file: string;
  readonly Questions: new (subject: IommufdSubject) => IommufdAsker;
  /** The device. Default: edu. */
  readonly bdf?: string;
  /** Default: 7.3. */
  readonly linux?: LinuxVersion;
  readonly iommu?: IommuSpec;
  /** Of the file: from a line on, up to another one. Default: all of it. */
  readonly part?: { readonly first: string; readonly end: string };
  /** In a guest without an IOMMU, with `unsafeNoIommu`. */
  readonly noIommu?: true;
  /** The asking process is an ordinary user. */
  readonly unprivileged?: true;
}

const replays: readonly Replay[] = [
  { file: 'cdev-edu.txt', Questions: CdevQuestions, linux: '6.12' },
  { file: 'cdev-edu.txt', Questions: CdevQuestions },
  { file: 'iommufd-compat.txt', Questions: CompatQuestions },
  { file: 'iommufd-mapfile.txt', Questions: MapFileQuestions, bdf: CARD },
  { file: 'iommufd-sizes.txt', Questions: SizesQuestions },
  { file: 'iommufd-bind-edu.txt', Questions: BindQuestions },
  { file: 'iommufd-ioas.txt', Questions: IoasQuestions },
  { file: 'iommufd-opt.txt', Questions: OptionQuestions },
  { file: 'iommufd-hwpt-edu.txt', Questions: HwptQuestions },
  { file: 'iommufd-pt.txt', Questions: TwoDeviceQuestions },
  { file: 'iommufd-dev-edu.txt', Questions: DeviceQuestions },
  { file: 'iommufd-reset-edu.txt', Questions: ResetQuestions },
  { file: 'iommufd-edu.txt', Questions: EduQuestions },
  { file: 'iommufd-life.txt', Questions: LifeQuestions },
  { file: 'iommufd-limits.txt', Questions: LimitQuestions },
  { file: 'iommufd-many.txt', Questions: ManyQuestions },
  { file: 'iommufd-process.txt', Questions: ProcessQuestions },
  {
    file: 'iommufd-mock.txt',
    Questions: DirtyQuestions,
    iommu: { dirtyTracking: true },
    part: { first: '# dirty tracking', end: '# replace, nested attach, invalidate' },
  },
  { file: 'iommufd-noiommu-edu.txt', Questions: NoIommuQuestions, noIommu: true },
  { file: 'iommufd-noiommu-hwpt.txt', Questions: HwptQuestions, noIommu: true },
  { file: 'iommufd-user.txt', Questions: UserQuestions, unprivileged: true },
];

/** Lines about calls that the door does not have, or about the file system of the guest. */
const notAsked: readonly RegExp[] = [
  /^[^ ]+ mode [0-7]+ rdev /,
  /^lseek/,
  /\) exec -> /,
  /^F_GETFL /,
  /^fsync\(/,
  /^O_NONBLOCK /,
  /^(?:seal|get seals|ftruncate|hugetlb|MAP_FILE hugetlb)/,
  /^ {2}VmPin:/,
  // The mock device's own requests, and its pages of 2 KiB.
  /^TEST op /,
  /^GET_DIRTY_BITMAP 2 KiB/,
  /^ {3}0xf0f 0$/,
  // A program that ran in the guest beside the asking one.
  /^64$/,
  /^ {2}(?:pos|flags|mnt_id|ino|eventfd-[a-z]+|size|count|exp_name|name):[\t ]/,
];

/**
 * Without what depends on the guest: where its physical pages are, how many lie behind each other,
 * and so the address that the kernel picks for more than one page; and the number of the mock's
 * domain.
 */
function masked(line: string): string {
  return line
    .replace(/^(IOAS_MAP pick (?:48 pages|4 MiB) -> 0) \[32\]=0x[0-9a-f]+$/, '$1 [32]=PICKED')
    .replace(/^((?:NOIOMMU_)?GET_PA.* -> 0)(?: \[24\]=0x[0-9a-f]+)? \[32\]=0x[0-9a-f]+$/, '$1 [32]=PHYSICAL')
    .replace(/^DESTROY [0-9]+ (hwpt with tracking on)/, 'DESTROY HWPT $1')
    .replace(/(pa nonzero 1, len out) 0x[0-9a-f]+/, '$1 LENGTH');
}

/** The kernel's lines, without its log and without what is not asked. */
function kernelLines({ linux = NEWEST_LINUX, file, part }: Replay): string[] {
  const text = readFileSync(join(import.meta.dirname, `linux-${linux}`, file), 'utf8');
  const [answers] = text.split(/^(?:# kernel log:|@EXIT)/m);
  const lines = answers!.trimEnd().split('\n');
  return lines
    .slice(part === undefined ? 0 : lines.indexOf(part.first), part === undefined ? lines.length : lines.indexOf(part.end))
    .filter((line) => !notAsked.some((pattern) => pattern.test(line)))
    .map((line) => line.replace(/^(fdinfo of .*): link ".*"$/, '$1').replace(/made in [0-9.]+ s/, 'made in SECONDS s'))
    .map(masked);
}

function answers({ Questions, unprivileged, linux = NEWEST_LINUX, bdf = EDU, noIommu, iommu = {} }: Replay): string[] {
  using guest = new Guest({ linux, ...(noIommu === true ? { iommu: { kind: 'none' }, params: { unsafeNoIommu: true } } : { iommu }) });
  const { machine } = guest;
  const node = (at: string) => `/dev/vfio/devices/${noIommu === true ? 'noiommu-' : ''}vfio${machine.function(at).vfioIndex}`;
  const { user, clock, groupPath } = guest.subject(bdf, unprivileged === true ? 1000 : 0);
  const giveNodes = () => {
    for (const path of [node(bdf), '/dev/iommu']) machine.chownNode(path, 1000);
  };
  const deviceWrites = (iova: bigint) => expect(machine.function(bdf).host.dma.tryWrite(iova, new Uint8Array([1]))).toBe(Dma.DONE);
  const questions = new Questions({ user, clock, groupPath, bdf, cdev: node(bdf), cdev2: node(NVME), giveNodes, deviceWrites });
  questions.ask();
  user.exit();
  guest.clock.advance(5000);
  const { group, vfio } = machine.function(bdf);
  const left = {
    bugs: guest.errors,
    areas: user.memory.areas,
    locked: user.process.lockedBytes,
    // Without an IOMMU a device that no user has reaches all memory.
    group: [group!.file, group!.owner, noIommu === true ? null : group!.domain],
    open: vfio!.openCount,
  };
  expect(left).toEqual({ bugs: [], areas: 0, locked: 0, group: [null, null, null], open: 0 });
  return questions.lines.map(masked);
}

const count = { compared: 0, equal: 0 };

function compare(theirs: readonly string[], ours: readonly string[]): string[] {
  const differences: string[] = [];
  for (let i = 0; i < Math.max(theirs.length, ours.length); i++) {
    const isAnswer = !theirs[i]?.startsWith('#');
    if (isAnswer) count.compared++;
    if (theirs[i] !== ours[i]) differences.push(`${i + 1}: Linux: ${theirs[i]} | ours: ${ours[i]}`);
    else if (isAnswer) count.equal++;
  }
  return differences;
}

describe("a real kernel's answers to iommufd (Linux 7.3)", () => {
  const usual = replays.filter(({ noIommu }) => noIommu === undefined);
  const without = replays.filter(({ noIommu }) => noIommu === true);

  it.each(usual)('B.5 $file: same return, errno and bytes', (replay) => {
    expect(compare(kernelLines(replay), answers(replay))).toEqual([]);
  });

  it.each(without)('B.12 noiommu $file: same return, errno and bytes', (replay) => {
    expect(compare(kernelLines(replay), answers(replay))).toEqual([]);
  });

  afterAll(() => {
    console.log(`kernel answers, iommufd: ${count.compared} compared with Linux 7.3, ${count.equal} equal`);
  });
});
