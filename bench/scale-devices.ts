/** 1, 8 and 32 devices of one server, with a client each: in threads of their own, and in one. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { open } from '../src/api/open.ts';
import type { DriverDevice } from '../src/drivers/kit/driver-device.ts';
import { kept } from './harness.ts';
import { vfio } from './processes.ts';
import type { Report } from './report.ts';
import type { Rounds } from './turns.ts';

const SIZES = [1, 8, 32];
const ROUNDS = 3;
const READS = 200;

interface Costs {
  readonly served: number;
  readonly opened: number;
  readonly read: number;
  readonly closed: number;
  /** Bytes of the whole server, which is one process. */
  readonly resident: number;
}

const since = (begun: number) => (performance.now() - begun) * 1e6;

function residentBytes(pid: number): number {
  return 1024 * Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]);
}

/** @param words more options of `vfio serve` */
async function measure(count: number, words: readonly string[]): Promise<Costs> {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-bench-'));
  const names = Array.from({ length: count }, (_, i) => (i === 0 ? 'edu' : `edu-${i + 1}`));
  const paths = names.map((name) => join(folder, `${name}.sock`));
  const [node, ...command] = vfio;
  const where = count === 1 ? paths[0]! : folder;
  const begun = performance.now();
  const server = spawn(node!, [...command, 'serve', ...names.map(() => 'edu'), '--socket-path', where, ...words], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  server.stderr.on('data', (text) => (said += text));
  const ended = once(server, 'close');
  const clients: DriverDevice[] = [];
  try {
    while (!paths.every((path) => existsSync(path))) {
      if (server.exitCode !== null) throw new Error(`the server of ${count} devices did not start: ${said}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const served = since(begun);
    const connecting = performance.now();
    for (const path of paths) clients.push(await open(`unix:${path}`));
    const opened = since(connecting) / count;
    const registers = clients.map((client) => client.bar(0));
    const round = () => {
      for (const bar of registers) kept[0]! ^= bar.read32(0);
    };
    for (let i = 0; i < READS / 4; i++) round();
    const reading = performance.now();
    for (let i = 0; i < READS; i++) round();
    const read = since(reading) / (READS * count);
    const resident = residentBytes(server.pid!);
    const closing = performance.now();
    for (const client of clients.splice(0)) client.close();
    const closed = since(closing) / count;
    return { served, opened, read, closed, resident };
  } finally {
    for (const client of clients) client.close();
    server.kill('SIGTERM');
    await ended;
    rmSync(folder, { recursive: true, force: true });
  }
}

/** @returns resident bytes of each device more than one, by size and round */
async function way(report: Report, name: string, words: readonly string[]): Promise<Rounds> {
  const found: Costs[][] = SIZES.map(() => []);
  for (let round = 0; round < ROUNDS; round++) {
    for (const [i, size] of SIZES.entries()) found[i]!.push(await measure(size, words));
  }
  report.sizes(`Devices of one server, and a client for each: ${name}`, SIZES.map(String));
  const rounds = (of: (costs: Costs, i: number, round: number) => number) =>
    found.map((list, i) => list.map((costs, round) => of(costs, i, round)));
  report.growth({ name: `${name}: start`, work: 'server', rounds: rounds((c) => c.served), shown: 'ms' });
  report.growth({ name: `${name}: connect and open`, work: 'device', rounds: rounds((c) => c.opened), shown: 'ms' });
  report.growth({ name: `${name}: read of 4 bytes, all in turns`, work: 'read', rounds: rounds((c) => c.read), shown: 'µs' });
  report.growth({ name: `${name}: close`, work: 'device', rounds: rounds((c) => c.closed), shown: 'µs' });
  report.growth({ name: `${name}: resident memory`, work: 'server', rounds: rounds((c) => c.resident), unit: 'bytes' });
  return SIZES.slice(1).map((size, i) => found[i + 1]!.map((c, round) => (c.resident - found[0]![round]!.resident) / (size - 1)));
}

export async function devices(report: Report): Promise<void> {
  const threads = await way(report, 'threads', []);
  const one = await way(report, 'one thread', ['--threads', '1']);
  report.sizes('Resident memory of each device more than one', SIZES.slice(1).map(String));
  report.growth({ name: 'in a thread of its own', work: 'device', rounds: threads, unit: 'bytes' });
  report.growth({ name: 'in one thread', work: 'device', rounds: one, unit: 'bytes' });
}
