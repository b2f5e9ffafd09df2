/**
 * A short run of the soak of disks: it checks that the long run works, and that it notices lost
 * writes.
 */
import { expect, it } from 'vitest';
import { DiskJournal, fillSector, SECTOR_BYTES } from './disk-journal.ts';
import { storage } from './storage.ts';
import { doorNames } from './storage-doors.ts';

it('writes that were reported to be on the disk before the process was killed are there', async () => {
  expect(await storage({ seed: 5 }, 4)).toMatch(new RegExp(`^${4 * doorNames.length} processes killed`));
});

it('a journal allows the possible contents, and no others', () => {
  const holding = (...writes: readonly number[]) => {
    const disk = new Uint8Array(writes.length * SECTOR_BYTES);
    for (const [sector, number] of writes.entries())
      fillSector(disk.subarray(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES), number, sector);
    return disk;
  };
  const journal = (...lines: readonly string[]) => {
    const made = new DiskJournal(new Uint32Array(2));
    for (const line of lines) made.take(line);
    return made;
  };
  const allows = (lines: readonly string[], ...writes: readonly number[]) => {
    try {
      journal(...lines).check(holding(...writes));
      return true;
    } catch {
      return false;
    }
  };
  const written = ['w 1 0 2', 'c 1'];
  expect([allows(written, 0, 0), allows(written, 1, 0), allows(written, 1, 1), allows(written, 2, 2)]).toEqual([true, true, true, false]);
  const flushed = [...written, 'F 2', 'w 3 1 1', 'c 3', 'f 2'];
  expect([allows(flushed, 1, 1), allows(flushed, 1, 3), allows(flushed, 0, 1), allows(flushed, 1, 0)]).toEqual([true, true, false, false]);
  const later = [...written, 'F 2', 'w 3 1 1', 'c 3', 'F 4', 'f 4'];
  expect([allows(later, 1, 3), allows(later, 1, 1)]).toEqual([true, false]);
  const durable = ['w 1 0 2', 'd 1', 'z 2 0 1'];
  expect([allows(durable, 1, 1), allows(durable, 0, 1), allows(durable, 1, 0)]).toEqual([true, true, false]);
  expect(() => journal('x 1')).toThrow();
  const moved = holding(1, 1);
  moved.copyWithin(0, SECTOR_BYTES);
  expect(() => journal(...written).check(moved)).toThrow(/sector 0 holds write 1 of sector 1/);
});
