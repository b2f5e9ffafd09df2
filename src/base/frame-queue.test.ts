import fc from 'fast-check';
import { expect, it } from 'vitest';
import { FrameQueue } from './frame-queue.ts';

const front = (queue: FrameQueue) => [...queue.bytes.subarray(queue.frontOffset, queue.frontOffset + queue.frontLength)];

it('house: frames leave in the order and with the bytes of their arrival, whatever wraps', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.integer({ min: 0, max: 900 }), fc.constant('shift' as const)), { maxLength: 400 }), (steps) => {
      const queue = new FrameQueue(4096);
      const model: { bytes: number[]; tag: number }[] = [];
      for (const [tag, step] of steps.entries()) {
        if (step === 'shift') {
          const first = model.shift();
          if (first !== undefined)
            expect({ bytes: front(queue), tag: queue.frontTag, time: queue.frontTime }).toEqual({ ...first, time: first.tag * 2 });
          queue.shift();
        } else {
          const bytes = Array.from({ length: step }, (_, i) => (i + tag) & 0xff);
          const taken = queue.push(Uint8Array.from([9, ...bytes]), 1, step, tag, tag * 2);
          // Half of the limit always fits: the rest may be what wrapping wastes.
          if (model.reduce((sum, { bytes }) => sum + Math.max(64, bytes.length), 0) + Math.max(64, step) <= 2048) expect(taken).toBe(true);
          if (taken) model.push({ bytes, tag });
        }
        expect(queue.count).toBe(model.length);
        expect(queue.held).toBe(model.reduce((sum, { bytes }) => sum + bytes.length, 0));
      }
    }),
    { numRuns: 300 },
  );
});

it('house: empty frames are limited, too', () => {
  const queue = new FrameQueue(640);
  let taken = 0;
  while (taken < 1000 && queue.push(new Uint8Array(0), 0, 0)) taken++;
  expect(taken).toBe(10);
  expect(queue.clear()).toBe(10);
  expect(queue.count).toBe(0);
});
