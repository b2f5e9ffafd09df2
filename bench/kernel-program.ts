/**
 * Costs of our client of Linux's VFIO: kernel-program.ts alone, or device BDF under `vfio exec`
 * with edu. Prints nanoseconds as JSON: the least of several rounds of loops, or medians of calls,
 * as bench/kernel.c and bench/exec.c do.
 */
import { Access } from '../src/abi/memory.ts';
import { Command, Config } from '../src/abi/pci.ts';
import { RegionIndex } from '../src/abi/vfio.ts';
import { VfioError } from '../src/base/errno.ts';
import { EventStream } from '../src/events/stream.ts';
import { KernelDevice } from '../src/kernel/device.ts';
import type { DmaBackend } from '../src/kernel/dma-backend.ts';
import { KernelDmaSpace } from '../src/kernel/dma-space.ts';
import { KernelSpace } from '../src/kernel/kernel-space.ts';
import { KernelMapping } from '../src/kernel/mapping.ts';
import { OpenState } from '../src/kernel/open-state.ts';
import { parseBdf } from '../src/pci/bdf.ts';
import { KernelFile } from '../src/sys/kernel-file.ts';
import { MappedRegisters } from '../src/sys/mapped-registers.ts';
import { MemfdMemory } from '../src/sys/memfd.ts';
import { median } from './harness.ts';

const BYTES = 65536;
const REGISTERS = 1024;
const ACCESSES = 20_000;
const ROUNDS = 300;
const MEMORY = 65536;
const REQUESTS = 1000;

const [mode, bdf = ''] = process.argv.slice(2);
const figures: Record<string, number> = {};
let sum = 0;

/** Loops of one kind each, so that V8 makes code for that kind alone. */
function loop(name: string, run: () => void, count = ACCESSES): void {
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    const before = process.hrtime.bigint();
    run();
    least = Math.min(least, Number(process.hrtime.bigint() - before) / count);
  }
  figures[name] = least;
}

function calls(name: string, count: number, call: () => void): void {
  for (let i = 0; i < count / 10; i++) call();
  const samples: number[] = [];
  for (let i = 0; i < count; i++) {
    const before = process.hrtime.bigint();
    call();
    samples.push(Number(process.hrtime.bigint() - before));
  }
  figures[name] = median(samples);
}

/** Plain memory in the place of registers: what is left is our way there. */
function registers(): void {
  using memory = MemfdMemory.allocate(BYTES);
  using file = KernelFile.own(memory.duplicateFd(), 'memory');
  using stream = new EventStream();
  const state = new OpenState('memory', file, stream.source('memory'));
  const mapped = MappedRegisters.map(file, 0, BYTES, Access.READ_WRITE);
  using mapping = new KernelMapping(state, mapped, { region: 0, offset: 0, backed: BYTES });
  loop('load32', () => {
    for (let i = 0; i < ACCESSES; i++) sum += mapping.read32((i % REGISTERS) * 4);
  });
  loop('store32', () => {
    for (let i = 0; i < ACCESSES; i++) mapping.write32((i % REGISTERS) * 4, i);
  });
  let last = 0n;
  loop('load64', () => {
    for (let i = 0; i < ACCESSES; i++) last = mapping.read64((i % REGISTERS) * 8);
  });
  loop('store64', () => {
    for (let i = 0; i < ACCESSES; i++) mapping.write64((i % REGISTERS) * 8, last);
  });
}

/** A kernel that agrees at once: two calls of a file that knows none of them. */
function requests(): void {
  using file = KernelFile.open('/dev/null');
  const argument = new Uint8Array(32);
  const backend: DmaBackend = {
    mapName: 'map',
    unmapName: 'unmap',
    path: file.path,
    maxMaps: 65_535,
    abilities: () => ({ pageSizes: 0xffff_ffff_ffff_f000n, ranges: [{ first: 0n, last: 0xffff_ffff_ffffn }] }),
    available: () => 1,
    map: () => file.ioctl(0x3b71, argument) & 0,
    unmap: (_, size) => {
      file.ioctl(0x3b72, argument);
      return size;
    },
    unmapAll: () => null,
    dirty: null,
    mapFailure: () => new VfioError('EIO', 'it does not agree'),
    [Symbol.dispose]: () => {},
  };
  using stream = new EventStream();
  const shared = new KernelSpace(backend).get();
  using space = new KernelDmaSpace(shared, stream.source('nothing'));
  using memory = space.allocate(MEMORY);
  const run = () => {
    for (let i = 0; i < REQUESTS; i++) {
      space.map({ iova: 0x1_0000n, memory });
      space.unmap(0x1_0000n, BigInt(MEMORY));
    }
  };
  loop('calls', run, REQUESTS);
  shared.put();
}

function device(): void {
  using dev = KernelDevice.open({ kind: 'pci', bdf: parseBdf(bdf) }, { via: 'group' });
  dev.region(RegionIndex.CONFIG).write16(Config.COMMAND, Command.MEMORY);
  const region = dev.region(RegionIndex.BAR0);
  calls('bar', 10_000, () => {
    sum += region.read32(0);
  });
  using mapping = region.map(0, 4096);
  calls('mapped', 10_000, () => {
    sum += mapping.read32(0);
  });
  using memory = dev.dma.allocate(MEMORY);
  calls('shared', 3000, () => {
    dev.dma.map({ iova: 0x1_0000n, memory });
    dev.dma.unmap(0x1_0000n, BigInt(MEMORY));
  });
}

if (mode === 'alone') {
  registers();
  requests();
} else device();
console.log(JSON.stringify({ ...figures, sum: sum > 0 ? 1 : 0 }));
