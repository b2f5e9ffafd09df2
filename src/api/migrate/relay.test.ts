/**
 * Carrying a move between two ends, one of which accepts no more data, or sends terminal
 * controls.
 */
import { once } from 'node:events';
import { PassThrough, Writable } from 'node:stream';
import { afterEach, expect, it, vi } from 'vitest';
import type { Pipe } from './endpoints.ts';
import { encodeJson, HEAD_BYTES, Kind, sealFrame } from './frames.ts';
import { relay } from './relay.ts';

function frame(kind: Kind, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEAD_BYTES + payload.length);
  bytes.set(payload, HEAD_BYTES);
  return bytes.subarray(0, sealFrame(bytes, kind, payload.length));
}

/** @param takes receives the bytes that are written to the end */
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

afterEach(() => void vi.useRealTimers());

it('S0-19 an end that accepts no more data ends the move, and both ends hear of it', async () => {
  const source = end('unix:/a');
  const destination = end('unix:/b', new Writable({ write: () => {} }));
  for (let i = 0; i < 8; i++) source.input.write(frame(Kind.DEVICE, new Uint8Array(2 ** 19)));
  await expect(relay(source, destination, { stallMs: 1 })).rejects.toMatchObject({
    code: 'ETIMEDOUT',
    message: expect.stringContaining('unix:/b accepts no more data'),
  });
  expect([source.closed, destination.closed]).toEqual([true, true]);
});

it('the text of a refusal is reported without terminal controls', async () => {
  const [source, destination] = [end('unix:/a'), end('unix:/b')];
  destination.input.end(frame(Kind.ABORT, encodeJson({ code: 'EBUSY', message: 'in\u001b[2J\nuse', fix: 'wait\u0007' })));
  await expect(relay(source, destination)).rejects.toMatchObject({ code: 'EBUSY', message: 'in [2J use', fix: 'wait ' });
});

it('S0-19 a source that takes long to close its device still sends its figures', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const [source, destination] = [end('unix:/a'), end('unix:/b')];
  const figures = { id: '0123456789abcdef', rounds: 1, memoryBytes: 2, deviceBytes: 3, downtimeMs: 4, totalMs: 5 };
  const moved = relay(source, destination);
  const heard = once(source.output, 'finish');
  destination.input.end(frame(Kind.RUNNING, encodeJson({})));
  await heard;
  while (vi.getTimerCount() === 0) await new Promise((resolve) => setImmediate(resolve));
  vi.advanceTimersByTime(10_000);
  expect(source.closed).toBe(false);
  source.input.end(frame(Kind.FIGURES, encodeJson(figures)));
  expect(await moved).toEqual(figures);
});
