import { describe, expect, it } from 'vitest';
import { heapGrowth } from '../../tests/kit/heap-growth.ts';
import { ServerRig } from '../../tests/kit/vfio-user-rig.ts';
import { HeaderFlags } from '../abi/vfio-user.ts';
import { type ByteStream, WOULD_BLOCK } from '../sys/byte-stream.ts';
import { Command, encodeMessage, encodeRegionAccess, encodeVersion } from './messages.ts';

/**
 * A stream that gives the same bytes as often as it is asked, and takes everything: it allocates
 * nothing itself.
 */
class Loop implements ByteStream {
  readonly carriesFds = false;
  bytes: Uint8Array;
  left = 1;
  sends = 0;
  sentBytes = 0;
  onReadable: () => boolean = () => false;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  send(_bytes: Uint8Array, start: number, end: number): number {
    this.sends++;
    this.sentBytes += end - start;
    return end - start;
  }

  receive(into: Uint8Array, start: number): number {
    if (this.left === 0) return WOULD_BLOCK;
    this.left--;
    const { bytes } = this;
    for (let i = 0; i < bytes.length; i++) into[start + i] = bytes[i]!;
    return bytes.length;
  }

  wait(): boolean {
    return true;
  }

  listen(onReadable: () => boolean): Disposable {
    this.onReadable = onReadable;
    return { [Symbol.dispose]: () => {} };
  }

  onWritable(): Disposable {
    throw new Error('never blocked');
  }

  [Symbol.dispose](): void {}

  /** `count` rounds of `bytes`, each one turn of the event loop as far as the server can tell. */
  run(count: number): void {
    this.left = count;
    for (let i = 0; i < count; i++) this.onReadable();
  }
}

const repeat = (message: Uint8Array, times: number) =>
  Uint8Array.from({ length: message.length * times }, (_, i) => message[i % message.length]!);

describe('a register access of the server', () => {
  const access = (offset: number, count: number, region = 0) => encodeRegionAccess(BigInt(offset), region, count);
  it.each([
    ['read 4 bytes', encodeMessage(1, Command.REGION_READ, access(8, 4)), 36],
    ['read 1 byte', encodeMessage(1, Command.REGION_READ, access(8, 1)), 33],
    ['read 4 bytes of config space', encodeMessage(1, Command.REGION_READ, access(4, 4, 7)), 36],
    ['write 4 bytes', encodeMessage(1, Command.REGION_WRITE, encodeRegionAccess(8n, 0, 4, new Uint8Array(4))), 32],
    ['post 4 bytes', encodeMessage(1, Command.REGION_WRITE, encodeRegionAccess(8n, 0, 4, new Uint8Array(4)), HeaderFlags.NO_REPLY), 0],
  ])('%s: allocates nothing', async (_, message, replyBytes) => {
    using rig = new ServerRig({
      models: (host) => ({ host, read: () => 7, write: () => {}, reset: () => {} }) as never,
    });
    const loop = new Loop(encodeMessage(1, Command.VERSION, encodeVersion(0, 1, {})));
    const session = rig.server.serve(loop, null);
    loop.onReadable();
    rig.opened[0]!.region(7).write16(4, 6);
    loop.bytes = repeat(message, 10);
    loop.run(3000);
    const { sends, sentBytes } = loop;
    let rounds = 0;
    const grown = heapGrowth(() => {
      loop.run(10_000);
      rounds += 10_000;
    }, 400_000);
    // An object of 16 bytes each would be 1.6 MB.
    expect(grown).toBeLessThan(400_000);
    expect([loop.sentBytes - sentBytes, loop.sends - sends]).toEqual([rounds * 10 * replyBytes, replyBytes === 0 ? 0 : rounds]);
    expect(session.commands).toBe(1 + (3000 + rounds) * 10);
    session.close();
  });
});
