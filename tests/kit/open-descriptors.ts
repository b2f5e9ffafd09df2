/** What a process has open. What the loader (tsx), in a thread of its own, opens and closes when it likes is not counted. */
import { readdirSync, readlinkSync } from 'node:fs';
import { addon } from '../../src/sys/addon.ts';

/** Sources, what they were compiled to, and the loader's folder of those; and the file whose reads signal eventfds (native/signal.c), open from the first on. */
const OURS = /\.([cm]?[jt]s|json)( \(deleted\))?$|\/tsx-\d+(\/|$)|^\/dev\/null$/;

/** Descriptors that a peer sent are closed elsewhere (native/foreign.c), a moment later. */
function waitForForeignCloses(): void {
  const still = new Int32Array(new SharedArrayBuffer(4));
  for (let i = 0; i < 30_000 && addon().closing(1) > 0; i++) Atomics.wait(still, 0, 0, 1);
}

function opened(pid: number | 'self'): string[] {
  if (pid === 'self') waitForForeignCloses();
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`);
    } catch {
      return []; // closed meanwhile
    }
  });
}

/** Sockets, eventfds, memfds and the like of this process; no files. */
export function openDescriptors(): number {
  return opened('self').filter((what) => !what.startsWith('/') || what.startsWith('/memfd:')).length;
}

/** All of them, of this process or another. */
export function openDescriptorsAndFiles(pid: number | 'self' = 'self'): number {
  return opened(pid).filter((what) => !OURS.test(what)).length;
}
