/**
 * A device for measuring: a register, a megabyte, and a control block that makes it do one kind of
 * work many times over and take the time. Any vfio-user client may rely on what is written here.
 *
 * - BAR 0: four bytes at 0, which read back the last write.
 * - BAR 1: 1 MiB of plain bytes, which cannot be mapped.
 * - BAR 2: the control block. One write of 32 bytes at 0, { op u32, len u32, iova u64, count u64,
 *   arg u64 }, starts the work, and is answered when the work is done. 32 bytes at 0x40 hold the
 *   result: { t0 u64, t1 u64 (CLOCK_MONOTONIC, ns), ok u64 (transfers that succeeded), sum u64 (of
 *   the last byte of each transfer) }. Little-endian, as all of PCI.
 * - INTx: one. It is a pulse: the pin does not stay asserted, so a driver need not acknowledge it;
 *   a driver unmasks it like any other.
 *
 * Transfer i is of `len` bytes (16 MiB at most) at iova + (i mod 64) · len. Its bus mastering
 * cannot be switched off: clients that know nothing of PCI can measure it.
 */
import { Dma, DmaFault, DmaPlace, type Iova } from '../../abi/device-host.ts';
import { Access } from '../../abi/memory.ts';
import { registers, u32, u64 } from '../../base/registers.ts';
import type { DeviceModel } from '../../pci/declaration.ts';
import { bar, memory } from '../kit/bar.ts';
import type { RunningCommand } from '../kit/commands.ts';
import { device } from '../kit/device.ts';
import type { Dev } from '../kit/device-spec.ts';
import { DMA_READ_MAX } from '../kit/life.ts';

/** The allowed values of `op` may be; anything else does nothing, and `ok` is 0. */
export const BenchOp = {
  /** Read, waiting for each answer: by messages where the client did not share the memory. */
  READ: 1,
  /** Look the address up and copy from there, each time. */
  COPY: 2,
  /** Look the address up, and touch nothing. */
  LOOK_UP: 3,
  /** Spin for `arg` microseconds (a second at most), take t0, and raise INTx. */
  INTERRUPT: 4,
  /** Write, waiting for each answer. The last byte of transfer i is i mod 256. */
  WRITE: 5,
  /** Copy from memory that was looked up once. */
  READ_MAPPED: 6,
} as const;

/** Where the control block's registers are. */
export const BenchControl = { BAR: 2, SIZE: 32, RESULT: 0x40 } as const;

/** Transfers go to so many places, in turn. */
const PLACES = 64;
const SPIN_MAX_US = 1_000_000;

/**
 * The longest time slice of the work: a client's `count` may be without bound.
 */
const SLICE_NS = 200e6;

const Scratch = registers({ value: u32(0x00) });

const Control = registers({
  op: u32(0x00),
  len: u32(0x04),
  iova: u64(0x08),
  count: u64(0x10),
  arg: u64(0x18),
  t0: u64(0x40, 'ro'),
  t1: u64(0x48, 'ro'),
  ok: u64(0x50, 'ro'),
  sum: u64(0x58, 'ro'),
});

const bar0 = bar('4K', Scratch);
const bar1 = memory('1M', { mappable: false });
const bar2 = bar('4K', Control, { arg: { widths: [8] } });

/** The work of one control write, as readers of events see it. */
const commands = { work: { op: 'number', len: 'number', iova: 'bigint', count: 'number', ok: 'number' } } as const;

type Bench = Dev<{ bar2: typeof bar2 }, { queue: Promise<void> | null }, undefined, object, typeof commands>;

/** The request of one control write, and its result. */
class Job {
  readonly op: number;
  readonly len: number;
  readonly count: number;
  readonly arg: bigint;
  readonly iova: bigint;
  /** Transfers between two looks at the clock. */
  readonly stride: number;
  readonly command: RunningCommand<(typeof commands)['work']>;
  ok = 0;
  sum = 0;

  constructor(dev: Bench) {
    const { op, len, iova, count, arg } = dev.bar2;
    const fits = len > 0 && len <= DMA_READ_MAX && iova + BigInt(PLACES * len) <= 2n ** 64n;
    this.op = op;
    this.len = fits ? len : 0;
    // A double suffices: work of more than 2^53 transfers never ends.
    this.count = fits ? Number(count) : 0;
    this.arg = arg;
    this.iova = iova;
    this.command = dev.begin('work', { op, len, iova, count: this.count });
    this.stride = Math.min(Math.max(Math.floor(2 ** 22 / (len || 1)), 1), 256);
  }

  /** Of the places that transfers go to in turn: numbers, where doubles hold all of them. */
  addresses(): readonly Iova[] {
    const exact = this.iova + BigInt(PLACES * this.len) <= 2n ** 53n;
    const at = (i: number) => this.iova + BigInt(i * this.len);
    return Array.from({ length: PLACES }, (_, i) => (exact ? Number(at(i)) : at(i)));
  }
}

/** Does transfers [from, end). */
type Batch = (from: number, end: number) => void | Promise<void>;

/** The measuring device. */
export function bench(): DeviceModel {
  return device({
    id: '1234:be4c',
    name: 'bench',
    class: 'unclassified',
    busMaster: 'always',
    intx: 'A',
    bars: { bar0, bar1, bar2 },
    commands,
    state: () => ({ queue: null as Promise<void> | null }),
    on: {
      // These are the last eight bytes of the control write, so the control block is complete.
      'bar2.arg'(dev) {
        const { state } = dev;
        const job = new Job(dev);
        const work = state.queue === null ? run(dev, job) : state.queue.then(() => run(dev, job) ?? undefined);
        if (work === null) return;
        const queue = work.finally(() => {
          if (state.queue === queue) state.queue = null;
        });
        state.queue = queue;
        dev.answerAfter(queue);
        return queue;
      },
    },
  });
}

/** Null: it is done. */
function run(dev: Bench, job: Job): Promise<void> | null {
  if (job.op === BenchOp.INTERRUPT) {
    interrupt(dev, job);
    return null;
  }
  const t0 = dev.clock.nowNs();
  const batch = batches[job.op]?.(dev, job);
  const work = batch === undefined ? null : transfer(dev, job, batch);
  if (work !== null) return work.then(() => tell(dev, job, t0, dev.clock.nowNs()));
  tell(dev, job, t0, dev.clock.nowNs());
  return null;
}

/**
 * Does all transfers at once (null), or returns a promise when it waits for an answer or has used
 * up its time slice.
 */
function transfer(dev: Bench, job: Job, batch: Batch): Promise<void> | null {
  const until = dev.clock.nowNs() + SLICE_NS;
  for (let at = 0; at < job.count; ) {
    const end = Math.min(at + job.stride, job.count);
    const waiting = batch(at, end);
    at = end;
    if (waiting !== undefined || dev.clock.nowNs() >= until) return goOn(dev, job, batch, at, until, waiting);
  }
  return null;
}

async function goOn(dev: Bench, job: Job, batch: Batch, from: number, until: number, waiting: void | Promise<void>): Promise<void> {
  await waiting;
  for (let at = from; at < job.count; at = Math.min(at + job.stride, job.count)) {
    if (dev.clock.nowNs() >= until) {
      await dev.sleep(0);
      until = dev.clock.nowNs() + SLICE_NS;
    }
    await batch(at, Math.min(at + job.stride, job.count));
  }
}

function interrupt(dev: Bench, job: Job): void {
  let t0 = dev.clock.nowNs();
  if (job.arg <= SPIN_MAX_US) {
    const end = t0 + Number(job.arg) * 1e3;
    // A manual clock does not advance in this loop.
    for (let still = 0; t0 < end && still < 1000; ) {
      const now = dev.clock.nowNs();
      still = now === t0 ? still + 1 : 0;
      t0 = now;
    }
    dev.irq.raise();
    dev.irq.lower();
    job.ok = 1;
  }
  tell(dev, job, t0, dev.clock.nowNs());
}

function tell({ bar2 }: Bench, job: Job, t0: number, t1: number): void {
  bar2.t0 = BigInt(Math.round(t0));
  bar2.t1 = BigInt(Math.round(t1));
  bar2.ok = BigInt(job.ok);
  bar2.sum = BigInt(job.sum);
  job.command.end('ok', { ok: job.ok });
}

const batches: Readonly<Record<number, (dev: Bench, job: Job) => Batch>> = {
  [BenchOp.READ]: ({ dma }, job) => {
    const buffer = new Uint8Array(job.len);
    const addresses = job.addresses();
    return async (from, end) => {
      for (let i = from; i < end; i++) {
        if (!(await landed(dma.read(addresses[i % PLACES]!, buffer)))) continue;
        job.ok++;
        job.sum += buffer[job.len - 1]!;
      }
    };
  },

  [BenchOp.WRITE]: ({ dma }, job) => {
    const buffer = new Uint8Array(job.len);
    const addresses = job.addresses();
    return async (from, end) => {
      for (let i = from; i < end; i++) {
        buffer[job.len - 1] = i;
        if (!(await landed(dma.write(addresses[i % PLACES]!, buffer)))) continue;
        job.ok++;
        job.sum += i & 0xff;
      }
    };
  },

  [BenchOp.COPY]: ({ dma }, job) => {
    const buffer = new Uint8Array(job.len);
    const addresses = job.addresses();
    return (from, end) => {
      for (let i = from; i < end; i++) {
        if (dma.tryRead(addresses[i % PLACES]!, buffer) !== Dma.DONE) continue;
        job.ok++;
        job.sum += buffer[job.len - 1]!;
      }
    };
  },

  [BenchOp.LOOK_UP]: ({ dma }, job) => {
    const addresses = job.addresses();
    const place = new DmaPlace();
    const { len } = job;
    return (from, end) => {
      let ok = 0;
      for (let i = from; i < end; i++) if (dma.locate(addresses[i % PLACES]!, len, Access.READ, place)) ok++;
      job.ok += ok;
    };
  },

  [BenchOp.READ_MAPPED]: ({ dma }, job) => {
    const buffer = new Uint8Array(job.len);
    const addresses = job.addresses();
    let views: readonly (Uint8Array | null)[] = [];
    let epoch = -1;
    return (from, end) => {
      // No driver can unmap anything while a batch runs.
      if (epoch !== dma.epoch) {
        views = addresses.map((iova) => dma.view(iova, job.len, Access.READ));
        epoch = dma.epoch;
      }
      for (let i = from; i < end; i++) {
        const view = views[i % PLACES]!;
        if (view === null) continue;
        buffer.set(view);
        job.ok++;
        job.sum += buffer[job.len - 1]!;
      }
    };
  },
};

/** Whether it did; a fault is counted by the host, and by `ok`. */
async function landed(transfer: Promise<unknown>): Promise<boolean> {
  try {
    await transfer;
    return true;
  } catch (error) {
    if (error instanceof DmaFault) return false;
    throw error;
  }
}
