/** A broker of a device, and processes that misuse its socket. Prints JSON. */
import { mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lend } from '../../src/api/lend.ts';
import { KernelFile } from '../../src/sys/kernel-file.ts';
import { UnixSocket } from '../../src/sys/unix-socket.ts';

const folder = mkdtempSync(join(tmpdir(), 'vfio-lend-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
const lines: string[] = [];
const path = join(folder, 'card.sock');
using broker = lend('0000:00:04.0', { path, log: { log: (_, message) => void lines.push(message) } });
/** Descriptors of this file are sent to the broker. */
const SENT = '/dev/zero';
const files = () => readdirSync('/proc/self/fd').filter((fd) => isSent(`/proc/self/fd/${fd}`)).length;
function isSent(path: string): boolean {
  try {
    return readlinkSync(path) === SENT;
  } catch {
    // The one that lists them.
    return false;
  }
}

async function until(done: () => boolean): Promise<void> {
  while (!done()) await new Promise((resolve) => setTimeout(resolve, 2));
}
const refused = () => lines.filter((line) => line.includes('does not get it')).length;

const holder = UnixSocket.connect(path);
await until(() => broker.worker !== null);
// These hang up before the broker refuses.
for (let i = 0; i < 5; i++) UnixSocket.connect(path)[Symbol.dispose]();
await until(() => refused() === 5);

using zeros = KernelFile.open(SENT);
holder.send(new Uint8Array(200), 0, 200, [zeros.fd, zeros.fd]);
holder[Symbol.dispose]();
await until(() => broker.worker === null);
console.log(JSON.stringify({ refused: refused(), kept: files() - 1 }));
