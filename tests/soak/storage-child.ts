/**
 * The process that is killed: storage-child.ts DOOR IMAGE JOURNAL SEED NUMBER. It writes to the
 * image until then, and its steps to the journal, as lines of a `DiskJournal`. It prints `ready`
 * before, and `at work` once a flush and a durable write have ended. NUMBER is that of its first
 * write. DOOR is `storage`, or `nvme`: the driver over the model.
 */
import { openSync, writeSync } from 'node:fs';
import { fillSector, type JournalLine, SECTOR_BYTES } from './disk-journal.ts';
import { Random } from './random.ts';
import { type Disk, openDoor } from './storage-doors.ts';

const [door, image, journal, seed, firstNumber] = process.argv.slice(2) as [string, string, string, string, string];
/** Writes under way at most, and sectors of one. */
const DEPTH = 24;
const SECTORS_MAX = 64;
const random = new Random(Number(seed));
let number = Number(firstNumber);

const file = openSync(journal, 'a');
/** Lines in the file stay there when this process is killed. */
function say(line: JournalLine): void {
  writeSync(file, `${line}\n`);
}

const never = new Set(['write', 'flush']);
function ended(what: string): void {
  if (never.delete(what) && never.size === 0) writeSync(1, 'at work\n');
}

async function write(disk: Disk, busy: Uint8Array): Promise<void> {
  const sectors = disk.sectors;
  for (;;) {
    const count = 1 + random.below(random.once(3) ? SECTORS_MAX : 8);
    const first = random.below(sectors - count + 1);
    // Overlapping writes under way at the same time have no order.
    if (busy.subarray(first, first + count).includes(1)) {
      await new Promise<void>((resolve) => setImmediate(resolve));
      continue;
    }
    busy.fill(1, first, first + count);
    const id = number++;
    const kind = random.below(10);
    const durable = kind < 3;
    if (kind >= 8) {
      say(`z ${id} ${first} ${count}`);
      await disk.zero(first, count, kind === 8);
    } else {
      const bytes = new Uint8Array(count * SECTOR_BYTES);
      for (let i = 0; i < count; i++) fillSector(bytes.subarray(i * SECTOR_BYTES, (i + 1) * SECTOR_BYTES), id, first + i);
      say(`w ${id} ${first} ${count}`);
      await disk.write(first, bytes, durable);
    }
    say(`${durable ? 'd' : 'c'} ${id}`);
    if (durable) ended('write');
    busy.fill(0, first, first + count);
  }
}

async function flush(disk: Disk): Promise<void> {
  for (;;) {
    const id = number++;
    say(`F ${id}`);
    await disk.flush();
    say(`f ${id}`);
    ended('flush');
    await new Promise((resolve) => setTimeout(resolve, random.below(10)));
  }
}

const disk = await openDoor(door, image);
const busy = new Uint8Array(disk.sectors);
writeSync(1, 'ready\n');
await Promise.all([...Array.from({ length: DEPTH }, () => write(disk, busy)), flush(disk), flush(disk)]);
