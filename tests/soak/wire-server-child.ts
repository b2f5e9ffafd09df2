/**
 * The process of `WireServer`: wire-server-child.ts DIRECTORY SECONDS [watched] [threads]. One
 * device of each kind, as `vfio serve` serves it.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { writeEvents } from '../../src/api/event-file.ts';
import { DeviceServer } from '../../src/api/serve.ts';
import { serveDevices } from '../../src/api/threads/serve-parts.ts';
import type { Logger } from '../../src/base/log.ts';
import { EventStream } from '../../src/events/stream.ts';
import { edu } from '../../src/models/edu/edu.ts';
import { UnixListener } from '../../src/sys/unix-listener.ts';
import manyBars from '../kit/many-bars-model.ts';
import { openDescriptorsAndFiles } from '../kit/open-descriptors.ts';
import type { Figures } from './wire-server.ts';

const [directory, seconds, ...how] = process.argv.slice(2) as [string, string, ...string[]];
const inThreads = how.includes('threads');
setTimeout(() => process.exit(3), Number(seconds) * 1000);
process.on('disconnect', () => process.exit(0));

const card = fileURLToPath(new URL('../kit/many-bars-model.ts', import.meta.url));

const errors: string[] = [];
let errorCount = 0;
const log: Logger = {
  log: (level, message) => {
    if (level !== 'error') return;
    errorCount++;
    if (errors.length < 5) errors.push(message);
  },
};

const events = new EventStream({ log });
if (how.includes('watched')) {
  events.read();
  writeEvents(events, '/dev/null', { format: 'jsonl', data: true });
}

let open = 0;
let clients = 0;
let messages = 0;
if (inThreads) {
  const devices = { edu: { kind: 'model', name: 'edu', options: {} }, card: { kind: 'file', path: card, options: {} } } as const;
  const listed = Object.entries(devices).map(([name, address]) => ({ name, address, path: pathOf(name) }));
  await serveDevices(listed, { events, memlockLimit: 2 ** 30, manage: false });
} else {
  for (const [name, model] of Object.entries({ edu: edu(), card: manyBars() })) {
    const server = new DeviceServer(model, { name, log, events, memlockLimit: 2 ** 30 });
    UnixListener.listen(pathOf(name)).onConnection((socket) => {
      const session = server.serve(socket);
      open++;
      void session.ended.then(() => {
        open--;
        clients++;
        messages += session.commands;
      });
    });
  }
}
/** Of the server without clients. */
const idle = openDescriptorsAndFiles();

function pathOf(name: string): string {
  return join(directory, `${name}.sock`);
}

/** Clients of threads are known by their descriptors. */
const connected = (): number => (inThreads ? Math.max(0, openDescriptorsAndFiles() - idle) : open);

const turn = () => new Promise((resolve) => setImmediate(resolve));

async function figures(): Promise<Figures> {
  // One collection takes objects with finalizers, the next the memory that they held.
  for (let i = 0; i < 4; i++) {
    globalThis.gc!();
    await turn();
  }
  const { rss, heapUsed, external } = process.memoryUsage();
  const maps = readFileSync('/proc/self/maps', 'utf8').trimEnd().split('\n');
  return {
    open: connected(),
    clients,
    messages,
    descriptors: openDescriptorsAndFiles(),
    // Mappings of files only: V8 decides how many pieces its heap has, and the heap's size is
    // measured.
    mappings: maps.filter((line) => line.split(/\s+/)[4] !== '0').length,
    sharedMappings: maps.filter((line) => line.includes('/memfd:')).length,
    rss,
    heap: heapUsed + external,
    errorCount,
    errors,
  };
}

process.on('message', async () => process.send!(connected() > 0 ? { open: connected() } : await figures()));
process.send!({ open });
