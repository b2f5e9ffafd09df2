/**
 * A destination at a TCP port, which every process on the network can reach, with the key and
 * without.
 */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { ManualClock } from '../../base/clock.ts';
import { connectEndpoint, readKey, receiveTcp } from './endpoints.ts';

const key = Buffer.alloc(32, 7);

const ended = (socket: Socket): Promise<void> =>
  new Promise((resolve) => {
    // The destination may have ended the connection before the test reads.
    if (socket.destroyed) resolve();
    else socket.once('close', () => resolve()).resume();
  });

it('one source gets in: the destination ends another that has the key too, and one that stays silent', async () => {
  using receiver = await receiveTcp('127.0.0.1', 0, key, () => {});
  const { port } = receiver;
  const silent = connect(port, '127.0.0.1');
  await new Promise((resolve) => silent.once('connect', resolve));
  const silentEnds = ended(silent);
  const endpoint = { kind: 'tcp', host: '127.0.0.1', port } as const;
  // Both begin before the destination accepts either.
  const both = await Promise.allSettled([connectEndpoint(endpoint, key), connectEndpoint(endpoint, key)]);
  const here = await receiver.connected;
  const pipes = both.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  const lost = pipes.length === 1 ? null : await Promise.race(pipes.map((pipe) => ended(pipe.input as Socket).then(() => pipe)));
  await silentEnds;
  const kept = pipes.find((pipe) => pipe !== lost)!;
  kept.output.write('it is me');
  const [said] = (await new Promise((resolve) => here.input.once('data', (chunk: Buffer) => resolve([chunk])))) as [Buffer];
  expect(said.toString()).toBe('it is me');
  kept.close();
  here.close();
});

it('many silent connections do not keep out a source that has the key, and end in time', async () => {
  const clock = new ManualClock();
  using receiver = await receiveTcp('127.0.0.1', 0, key, () => {}, clock);
  const silent: Socket[] = [];
  for (let i = 0; i < 300; i++) {
    const socket = connect(receiver.port, '127.0.0.1');
    socket.on('error', () => {});
    await new Promise((resolve) => socket.once('connect', resolve));
    // Some send the beginning of a handshake, and stop.
    if (i % 3 === 0) socket.write(Uint8Array.of(22, 3, 1));
    silent.push(socket);
  }
  await ended(silent[0]!);
  expect(silent[299]!.destroyed).toBe(false);
  const late = silent.slice(100).map(ended);
  clock.advance(30_000);
  await Promise.all(late);
  const endpoint = { kind: 'tcp', host: '127.0.0.1', port: receiver.port } as const;
  for (let i = 0; i < 20; i++) silent.push(connect(receiver.port, '127.0.0.1').on('error', () => {}));
  const pipe = await connectEndpoint(endpoint, key);
  const here = await receiver.connected;
  pipe.close();
  here.close();
  for (const socket of silent) socket.destroy();
});

it('a key is a short file that only its owner may read', () => {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-key-'));
  try {
    const file = join(folder, 'key');
    writeFileSync(file, 'k'.repeat(40), { mode: 0o600 });
    expect(readKey(file)).toHaveLength(32);
    chmodSync(file, 0o640);
    expect(() => readKey(file)).toThrow(expect.objectContaining({ code: 'EACCES' }));
    chmodSync(file, 0o600);
    writeFileSync(file, 'k'.repeat(31));
    expect(() => readKey(file)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    writeFileSync(file, 'k'.repeat(5000));
    expect(() => readKey(file)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => readKey(folder)).toThrow(expect.objectContaining({ code: 'EACCES' }));
    expect(() => readKey('/dev/zero')).toThrow(expect.objectContaining({ code: 'EACCES' }));
  } finally {
    rmSync(folder, { recursive: true });
  }
});
