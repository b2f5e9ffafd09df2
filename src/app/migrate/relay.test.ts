/** Carrying a move between two ends, one of which takes nothing any more, or says what a terminal would obey. */
import { PassThrough, Writable } from 'node:stream';
import { expect, it } from 'vitest';
import type { Pipe } from './endpoints.ts';
import { encodeJson, HEAD_BYTES, Kind, sealFrame } from './frames.ts';
import { relay } from './relay.ts';

function frame(kind: Kind, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEAD_BYTES + payload.length);
  bytes.set(payload, HEAD_BYTES);
  return bytes.subarray(0, sealFrame(bytes, kind, payload.length));
}

/** @param takes  what is written to it */
function end(name: string, output: Writable = new PassThrough().resume()): Pipe & { readonly input: PassThrough; closed: boolean } {
  const input = new PassThrough();
  const one = {
    name,
    input,
    output,
    closed: false,
    close: () => {
      one.closed = true;
      input.end();
    },
  };
  return one;
}

it('S0-19 an end that takes nothing any more is given up, and both hear of it', async () => {
  const source = end('unix:/a');
  const destination = end('unix:/b', new Writable({ write: () => {} }));
  for (let i = 0; i < 8; i++) source.input.write(frame(Kind.DEVICE, new Uint8Array(2 ** 19)));
  await expect(relay(source, destination, { stallMs: 1 })).rejects.toMatchObject({
    code: 'ETIMEDOUT',
    message: expect.stringContaining('unix:/b takes nothing any more'),
  });
  expect([source.closed, destination.closed]).toEqual([true, true]);
});

it('what an end says in its refusal is told without what a terminal would obey', async () => {
  const [source, destination] = [end('unix:/a'), end('unix:/b')];
  destination.input.end(frame(Kind.ABORT, encodeJson({ code: 'EBUSY', message: 'in\u001b[2J\nuse', fix: 'wait\u0007' })));
  await expect(relay(source, destination)).rejects.toMatchObject({ code: 'EBUSY', message: 'in [2J use', fix: 'wait ' });
});
