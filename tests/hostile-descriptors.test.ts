/**
 * A client whose descriptors never answer, in every message that can carry one: the server goes on
 * with other clients, and ends at SIGTERM.
 */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { HEADER_BYTES } from '../src/abi/vfio-user.ts';
import { UnixSocket } from '../src/sys/unix-socket.ts';
import * as m from '../src/vfio-user/messages.ts';
import { Command, encodeVersion } from '../src/vfio-user/messages.ts';
import { until } from './kit/event-loop.ts';
import { Fuse, StalledFile, whyNoFuse } from './kit/stalled-fuse.ts';
import { VfioProcess } from './kit/vfio-process.ts';
import { RawClient } from './kit/vfio-user-rig.ts';

const directory = mkdtempSync(join(tmpdir(), 'vfio-ts-fuse-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const reason = whyNoFuse();
beforeAll(() => {
  if (reason !== null) console.warn(`not tried, files that never answer: ${reason}`);
});

const map = m.encodeDmaMap({ flags: 3, offset: 0n, address: 0x10_0000n, size: 0x1_0000n });
const irqs = m.encodeSetIrqs({ index: 0, start: 0, count: 1, action: 'trigger', data: 'eventfd' });
const feature = m.encodeFeature({ feature: 4, get: false, set: true, probe: false, data: new Uint8Array(8) });

/**
 * The message that carries it; without one, the descriptor follows a message that has not come
 * whole.
 */
const messages: readonly (readonly [string, number, Uint8Array | null])[] = [
  ['DMA_MAP', Command.DMA_MAP, map],
  ['SET_IRQS', Command.DEVICE_SET_IRQS, irqs],
  ['DEVICE_FEATURE', Command.DEVICE_FEATURE, feature],
  ['a message that takes none', Command.DEVICE_GET_INFO, m.encodeDeviceInfo()],
  ['a message of which a part comes', Command.DMA_MAP, null],
];
const stalls: readonly (readonly [string, readonly number[]])[] = [
  ['attributes', [Fuse.GETATTR, Fuse.STATFS]],
  ['pages', [Fuse.READ]],
  ['the end of a descriptor', [Fuse.FLUSH]],
];

async function configOf(path: string): Promise<number> {
  using client = new RawClient(UnixSocket.connect(path));
  await client.hello();
  const { payload } = await client.request(Command.REGION_READ, m.encodeRegionAccess(0n, 7, 4));
  return m.viewOf(payload).getUint32(16, true);
}

/** Of the process. A closing process has its standard output, too, which ends later. */
async function exitOf({ child }: VfioProcess): Promise<number | null> {
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  return (await exited)[0];
}

describe.skipIf(reason !== null)('a file that never answers', () => {
  it.each(stalls)('%s: in any message, the server serves others and SIGTERM ends the server', async (what, opcodes) => {
    const here = join(directory, what.replaceAll(' ', '-'));
    await using file = await StalledFile.mount(here, opcodes);
    const path = join(here, 'edu.sock');
    await using served = await VfioProcess.serve('edu', path);
    for (const [name, command, payload] of messages) {
      using client = new RawClient(UnixSocket.connect(path));
      await client.hello();
      if (payload === null) {
        const begun = m.encodeMessage(1, command as never, map).subarray(0, HEADER_BYTES + 4);
        client.raw(begun, [file.open()]);
        await client.silence();
      } else expect([name, await client.errnoOf(command, payload, { fds: [file.open()] })]).toEqual([name, 'EINVAL']);
      client[Symbol.dispose]();
      expect([name, await configOf(path)]).toEqual([name, 0x11e8_1234]);
    }
    {
      using client = new RawClient(UnixSocket.connect(path));
      client.send(Command.VERSION, encodeVersion(0, 1), { fds: [file.open()] });
      expect((await client.next()).error).toBe('EINVAL');
    }
    expect(await configOf(path)).toBe(0x11e8_1234);
    if (opcodes.includes(Fuse.FLUSH)) await until(() => file.stalled >= messages.length);
    expect(await exitOf(served)).toBe(0);
  });

  it('many of them: the server disconnects a client that sends more, and the server goes on with its client', async () => {
    const here = join(directory, 'many');
    await using file = await StalledFile.mount(here, [Fuse.FLUSH]);
    const path = join(here, 'edu.sock');
    await using served = await VfioProcess.serve('edu', path);
    const fd = file.open();
    for (let connection = 0; connection < 6; connection++) {
      try {
        using client = new RawClient(UnixSocket.connect(path));
        await client.hello({ maxMsgFds: 16 });
        for (let i = 0; i < 20; i++) await client.errnoOf(Command.DEVICE_GET_INFO, m.encodeDeviceInfo(), { fds: Array(16).fill(fd) });
      } catch (error) {
        expect(String(error)).toMatch(/closed the connection|EPIPE|ECONNRESET/);
      }
    }
    expect(await exitOf(served)).toBe(0);
  });
});
