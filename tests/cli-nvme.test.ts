/**
 * `vfio nvme …` as a user runs it: a disk in the same process, and one behind a socket that keeps
 * its blocks between commands.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { main } from '../src/cli/main.ts';
import { recordingTerminal } from './kit/recording-terminal.ts';
import { VfioProcess } from './kit/vfio-process.ts';

const bin = join(import.meta.dirname, '../bin/vfio.js');

async function vfio(...argv: string[]) {
  const terminal = recordingTerminal();
  const status = await main(argv, terminal);
  return { status, out: terminal.stdout.join('\n'), err: terminal.stderr.join('\n') };
}

const disk = 'sim:nvme,size=64M,blockSize=4096';
let folder: string;
let served: VfioProcess;
let address: string;

/** Bytes other than zero, and no two blocks of them equal. */
function noise(size: number): Buffer {
  const bytes = Buffer.alloc(size);
  for (let at = 0, i = 0; at < size; at += 32, i++) createHash('sha256').update(String(i)).digest().copy(bytes, at);
  return bytes;
}

function file(name: string, bytes?: Uint8Array): string {
  const path = join(folder, name);
  if (bytes !== undefined) writeFileSync(path, bytes);
  return path;
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
  const path = join(folder, 'disk.sock');
  served = await VfioProcess.serve('nvme,size=64M,blockSize=4096', path);
  address = `unix:${path}`;
});

afterAll(async () => {
  await served[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

describe('vfio nvme list, id, smart', () => {
  it('lists a namespace a line, under one head', async () => {
    const { status, out } = await vfio('nvme', 'list', disk, 'sim:nvme,size=1G');
    expect(status).toBe(0);
    const lines = out.split('\n');
    expect(lines).toHaveLength(4);
    expect(lines[0]).toMatch(/^Address +SN +Model +Namespace +Usage +Format +FW Rev$/);
    expect(lines[2]).toMatch(/^sim:nvme,size=64M,blockSize=4096 .* 0x1 .*67\.1 MB +4 KiB \+ 0 B/);
    expect(lines[3]).toMatch(/1\.07 GB +512 B \+ 0 B/);
  });

  it('--json is one document with a schema', async () => {
    const [list, id, smart] = await Promise.all(
      ['list', 'id', 'smart'].map(async (what) => JSON.parse((await vfio('nvme', what, disk, '--json')).out)),
    );
    expect(list).toMatchObject({ schema: 'vfio-ts/nvme-list/1', namespaces: [{ namespace: 1, size: 2 ** 26, blockSize: 4096 }] });
    expect(id).toMatchObject({ schema: 'vfio-ts/nvme-id/1', controller: { cntrltype: 1 }, namespaces: [{ namespace: 1, nsze: 16_384 }] });
    expect(smart).toMatchObject({ schema: 'vfio-ts/nvme-smart/1', criticalWarning: 0 });
    expect(smart.availableSpare).toBeGreaterThan(0);
  });

  it('prints Identify and SMART in words', async () => {
    const id = await vfio('nvme', 'id', disk);
    expect(id.status).toBe(0);
    expect(id.out).toMatch(/^ {2}ver +0x010400 +NVM Express 1\.4\.0$/m);
    expect(id.out).toMatch(/^ {2}nsze +16,384 +blocks, 67\.1 MB$/m);
    const smart = await vfio('nvme', 'smart', disk);
    expect(smart.status).toBe(0);
    expect(smart.out).toMatch(/^ {2}critical warning +0x00 +none$/m);
    expect(smart.out).toMatch(/^ {2}temperature +\d+ K +\d+ °C$/m);
  });

  it('refuses a device that is no NVMe controller, and a namespace that is not there', async () => {
    const edu = await vfio('nvme', 'id', 'sim:edu');
    expect([edu.status, edu.out]).toEqual([1, '']);
    expect(edu.err).toMatch(/ENXIO|00ff00/);
    const second = await vfio('nvme', 'id', disk, '--namespace', '2');
    expect(second.status).toBe(1);
    expect(second.err).toContain('no namespace 2');
  });
});

describe('vfio nvme read and write', () => {
  it('copies a whole image in and out again', async () => {
    const image = noise(5 * 2 ** 20 + 4096);
    const written = await vfio('nvme', 'write', address, '--input', file('in.img', image), '--start', '100', '--verify');
    expect([written.status, written.out]).toEqual([0, '']);
    expect(written.err).toMatch(/^1281 blocks written and read back, 5\.25 MB at \d/);
    const read = await vfio('nvme', 'read', address, '-s', '100', '-c', '1281', '-o', file('out.img'));
    expect([read.status, read.out]).toEqual([0, '']);
    expect(readFileSync(file('out.img')).equals(image)).toBe(true);
    const all = await vfio('nvme', 'read', address, '--output', file('all.img'));
    expect(all.status).toBe(0);
    const bytes = readFileSync(file('all.img'));
    expect(bytes.length).toBe(2 ** 26);
    expect(bytes.subarray(409_600, 409_600 + image.length).equals(image)).toBe(true);
  });

  it('reads from and writes to pipes', () => {
    const image = noise(3 * 4096);
    const write = spawnSync(process.execPath, [bin, 'nvme', 'write', address, '--start', '7', '--fua'], { input: image });
    expect([write.status, write.stdout.length]).toEqual([0, 0]);
    const back = execFileSync(process.execPath, [bin, 'nvme', 'read', address, '-s', '7', '-c', '3'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    expect(back.equals(image)).toBe(true);
  });

  it.skipIf(!existsSync('/dev/full'))('reports standard output on a full disk', () => {
    const full = openSync('/dev/full', 'w');
    for (const args of [
      ['read', disk],
      ['list', disk],
    ]) {
      const { status, stderr } = spawnSync(process.execPath, [bin, 'nvme', ...args], { stdio: ['ignore', full, 'pipe'], encoding: 'utf8' });
      expect([status, stderr]).toEqual([1, expect.stringMatching(/^vfio: ENOSPC: standard output cannot be written: [^\n]*\n$/)]);
    }
    closeSync(full);
  });

  it('refuses a part of a block before it writes anything; --pad fills it', async () => {
    const before = noise(8192);
    expect((await vfio('nvme', 'write', address, '-i', file('before.img', before), '-s', '40')).status).toBe(0);
    const odd = file('odd.img', noise(4096 + 100).fill(0xee));
    const refused = await vfio('nvme', 'write', address, '-i', odd, '-s', '40');
    expect(refused.status).toBe(1);
    expect(refused.err).toMatch(/odd\.img has 4196 bytes, which ends 100 bytes into a block of 4096[\s\S]*--pad/);
    expect((await vfio('nvme', 'read', address, '-s', '40', '-c', '2', '-o', file('same.img'))).status).toBe(0);
    expect(readFileSync(file('same.img')).equals(before)).toBe(true);
    expect((await vfio('nvme', 'write', address, '-i', odd, '-s', '40', '--pad')).status).toBe(0);
    await vfio('nvme', 'read', address, '-s', '40', '-c', '2', '-o', file('padded.img'));
    expect(readFileSync(file('padded.img'))).toEqual(Buffer.concat([Buffer.alloc(4196, 0xee), Buffer.alloc(8192 - 4196)]));
  });

  it('refuses too many bytes, missing blocks and missing files', async () => {
    const large = await vfio('nvme', 'write', address, '-i', file('large.img', noise(8192)), '-s', '16383');
    expect(large.status).toBe(1);
    expect(large.err).toMatch(/ENOSPC[\s\S]*large\.img has 8192 bytes; from LBA 16383 on/);
    const past = await vfio('nvme', 'read', address, '-s', '16384', '-o', file('none.img'));
    expect(past.status).toBe(1);
    expect(past.err).toContain('has no block 16384: its last is 16383');
    // A file that exists keeps its content until there is data to put into it.
    const kept = file('kept.img', noise(4096));
    const mistyped = [[address, '-n', '9'], [address, '-s', '20000'], [`${address}x`]];
    for (const args of mistyped) expect((await vfio('nvme', 'read', ...args, '-o', kept)).status).toBe(1);
    expect(readFileSync(kept).length).toBe(4096);
    const few = await vfio('nvme', 'write', address, '-i', kept, '-c', '2');
    expect([few.status, few.err]).toEqual([1, expect.stringContaining('kept.img has 4096 bytes, which is 1 of 2 blocks of 4096')]);
    const missing = await vfio('nvme', 'write', address, '-i', file('missing.img'));
    expect(missing.status).toBe(1);
    expect(missing.err).toContain('missing.img');
  });

  it('ends with 130 at Ctrl-C, and leaves the device to the next', async () => {
    const child = spawn(process.execPath, [bin, 'nvme', 'write', address], { stdio: ['pipe', 'pipe', 'pipe'] });
    // The child may be gone before it has read all of this.
    child.stdin.on('error', () => {});
    child.stdin.write(Buffer.alloc(2 ** 20));
    await served.says(new RegExp(`pid ${child.pid},`));
    child.kill('SIGINT');
    expect(await new Promise((resolve) => child.once('close', resolve))).toBe(130);
    expect((await vfio('nvme', 'list', address)).status).toBe(0);
  });
});

describe('vfio nvme bench', () => {
  it.each(['msix', 'poll'])('prints IOPS, bandwidth and percentiles, by %s', async (interrupts) => {
    const { status, out } = await vfio('nvme', 'bench', disk, '--seconds', '0.05', '--depth', '8', '--interrupts', interrupts);
    expect(status).toBe(0);
    expect(out).toMatch(new RegExp(`^randread, 4 KiB, depth 8, 1 queue, ${interrupts}: namespace 1 of `));
    expect(out).toMatch(/^ {2}IOPS +[\d,]+ +[\d,]+ reads, 0 writes in \d+\.\d s$/m);
    expect(out).toMatch(/^ {2}latency +p50 .* p95 .* p99 .* p99\.9 .* max /m);
  });

  it('writes only with --overwrite, on several queues', async () => {
    const refused = await vfio('nvme', 'bench', disk, '--rw', 'randrw');
    expect(refused.status).toBe(2);
    expect(refused.err).toContain('--overwrite');
    // Long enough for some of both, even on a busy machine.
    const options = ['--rw', 'randrw', '--overwrite', '-t', '2', '-q', '2', '-b', '16K', '-d', '4', '--json'];
    const document = JSON.parse((await vfio('nvme', 'bench', disk, ...options)).out);
    expect(document).toMatchObject({ schema: 'vfio-ts/nvme-bench/1', rw: 'randrw', blockSize: 16_384, depth: 4, queues: 2 });
    expect(Math.min(document.reads, document.writes)).toBeGreaterThan(0);
    const { p50, p95, p99, 'p99.9': p999, max } = document.latencyNs;
    expect([p50, p95, p99, p999, max]).toEqual([p50, p95, p99, p999, max].sort((a, b) => a - b));
  });

  it('refuses commands of a part of a block, and usage that it does not understand', async () => {
    const { status, err } = await vfio('nvme', 'bench', disk, '-b', '6K');
    expect(status).toBe(1);
    expect(err).toContain('whole blocks of 4096');
    for (const argv of [
      ['bench', disk, '-b', 'x'],
      ['bench', disk, '-d', '0'],
      ['bench', disk, '-t', '0'],
      ['bench', disk, '--rw', 'trim'],
      ['read', disk, '--start', '-1'],
      ['list'],
      ['id', 'nonsense'],
      ['format', disk],
    ]) {
      expect([argv.join(' '), (await vfio('nvme', ...argv)).status]).toEqual([argv.join(' '), 2]);
    }
  });
});
