import { expect, it } from 'vitest';
import { ZstdFrames } from './zstd-frames.ts';

/** A frame of raw blocks, without and with a checksum and a window. */
function rawFrame(blocks: readonly string[], { checksum = false, window = false } = {}): Buffer {
  const size = blocks.join('').length;
  const descriptor = (window ? 0 : 0x20) | (checksum ? 4 : 0);
  const parts = blocks.map((text, i) => {
    const head = Buffer.alloc(3);
    head.writeUIntLE((text.length << 3) | (i === blocks.length - 1 ? 1 : 0), 0, 3);
    return Buffer.concat([head, Buffer.from(text)]);
  });
  return Buffer.concat([Buffer.of(0x28, 0xb5, 0x2f, 0xfd, descriptor, window ? 0 : size), ...parts, Buffer.alloc(checksum ? 4 : 0, 0xcc)]);
}

const rle = Buffer.of(0x28, 0xb5, 0x2f, 0xfd, 0x20, 100, ...[(100 << 3) | 2 | 1, (100 << 3) >> 8, 0].map((byte) => byte & 0xff), 0x61);
const skippable = Buffer.from([0x5f, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
const frames = [rawFrame(['one', 'two']), rawFrame(['x'], { checksum: true }), skippable, rle, rawFrame(['y'], { window: true })];

async function split(file: Uint8Array, chunk: number): Promise<Buffer[]> {
  async function* source() {
    for (let at = 0; at < file.length; at += chunk) yield file.subarray(at, at + chunk);
  }
  const all = new ZstdFrames(source());
  const found: Buffer[] = [];
  while (await all.more()) {
    const parts: Uint8Array[] = [];
    for await (const part of all.parts()) parts.push(part);
    found.push(Buffer.concat(parts));
  }
  return found;
}

it.each([1, 2, 3, 7, 1000])('frames end where they do, in chunks of %i bytes', async (chunk) => {
  expect(await split(Buffer.concat(frames), chunk)).toEqual(frames);
});

it('a file that breaks off ends within its last frame', async () => {
  const file = Buffer.concat(frames).subarray(0, -2);
  expect((await split(file, 5)).map((each) => each.length)).toEqual(frames.map((each, i) => each.length - (i === 4 ? 2 : 0)));
});

it('bytes that are no frame are an error', async () => {
  await expect(split(Buffer.concat([frames[0]!, Buffer.from('hello, world')]), 4)).rejects.toMatchObject({ code: 'EINVAL' });
});
