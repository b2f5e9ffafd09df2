/**
 * The steps of a process that will be killed, and the disk content that they allow. The process
 * writes a line before each step, and a line when the step has ended. From these lines the journal
 * knows which contents of each sector are allowed.
 */

export const SECTOR_BYTES = 512;

/**
 * The lines of a journal, in the order of the steps:
 *
 *   w NUMBER FIRST COUNT   a write of sectors begins, with the pattern of NUMBER
 *   z NUMBER FIRST COUNT   the same, with zeroes
 *   c NUMBER               it has ended
 *   d NUMBER               it has ended, and is on the disk
 *   F NUMBER               a flush begins
 *   f NUMBER               the flush has ended
 */
export type JournalLine = `${'w' | 'z'} ${number} ${number} ${number}` | `${'c' | 'd' | 'F' | 'f'} ${number}`;

/** The contents of a sector after write `number`; zeroes for 0. No two are the same. */
export function fillSector(into: Uint8Array, number: number, sector: number): void {
  if (number === 0) {
    into.fill(0);
    return;
  }
  const view = new DataView(into.buffer, into.byteOffset, SECTOR_BYTES);
  view.setUint32(0, number, true);
  view.setUint32(4, sector, true);
  let state = Math.imul(number, 0x9e37_79b1) ^ Math.imul(sector, 0x85eb_ca6b);
  for (let at = 8; at < SECTOR_BYTES; at += 4) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    view.setUint32(at, state, true);
  }
}

interface Write {
  readonly number: number;
  readonly first: number;
  readonly count: number;
  readonly isZero: boolean;
}

export class DiskJournal {
  /** By sector: the write that is known to be on the disk, and all later ones. */
  readonly #safe: Uint32Array;
  readonly #later = new Map<number, Write[]>();
  readonly #writes = new Map<number, Write>();
  readonly #flushes = new Map<number, Write[]>();
  #ended: Write[] = [];
  readonly counts = { writes: 0, flushes: 0, durable: 0 };

  /** @param safe by sector, the number of the write that it holds */
  constructor(safe: Uint32Array) {
    this.#safe = safe;
  }

  take(line: string): void {
    const [what, number, first, count] = line.split(' ') as [string, string, string?, string?];
    const id = Number(number);
    switch (what) {
      case 'w':
      case 'z':
        this.#begin({ number: id, first: Number(first), count: Number(count), isZero: what === 'z' });
        break;
      case 'c':
        this.#ended.push(this.#writes.get(id)!);
        break;
      case 'd':
        this.#settle(this.#writes.get(id)!);
        this.counts.durable++;
        break;
      case 'F':
        this.#flushes.set(id, this.#ended);
        this.#ended = [];
        break;
      case 'f':
        // This flush reports no earlier flush, but writes that ended before those are safe too.
        for (const [asked, writes] of this.#flushes) {
          if (asked > id) continue;
          for (const write of writes) this.#settle(write);
          this.#flushes.delete(asked);
        }
        this.counts.flushes++;
        break;
      default:
        throw new Error(`the process said '${line}'`);
    }
  }

  /**
   * By sector, the write that it holds.
   *
   * @throws Error when the disk has lost a write, or holds bytes that were never written there
   */
  check(disk: Uint8Array): Uint32Array<ArrayBuffer> {
    const holds = new Uint32Array(this.#safe.length);
    const expected = new Uint8Array(SECTOR_BYTES);
    for (let sector = 0; sector < holds.length; sector++) {
      const there = disk.subarray(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES);
      const allowed = [this.#safe[sector]!, ...(this.#later.get(sector) ?? []).map((write) => (write.isZero ? 0 : write.number))];
      const found = allowed.find((number) => {
        fillSector(expected, number, sector);
        return Buffer.compare(there, expected) === 0;
      });
      if (found === undefined) {
        const [number, of] = new Uint32Array(there.slice(0, 8).buffer);
        throw new Error(
          `sector ${sector} holds write ${number} of sector ${of}, or a mixture; allowed are ${allowed.join(', ')} (0: zeroes)`,
        );
      }
      holds[sector] = found;
    }
    return holds;
  }

  #begin(write: Write): void {
    this.#writes.set(write.number, write);
    this.counts.writes++;
    for (let sector = write.first; sector < write.first + write.count; sector++) {
      const later = this.#later.get(sector);
      if (later === undefined) this.#later.set(sector, [write]);
      else later.push(write);
    }
  }

  /** No earlier content may be there any more. */
  #settle(write: Write): void {
    for (let sector = write.first; sector < write.first + write.count; sector++) {
      const later = this.#later.get(sector)!;
      const at = later.indexOf(write);
      if (at < 0) continue;
      later.splice(0, at + 1);
      this.#safe[sector] = write.isZero ? 0 : write.number;
    }
  }
}
