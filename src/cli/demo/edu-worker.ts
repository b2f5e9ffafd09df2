/**
 * The driver's half of `vfio demo`: a process of its own, without privileges, that knows an address
 * and nothing else.
 */
import { Access } from '../../abi/memory.ts';
import { open } from '../../api/open.ts';
import { EduDriver } from '../../drivers/edu/edu-driver.ts';
import { doTasks } from './worker-process.ts';

export interface WorkResult {
  readonly version: string;
  readonly factorial: number;
  readonly sent: string;
  readonly back: string;
}

/** Nanoseconds each. */
export interface Costs {
  readonly read: number;
  readonly interrupt: number;
  readonly map: number;
}

/** Requests that the worker takes. */
export interface EduTasks {
  /** The usual work of a driver. */
  work(): Promise<WorkResult>;
  /** Have the device write where this process has mapped nothing. */
  attack(): Promise<object>;
  measure(): Promise<Costs>;
}

/** For what takes microseconds; a machine may have much else to do. */
const PATIENCE_MS = 60_000;

export async function main(address: string): Promise<void> {
  using dev = await open(address, { match: EduDriver.ids });
  using edu = new EduDriver(dev, { timeoutMs: PATIENCE_MS });
  await doTasks<EduTasks>({
    async work() {
      const { major, minor } = edu.version;
      const factorial = await edu.factorial(10);
      const sent = 'through the IOMMU and back';
      using buffer = edu.alloc(4096);
      const { written } = new TextEncoder().encodeInto(sent, buffer.bytes);
      await edu.copyToDevice(buffer.iova, written);
      buffer.bytes.fill(0, 0, written);
      await edu.copyFromDevice(buffer.iova, written);
      return { version: `${major}.${minor}`, factorial, sent, back: new TextDecoder().decode(buffer.bytes.subarray(0, written)) };
    },
    async attack() {
      await edu.copyFromDevice(0x66_6000n, 64);
      return {};
    },
    async measure() {
      const registers = dev.bar(0);
      const read = await perRound(3000, () => registers.read32(0));
      const interrupt = await perRound(300, () => edu.interrupt(1));
      const { dma } = dev.device;
      using page = dma.allocate(4096);
      const map = await perRound(1000, () => {
        dma.map({ iova: 0x1000_0000n, memory: page, size: 4096, access: Access.READ_WRITE });
        dma.unmap(0x1000_0000n, 4096n);
      });
      return { read, interrupt, map };
    },
  });
}

/** Nanoseconds a round, of the second half: the first lets the compiler do its work. */
async function perRound(rounds: number, round: () => unknown): Promise<number> {
  let begun = 0;
  for (let i = -rounds; i < rounds; i++) {
    if (i === 0) begun = performance.now();
    const done = round();
    if (done instanceof Promise) await done;
  }
  return ((performance.now() - begun) * 1e6) / rounds;
}
