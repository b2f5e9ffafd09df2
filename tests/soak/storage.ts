/**
 * A process with a disk image is killed in the middle of random writes, zeroes, discards, durable
 * writes and flushes, again and again. Writes that were reported to be on the disk are there, and
 * no sector holds other bytes. The next process finds the image unlocked, as the last one left it.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { typescript } from '../kit/typescript.ts';
import { DiskJournal, SECTOR_BYTES } from './disk-journal.ts';
import { Random } from './random.ts';
import type { SoakOptions } from './run.ts';
import { doorNames } from './storage-doors.ts';

const KILLS = 120;
const IMAGE_BYTES = 2 * 2 ** 20;
const LIFE_MS = 150;
/** One in so many processes is killed before it has begun its work. */
const EARLY_EVERY = 4;

/** @param kills of each door; with `minutes`, as many as fit into that time */
export async function storage({ minutes, seed }: SoakOptions, kills = KILLS): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'vfio-ts-soak-'));
  const started = performance.now();
  const end = minutes === undefined ? Number.POSITIVE_INFINITY : started + minutes * 60_000;
  const counts = { kills: 0, atWork: 0, writes: 0, flushes: 0, durable: 0 };
  try {
    const images = doorNames.map((door) => new Image(join(directory, `${door}.img`), door));
    for (let round = 0; minutes === undefined ? round < kills : performance.now() < end; round++) {
      for (const image of images) {
        const early = counts.kills % EARLY_EVERY === EARLY_EVERY - 1;
        const one = await image.killOnce(new Random(Math.imul(seed + round, 0x9e37_79b1)), early);
        counts.kills++;
        if (!early) counts.atWork++;
        counts.writes += one.writes;
        counts.flushes += one.flushes;
        counts.durable += one.durable;
      }
    }
    if (counts.flushes < counts.atWork || counts.durable < counts.atWork)
      throw new Error(`they did not get to work: ${JSON.stringify(counts)}`);
    const seconds = Math.round((performance.now() - started) / 1000);
    return `${counts.kills} processes killed (${doorNames.join(', ')}) in ${counts.writes} writes, ${counts.durable} of them durable, and ${counts.flushes} flushes, in ${seconds} s: nothing was lost`;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

class Image {
  readonly #path: string;
  readonly #journal: string;
  readonly #door: string;
  #number = 1;
  #holds = new Uint32Array(IMAGE_BYTES / SECTOR_BYTES);

  constructor(path: string, door: string) {
    this.#path = path;
    this.#journal = `${path}.journal`;
    this.#door = door;
    writeFileSync(path, '');
    truncateSync(path, IMAGE_BYTES);
  }

  async killOnce(random: Random, early: boolean): Promise<DiskJournal['counts']> {
    writeFileSync(this.#journal, '');
    const ended = await this.#live(random.next(), early ? 'ready' : 'at work', random.below(LIFE_MS));
    // The process was killed in the line after the last newline.
    const lines = readFileSync(this.#journal, 'utf8').split('\n').slice(0, -1);
    if (ended !== 'SIGKILL') throw new Error(`the process ended with ${ended} after ${lines.length} lines`);
    const journal = new DiskJournal(this.#holds);
    for (const line of lines) {
      journal.take(line);
      this.#number = Math.max(this.#number, Number(line.split(' ')[1]) + 1);
    }
    this.#holds = journal.check(readFileSync(this.#path));
    return journal.counts;
  }

  /** From its start to its end, `lifeMs` after it said `word`. */
  #live(seed: number, word: 'ready' | 'at work', lifeMs: number): Promise<number | NodeJS.Signals | null> {
    const file = join(import.meta.dirname, 'storage-child.ts');
    const args = [...typescript, file, this.#door, this.#path, this.#journal, String(seed), String(this.#number)];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    let said = '';
    let told = false;
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text;
      if (told || !said.includes(word)) return;
      told = true;
      setTimeout(() => child.kill('SIGKILL'), lifeMs);
    });
    return new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code, signal) => resolve(code ?? signal));
    });
  }
}
