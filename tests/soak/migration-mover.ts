/**
 * The process that moves: it carries devices between servers, and cuts the link on command. The
 * driver is in another process, which stands still whenever the device does.
 */
import { PassThrough, Writable } from 'node:stream';
import type { Pipe } from '../../src/api/migrate/endpoints.ts';
import { arrivedAfterAll, startMove } from '../../src/api/migrate/move.ts';
import { relay } from '../../src/api/migrate/relay.ts';

export interface Order {
  readonly source: string;
  readonly destination: string;
  /** Bytes that may go one way; null: the link is not cut. */
  readonly cut: { readonly after: number; readonly way: 'there' | 'back' } | null;
}

export interface Report {
  readonly moved: boolean;
  /** Why the move failed. */
  readonly error: string;
  /** Bytes that went there. */
  readonly bytes: number;
  readonly downtimeMs: number;
}

async function carry({ source, destination, cut }: Order): Promise<Report> {
  const ends = await startMove(source, { kind: 'server', path: destination }, { downtimeMs: Number.POSITIVE_INFINITY });
  let bytes = 0;
  const input = new PassThrough();
  const over = (): void => {
    ends.from.close();
    ends.to.close();
    input.end();
  };
  const limit = (way: 'there' | 'back'): number => (cut?.way === way ? cut.after : Number.POSITIVE_INFINITY);
  const output = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      const left = limit('there') - bytes;
      bytes += chunk.length;
      if (chunk.length < left) ends.to.output.write(chunk, () => done());
      else {
        ends.to.output.write(chunk.subarray(0, left), () => {
          over();
          done();
        });
      }
    },
    final: (done) => void ends.to.output.end(() => done()),
  });
  ends.to.output.on('error', () => {});
  let back = 0;
  ends.to.input.on('data', (chunk: Buffer) => {
    const left = limit('back') - back;
    back += chunk.length;
    input.write(chunk.subarray(0, Math.max(0, Math.min(left, chunk.length))));
    if (chunk.length >= left) setImmediate(over);
  });
  ends.to.input.on('error', () => {});
  ends.to.input.on('close', () => input.end());
  const to: Pipe = { name: ends.to.name, input, output, close: over };
  try {
    const figures = await relay(ends.from, to);
    return { moved: true, error: '', bytes, downtimeMs: figures?.downtimeMs ?? 0 };
  } catch (error) {
    const moved = await arrivedAfterAll(source, destination);
    return { moved, error: error instanceof Error ? error.message : String(error), bytes, downtimeMs: 0 };
  }
}

process.on('disconnect', () => process.exit(0));
process.on('message', (order: Order) => {
  carry(order).then(
    (report) => process.send!(report),
    (error: unknown) => process.send!({ moved: false, error: String(error), bytes: 0, downtimeMs: 0 } satisfies Report),
  );
});
