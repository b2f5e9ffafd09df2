/** Opens devices in all ways, and prints what it got. */
import { readdirSync } from 'node:fs';
import { VfioError } from '../../src/base/errno.ts';
import { streamOf } from '../../src/events/stream.ts';
import { openKernelDevice } from '../../src/kernel/open-kernel-device.ts';
import type { KernelOptions, OpenedFile } from '../../src/kernel/opened.ts';
import { parseBdf } from '../../src/pci/bdf.ts';

const lines: string[] = [];
using stream = streamOf(undefined, { log: { log: (level, message) => void lines.push(`${level}: ${message}`) } });

function open(bdf: string, options: Omit<KernelOptions, 'source'> = {}): OpenedFile {
  const name = parseBdf(bdf);
  return openKernelDevice({ kind: 'pci', bdf: name }, { source: stream.source(name), ...options });
}

function errorOf(act: () => unknown): object | string {
  try {
    const result = act();
    return `no error: ${String(result)}`;
  } catch (error) {
    if (!(error instanceof VfioError)) throw error;
    return { code: error.code, message: error.message, fix: error.fix, culprits: error.culprits.map(({ bdf }) => bdf) };
  }
}

/** Files that are open, without the one that lists them. */
const files = () => readdirSync('/proc/self/fd').length;

function ways(): object[] {
  return ([undefined, 'group', 'cdev'] as const).map((via) => {
    using opened = open('01:00.0', { via });
    const { space } = opened;
    using memory = space.allocate(8192);
    space.map({ iova: 0x10_0000n, memory });
    const references = memory.references;
    const cut = errorOf(() => space.unmap(0x10_0000n, 4096n));
    const unmapped = Number(space.unmapAll());
    return { via: opened.via, why: opened.why, references, cut, unmapped, proof: opened.proof.kind };
  });
}

/** Two devices in one container or address space. */
function shared(via: 'group' | 'cdev'): object {
  const first = open('01:00.0', { via });
  using second = open('02:00.0', { space: first.space.shared });
  using memory = first.space.allocate(4096);
  first.space.map({ iova: 0x10_0000n, memory });
  const over = errorOf(() => second.space.map({ iova: 0x10_0000n, memory }));
  const other = errorOf(() => open('03:00.0', { space: first.space.shared, via: via === 'group' ? 'cdev' : 'group' }));
  first[Symbol.dispose]();
  const closed = errorOf(() => first.space.map({ iova: 0n, memory }));
  const unmapped = Number(second.space.unmapAll());
  const busy = errorOf(() => open('02:00.0', { via }));
  second[Symbol.dispose]();
  const late = errorOf(() => open('02:00.0', { space: first.space.shared }));
  return { over, other, closed, unmapped, busy, late };
}

/** Two devices of one group. */
function oneGroup(): object {
  using first = open('05:01.0', { via: 'group' });
  const alone = errorOf(() => open('05:02.0', { via: 'group' }));
  using second = open('05:02.0', { space: first.space.shared });
  return { alone, via: second.via };
}

const before = files();
const answers = {
  ways: ways(),
  shared: [shared('group'), shared('cdev')],
  oneGroup: oneGroup(),
  notViable: errorOf(() => open('07:01.0', { via: 'group' })),
  nativeDriver: errorOf(() => open('07:02.0')),
  notThere: errorOf(() => open('01:00.1')),
};
console.log(JSON.stringify({ ...answers, leaked: files() - before, lines }));
