/** What this process has open. What the loader (tsx), in a thread of its own, opens and closes when it likes is not counted. */
import { readdirSync, readlinkSync } from 'node:fs';

/** Sources, what they were compiled to, and the loader's folder of those. */
const LOADERS = /\.([cm]?[jt]s|json)( \(deleted\))?$|\/tsx-\d+(\/|$)/;

function opened(): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return []; // closed meanwhile
    }
  });
}

/** Sockets, eventfds, memfds and the like of this process; no files. */
export function openDescriptors(): number {
  return opened().filter((what) => !what.startsWith('/') || what.startsWith('/memfd:')).length;
}

/** All of them. */
export function openDescriptorsAndFiles(): number {
  return opened().filter((what) => !LOADERS.test(what)).length;
}
