import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { EventStream } from '../../events/stream.ts';
import { VfioUserDevice } from '../../vfio-user/client.ts';
import type { ModelAddress } from '../device-code.ts';
import type { Job } from './jobs.ts';
import { ServerThreads } from './server-threads.ts';

const selfish = join(import.meta.dirname, '../../../tests/kit/selfish-model.ts');
/** Its register that ends the thread. */
const EXIT = 16;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** The threads of a server, with the lines of its log, and the job of one device. */
function threadsFor(address: ModelAddress) {
  const path = join(folder, 'device.sock');
  const job: Job = { kind: 'devices', name: 'device', devices: [{ name: 'device', address, path }] };
  const lines: string[] = [];
  const events = new EventStream({ log: { log: (_, line) => void lines.push(line) } });
  return { path, job, lines, server: new ServerThreads({ events, report: () => {} }) };
}

it('a thread that begins when the server ends, ends with it: EINTR, and no socket', async () => {
  const { path, job, server } = threadsFor({ kind: 'model', name: 'edu', options: {} });
  const starting = server.start(job, null).then(
    () => 'begun',
    (error: { readonly code: string }) => error.code,
  );
  await server[Symbol.asyncDispose]();
  expect(existsSync(path)).toBe(false);
  expect(await starting).toBe('EINTR');
  await expect(server.start(job, null)).rejects.toMatchObject({ code: 'EINTR' });
});

it('a thread that starts anew is down until it serves: EIO', async () => {
  const file = join(folder, 'go');
  const { path, job, lines, server } = threadsFor({ kind: 'file', path: selfish, options: { file } });
  await using _server = server;
  const { thread } = await server.start(job, null);
  const answer = () =>
    thread.ask('ping', null).then(
      () => 'an answer',
      (error: { readonly code: string }) => error.code,
    );
  expect(await answer()).toBe('an answer');
  // From now on it waits while it loads.
  writeFileSync(`${file}.wait`, '');
  {
    using device = VfioUserDevice.connect(path);
    device.region(0).write32(EXIT, 1);
  }
  await vi.waitUntil(() => lines.some((line) => line.includes('starts anew')), { timeout: 10_000 });
  expect(await answer()).toBe('EIO');
  rmSync(`${file}.wait`);
  await vi.waitUntil(async () => (await answer()) === 'an answer', { timeout: 20_000 });
});
