/**
 * A process that records events into files without end: recorder-child.ts FILE…. It prints a line
 * every few turns of the event loop.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { HEADER_BYTES } from '../../src/abi/vfio-user.ts';
import { writeEvents } from '../../src/api/event-file.ts';
import { Irq, Step } from '../../src/events/source.ts';
import { EventStream } from '../../src/events/stream.ts';

const stream = new EventStream();
const source = stream.source('0000:00:04.0');
for (const path of process.argv.slice(2)) writeEvents(stream, path);

const bytes = new Uint8Array(HEADER_BYTES);
for (let turns = 1; ; turns++) {
  for (let i = 0; i < 40; i++) {
    const before = source.cause;
    source.cause = source.access(true, 0, 8 * i, 4, i, 0, false);
    source.emit('message', {
      direction: 'to server',
      id: i,
      command: 'REGION_WRITE',
      type: 'command',
      size: 16,
      fds: 0,
      twin: false,
      bytes,
    });
    source.interrupt(Step.raised, Irq.msix, 1);
    source.emit('command', { name: 'Read', queue: 'I/O 1', fields: { slba: BigInt(i) }, status: 'ok', latencyNs: 1000 });
    source.cause = before;
  }
  if (turns % 5 === 0) process.stdout.write(`${turns}\n`);
  await turn();
}
