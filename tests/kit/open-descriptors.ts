/**
 * The descriptors of a process, without those that the loader (tsx) opens and closes at any time in
 * its own thread.
 */
import { readdirSync, readlinkSync } from 'node:fs';
import { addon } from '../../src/sys/addon.ts';

/**
 * Sources, compiled files, the loader's folder of those, and the file whose reads signal eventfds
 * (native/signal.c), which stays open after the first signal.
 */
const OURS = /\.([cm]?[jt]s|json)( \(deleted\))?$|\/tsx-\d+(\/|$)|^\/dev\/null$/;

/** A closing process closes peers' descriptors (native/foreign.c), a moment later. */
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
