/**
 * Storage in files over filesystems that are full, broken, or know less than most. The system calls
 * fail here as they do there.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { NodeChild } from '../../tests/kit/node-child.ts';
import { WOULD_BLOCK } from '../abi/storage.ts';
import { Errno } from '../base/errno.ts';

const kit = (name: string) => fileURLToPath(new URL(`../../tests/kit/${name}`, import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'vfio-ts-faults-'));
afterAll(() => rmSync(directory, { recursive: true }));

const library = join(directory, 'faulty-files.so');
const flags = ['-shared', '-fPIC', '-O1', '-Wall', '-Wextra', '-Werror'];
const compiled = spawnSync(process.env.CC || 'cc', [...flags, '-o', library, kit('faulty-files.c'), '-ldl'], { encoding: 'utf8' });
if (compiled.status !== 0) throw new Error(`faulty-files.c does not compile: ${compiled.error?.message ?? compiled.stderr}`);

const SIZE = 1 << 17;
let files = 0;
/** The result of each step of the child, the bytes that it could read at once, and the image. */
async function run(faults: string): Promise<{ results: number[]; now: string; image: Buffer }> {
  const path = join(directory, `disk-${files++}.img`);
  writeFileSync(path, new Uint8Array(SIZE).fill(9));
  const child = new NodeChild(kit('file-storage-child.ts'), ['one-by-one', path], { env: { LD_PRELOAD: library, FILE_FAULTS: faults } });
  expect(await child.ended).toBe(0);
  const [first, ...lines] = child.lines;
  expect(first).toBe('open');
  const now = lines.pop()!;
  return { results: lines.map((line) => Number(line.split(' ')[1])), now, image: readFileSync(path) };
}

/** The image when every step has done its work. */
const expected = new Uint8Array(SIZE).fill(9).fill(0, 8192, 100_001).fill(3, 0, 8192);
const { EIO, ENOSPC, EOPNOTSUPP } = Errno;
const EINTR = 4;
const EAGAIN = 11;

describe('a file on a filesystem that', () => {
  it.each([
    ['is as it should be', ''],
    ['has neither holes nor marked zeroes', `fallocate:${EOPNOTSUPP}:1:99`],
    ['has no holes at such boundaries', 'fallocate:22:1:99'],
    ['has no holes', `fallocate:${EOPNOTSUPP}:1:1`],
    ['knows no durable writes', `dsync:${EOPNOTSUPP}:1:99`],
    [
      'is interrupted all the time',
      `pwritev2:${EINTR}:1:3 preadv2:${EINTR}:1:3 fdatasync:${EINTR}:1:3 fallocate:${EINTR}:1:3 dsync:${EINTR}:1:2`,
    ],
    ['moves a part at a time', 'pwritev2:0:1:99 preadv2:0:1:99 dsync:0:1:99'],
  ])('%s', async (_what, faults) => {
    const { results, now, image } = await run(faults);
    expect(results).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
    expect(now).toMatch(/^now (0 3|1 \d)$/);
    expect(Buffer.compare(image, expected)).toBe(0);
  });

  it.each([
    ['cannot answer at once', `nowait:${EOPNOTSUPP}:1:99`],
    ['would have to wait', `nowait:${EAGAIN}:1:99`],
    ['fails where no caller waits for the result', `nowait:${EIO}:1:99`],
  ])('%s: the queued form is the one that counts', async (_what, faults) => {
    const { results, now } = await run(faults);
    expect(results).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
    expect(now).toMatch(new RegExp(`^now ${WOULD_BLOCK} `));
  });

  it('is full: the write says so, and later ones and flushes go on', async () => {
    // The plain write, and the durable one in both of the ways in which it is tried.
    const { results } = await run(`pwritev2:${ENOSPC}:1:2 dsync:${ENOSPC}:1:1`);
    expect(results).toEqual([-ENOSPC, 0, -ENOSPC, 0, 0, 0, 0, 0]);
  });

  it('loses what is flushed: no flush succeeds afterwards', async () => {
    const { results } = await run(`fdatasync:${EIO}:1:1`);
    expect(results).toEqual([0, -EIO, 0, -EIO, 0, 0, 0, -EIO]);
  });

  it('loses a durable write: no flush succeeds afterwards', async () => {
    const { results } = await run(`dsync:${EIO}:1:1`);
    expect(results).toEqual([0, 0, -EIO, -EIO, 0, 0, 0, -EIO]);
  });

  it('cannot be read in one place', async () => {
    const { results } = await run(`preadv2:${EIO}:1:1`);
    expect(results).toEqual([0, 0, 0, 0, 0, -EIO, 0, 0]);
  });

  it('fails to punch a hole', async () => {
    const { results, image } = await run(`fallocate:${ENOSPC}:1:1`);
    expect(results).toEqual([0, 0, 0, 0, -ENOSPC, 0, 0, 0]);
    expect(image[50_000]).toBe(9);
  });
});
