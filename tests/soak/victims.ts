/** Clients that are killed: the C program beside this file, and its messages. */
import { spawn, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as m from '../../src/vfio-user/messages.ts';
import { Command, encodeVersion } from '../../src/vfio-user/messages.ts';

interface Said {
  readonly command: Command;
  readonly payload: Uint8Array;
  readonly descriptor?: 'memory' | 'eventfd';
}

const NUMBERS = { memory: 1, eventfd: 2 } as const;
/** Mapped without a descriptor: the server sends DMA messages, and the client never answers. */
const UNSHARED = 0x200000n;

function write(region: number, offset: number, value: number): Said {
  const data = new Uint8Array(4);
  new DataView(data.buffer).setUint32(0, value, true);
  return { command: Command.REGION_WRITE, payload: m.encodeRegionAccess(BigInt(offset), region, 4, data) };
}

function map(address: bigint, size: bigint, offset: bigint, descriptor?: 'memory'): Said {
  const payload = m.encodeDmaMap({ flags: 3, offset, address, size });
  return { command: Command.DMA_MAP, payload, ...(descriptor === undefined ? {} : { descriptor }) };
}

/** Memory of both kinds mapped, bus mastering on, an interrupt where there is an eventfd. */
const first: readonly Said[] = [
  { command: Command.VERSION, payload: encodeVersion(0, 1, { maxMsgFds: 8 }) },
  { command: Command.DEVICE_GET_INFO, payload: m.encodeDeviceInfo() },
  ...[0, 1, 4].map((region) => ({ command: Command.DEVICE_GET_REGION_INFO, payload: m.encodeRegionInfoRequest(region, 4096) })),
  write(7, 4, 6),
  map(0n, 0x100000n, 0n, 'memory'),
  map(UNSHARED, 0x1000n, 0n),
  ...Array.from({ length: 32 }, (_, i) => map(0x400000n + BigInt(i) * 0x1000n, 0x1000n, BigInt(i) * 0x1000n, 'memory')),
  {
    command: Command.DEVICE_SET_IRQS,
    payload: m.encodeSetIrqs({ index: 1, start: 0, count: 1, action: 'trigger', data: 'eventfd' }),
    descriptor: 'eventfd',
  },
];

const dma = (from: number, to: number, command: number): Said[] => [
  write(0, 0x80, from),
  write(0, 0x88, to),
  write(0, 0x90, 64),
  write(0, 0x98, command),
];

/**
 * Accesses, mappings that come and go, interrupts, DMA to shared memory, and DMA by messages, which
 * stays under way.
 */
const again: readonly Said[] = [
  { command: Command.REGION_READ, payload: m.encodeRegionAccess(0n, 0, 4) },
  { command: Command.REGION_READ, payload: m.encodeRegionAccess(0n, 7, 256) },
  write(0, 0x60, 1),
  write(0, 0x64, 1),
  map(0x800000n, 0x10000n, 0n, 'memory'),
  ...dma(0x4_0000, 0x1000, 7),
  { command: Command.REGION_READ, payload: m.encodeRegionAccess(0x98n, 0, 8) },
  { command: Command.DMA_UNMAP, payload: m.encodeDmaUnmap({ flags: 0, address: 0x800000n, size: 0x10000n }) },
  ...dma(Number(UNSHARED), 0x4_0000, 1),
];

function script(): Uint8Array {
  const parts = [words(first.length, again.length)];
  for (const [i, { command, payload, descriptor }] of [...first, ...again].entries()) {
    const message = m.encodeMessage(i, command, payload);
    parts.push(words(message.length, descriptor === undefined ? 0 : NUMBERS[descriptor]), message);
  }
  return Buffer.concat(parts);
}

function words(...values: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}

export class Victims {
  readonly #program: string;
  readonly #script: string;

  /** Compiles the program. @param directory for it and its script */
  constructor(directory: string) {
    this.#program = join(directory, 'victims');
    this.#script = join(directory, 'victims.script');
    const source = join(import.meta.dirname, 'victims.c');
    const compiled = spawnSync(process.env.CC || 'cc', ['-O1', '-Wall', '-Wextra', '-Werror', '-o', this.#program, source], {
      encoding: 'utf8',
    });
    if (compiled.status !== 0) throw new Error(`victims.c does not compile: ${compiled.error?.message ?? compiled.stderr}`);
    writeFileSync(this.#script, script());
  }

  /**
   * Connect and kill `count` of them, one after the other.
   *
   * @returns how many had everything set up by then
   * @throws Error when one was not served
   */
  async kill(path: string, count: number, seed: number): Promise<number> {
    const child = spawn(this.#program, [path, this.#script, String(count), String(seed)], { stdio: ['ignore', 'pipe', 'inherit'] });
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    const code = await new Promise<number | string>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (status, signal) => resolve(status ?? signal ?? 'nothing'));
    });
    if (code !== 0) throw new Error(`the program that kills clients ended with ${code}`);
    return Number(said);
  }
}
