/**
 * QEMU's own netdevs as peers: a hub inside of QEMU joins a stream that listens, a stream that
 * connects, and datagrams, and no guest runs. VFIO_TS_QEMU names the program.
 */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { until } from '../../../tests/kit/event-loop.ts';
import { TestPort } from '../../../tests/kit/wire-port.ts';
import { ManualClock } from '../../base/clock.ts';
import { datagramWire, streamWire } from './open-wire.ts';

const qemu = process.env.VFIO_TS_QEMU ?? 'qemu-system-x86_64';
const missing = spawnSync(qemu, ['--version']).status !== 0;

it.skipIf(missing)("house: QEMU's netdevs stream and dgram exchange frames with ours (skipped without QEMU)", async () => {
  const directory = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
  const at = (name: string) => join(directory, name);
  const clock = new ManualClock();
  using connects = streamWire(at('theirs'), false, { clock });
  using listens = streamWire(at('ours'), true);
  using datagrams = datagramWire(at('our-datagrams'), at('their-datagrams'), { clock });
  const [a, b, c] = [new TestPort(connects, '01'), new TestPort(listens, '02'), new TestPort(datagrams, '03')];
  const netdevs = [
    `stream,id=s1,server=on,addr.type=unix,addr.path=${at('theirs')}`,
    `stream,id=s2,server=off,addr.type=unix,addr.path=${at('ours')}`,
    `dgram,id=s3,local.type=unix,local.path=${at('their-datagrams')},remote.type=unix,remote.path=${at('our-datagrams')}`,
  ];
  const hub = netdevs.flatMap((netdev, i) => ['-netdev', netdev, '-netdev', `hubport,id=h${i},hubid=0,netdev=s${i + 1}`]);
  const program = spawn(qemu, ['-machine', 'none', '-nodefaults', '-display', 'none', '-monitor', 'none', ...hub], { stdio: 'ignore' });
  const ended = new Promise((resolve) => program.once('close', resolve));
  try {
    await until(() => {
      clock.advance(1000);
      return a.end.up && b.end.up && c.end.up;
    });
    for (let i = 0; i < 200; i++) a.send('02', `${i} ${'x'.repeat(i * 7)}`);
    await until(() => b.arrived.length === 200 && c.arrived.length === 200);
    const numbers = (port: TestPort) => port.arrived.map((text) => Number.parseInt(text, 10));
    const inOrder = Array.from({ length: 200 }, (_, i) => i);
    expect(numbers(c)).toEqual(inOrder);
    // QEMU 11.1 swaps frames itself when a socket has taken a part of one.
    expect(numbers(b).sort((x, y) => x - y)).toEqual(inOrder);
    b.send('01', 'from b');
    c.send('01', 'from c');
    await until(() => a.arrived.length === 2);
    expect([connects, listens, datagrams].map(({ counters }) => [counters.lost, counters.missed])).toEqual([
      [{}, {}],
      [{}, {}],
      [{}, {}],
    ]);
  } finally {
    program.kill();
    await ended;
    await until(() => !a.end.up && !b.end.up);
    rmSync(directory, { recursive: true });
  }
});
