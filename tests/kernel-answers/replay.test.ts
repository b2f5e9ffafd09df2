/**
 * Real kernels' answers against ours: the same questions through the ioctl door, compared line by
 * line, with a machine for each kernel (`linux: 7.3`). `allowed` lists the permitted differences
 * and mirrors the first table of docs/kernel-differences.md. The test fails for a difference that
 * is not listed, and for a listed one that is gone.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type LinuxVersion, linuxDifferences, linuxVersions, NEWEST_LINUX } from '../../src/engine/linux-version.ts';
import { ConfigQuestions } from './ask-config.ts';
import { ContainerQuestions } from './ask-container.ts';
import { DeviceQuestions } from './ask-device.ts';
import { DmaQuestions } from './ask-dma.ts';
import { EduQuestions } from './ask-edu.ts';
import { GroupQuestions } from './ask-group.ts';
import type { Asker, Subject } from './asker.ts';
import { EDU, Guest, NVME } from './guest.ts';

/** A line of a file of the kernels', and our line there; null for none. */
const allowed: Readonly<Record<string, string | null>> = {
  // The guest's kernel log. The fault that it reports is compared as a fault, below.
  'edu-irq-dma.txt:42': null,
  'edu-irq-dma.txt:43': null,
  'edu-irq-dma.txt:44': null,
};

interface Replay {
  readonly file: string;
  readonly bdf: string;
  readonly Questions: new (subject: Subject) => Asker;
}

const replays: readonly Replay[] = [
  { file: 'container.txt', bdf: EDU, Questions: ContainerQuestions },
  { file: 'group-edu.txt', bdf: EDU, Questions: GroupQuestions },
  { file: 'device-edu.txt', bdf: EDU, Questions: DeviceQuestions },
  { file: 'config-edu.txt', bdf: EDU, Questions: ConfigQuestions },
  { file: 'config-nvme.txt', bdf: NVME, Questions: ConfigQuestions },
  { file: 'dma-edu.txt', bdf: EDU, Questions: DmaQuestions },
  { file: 'edu-irq-dma.txt', bdf: EDU, Questions: EduQuestions },
];

function kernelLines(linux: LinuxVersion, file: string): string[] {
  return readFileSync(join(import.meta.dirname, `linux-${linux}`, file), 'utf8')
    .trimEnd()
    .split('\n');
}

/** Ask, let the process exit, and check that nothing is left and no bug was logged. */
function answers(guest: Guest, { bdf, Questions }: Pick<Replay, 'bdf' | 'Questions'>): string[] {
  const subject = guest.subject(bdf);
  const questions = new Questions(subject);
  questions.ask();
  subject.user.exit();
  // The log's counts.
  guest.clock.advance(5000);
  const left = {
    bugs: guest.errors,
    descriptors: subject.user.files.open,
    areas: subject.user.memory.areas,
    locked: subject.user.process.lockedBytes,
    groupFile: guest.machine.function(bdf).group!.file,
    timers: guest.clock.pendingTimers,
  };
  expect(left).toEqual({ bugs: [], descriptors: [], areas: 0, locked: 0, groupFile: null, timers: 0 });
  return questions.lines;
}

const count = { compared: 0, equal: 0, allowed: 0 };

/** The lines that differ, as `file:line`, with both sides. Counts the lines. */
function compare(file: string, theirs: readonly string[], ours: readonly string[]): string[] {
  const differences: string[] = [];
  for (let i = 0; i < Math.max(theirs.length, ours.length); i++) {
    const id = `${file}:${i + 1}`;
    if (id in allowed) {
      count.allowed++;
      if ((ours[i] ?? null) !== allowed[id] || ours[i] === theirs[i])
        differences.push(`${id}: the allowed difference has changed: ${ours[i]}`);
      continue;
    }
    if (!theirs[i]?.startsWith('#')) count.compared++;
    if (theirs[i] !== ours[i]) differences.push(`${id}: Linux: ${theirs[i]} | ours: ${ours[i]}`);
    else if (!theirs[i]!.startsWith('#')) count.equal++;
  }
  return differences;
}

describe.each(linuxVersions)("a real kernel's answers (Linux %s)", (linux) => {
  it.each(replays)('B.1 $file: same return, errno and bytes', (replay) => {
    using guest = new Guest({ linux });
    const ours = answers(guest, replay);
    if (replay.file === 'dma-edu.txt') {
      using limited = new Guest({ linux, params: { dmaEntryLimit: 16 } });
      ours.push(`# vfio_iommu_type1 dma_entry_limit=${limited.machine.context.params.dmaEntryLimit}`, answers(limited, replay).at(-1)!);
    }
    expect(compare(replay.file, kernelLines(linux, replay.file), ours)).toEqual([]);
  });

  it('S2-38 the DMA that the IOMMU stopped is the one the kernel logged: device, address, direction', () => {
    const fault = /DMA (Read|Write) .*Request device \[([0-9a-f:.]+)\] fault addr (0x[0-9a-f]+)/;
    const logged = kernelLines(linux, 'edu-irq-dma.txt').flatMap((line) => fault.exec(line) ?? []);
    const [, direction, bdf, address] = logged;
    using guest = new Guest({ linux });
    const { dma } = guest.machine.function(EDU).host;
    answers(guest, { bdf: EDU, Questions: EduQuestions });
    count.compared++;
    expect({ bdf: EDU.slice(-bdf!.length), faults: dma.faultCount, ...dma.lastFault }).toEqual({
      bdf,
      faults: 1,
      reason: 'not-mapped',
      iova: BigInt(address!),
      access: direction!.toLowerCase(),
    });
    count.equal++;
  });
});

describe('docs/kernel-differences.md', () => {
  const text = readFileSync(join(import.meta.dirname, '../../docs/kernel-differences.md'), 'utf8');

  it('lists exactly the differences that are allowed here', () => {
    const listed = [...text.matchAll(/^\| ([a-z-]+\.txt:[0-9]+) \|/gm)].map((m) => m[1]);
    expect(listed).toEqual(Object.keys(allowed));
  });

  it('lists the answers of older kernels as the engine has them', () => {
    const rows = Object.values(linuxDifferences).map((d) => `| ${d.since} | ${d.question} | ${d.older} | ${d.newer} | ${d.why} |`);
    const listed = [...text.matchAll(/^\| [0-9]+\.[0-9]+ \|.*$/gm)].map((m) => m[0]);
    expect(listed).toEqual(rows);
  });

  afterAll(() => {
    console.log(
      `kernel answers: ${count.compared} compared with Linux ${linuxVersions.join(', ')}, ${count.equal} equal; ` +
        `${count.allowed} lines allowed to differ (docs/kernel-differences.md). The reference is ${NEWEST_LINUX}.`,
    );
  });
});
