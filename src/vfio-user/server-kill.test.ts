/** Clients in processes of their own, killed in the middle of things. */

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { openDescriptors } from '../../tests/kit/open-descriptors.ts';
import { ServerRig, settle } from '../../tests/kit/vfio-user-rig.ts';
import { HeaderFlags } from '../abi/vfio-user.ts';
import { UnixListener } from '../sys/unix-listener.ts';
import { Command, encodeDmaMap, encodeMessage, encodeRegionAccess, encodeVersion } from './messages.ts';
import type { Session } from './session.ts';

/** Sends what it is given, and then neither reads nor ends. */
const client = `
  const [path, hex] = process.argv.slice(1);
  const socket = require('node:net').connect(path, () => socket.write(Buffer.from(hex, 'hex')));
  socket.on('error', () => {});
  socket.pause();
  setInterval(() => {}, 1e6);
`;

/** VERSION, some mappings, and a read that is cut in two. */
const said = Buffer.concat([
  encodeMessage(1, Command.VERSION, encodeVersion(0, 1, { maxMsgFds: 8 })),
  ...Array.from({ length: 100 }, (_, i) =>
    encodeMessage(2, Command.DMA_MAP, encodeDmaMap({ flags: 3, offset: 0n, address: BigInt(i) << 12n, size: 4096n }), HeaderFlags.NO_REPLY),
  ),
  ...Array.from({ length: 50 }, () => encodeMessage(3, Command.REGION_READ, encodeRegionAccess(0n, 7, 4096))),
  encodeMessage(4, Command.REGION_READ, encodeRegionAccess(0n, 0, 4)).subarray(0, 20),
]).toString('hex');

it('a client that is killed leaves nothing, and the next one, which came before, is served', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-kill-'));
  const path = join(folder, 'device.sock');
  using rig = new ServerRig();
  const sessions: Session[] = [];
  const listener = UnixListener.listen(path);
  listener.onConnection((socket) => void sessions.push(rig.server.serve(socket)));
  const start = () => spawn(process.execPath, ['-e', client, path, said], { stdio: 'ignore' });
  const children = [start(), start()];
  try {
    const before = openDescriptors();
    for (let round = 0; round < 8; round++) {
      while (rig.server.sessions[0]?.mappings !== 100) await settle();
      const session = rig.server.sessions[0]!;
      rig.rig.fn.config.write(4, 2, 6);
      const dma = expect(rig.rig.model.host.dma.read(0x1000n, new Uint8Array(4))).rejects.toThrow('remote-failed');
      const victim = children.find(({ pid }) => pid === session.peer!.pid)!;
      victim.kill('SIGKILL');
      await session.ended;
      await dma;
      expect([session.device, session.mappings]).toEqual([null, 0]);
      children.push(start());
      expect(openDescriptors()).toBeLessThanOrEqual(before + 2);
    }
    expect(sessions.length).toBeGreaterThanOrEqual(8);
  } finally {
    for (const child of children) child.kill('SIGKILL');
    listener[Symbol.dispose]();
    rmSync(folder, { recursive: true, force: true });
  }
});
