/**
 * The namespaces of a controller: their list, their Identify data, formatting, and the list of
 * changes.
 */

import { NSID_ALL } from '../../abi/nvme.ts';
import { Vwc } from '../../abi/nvme-identify.ts';
import { refused, Status } from '../../abi/nvme-status.ts';
import { viewOf } from '../../base/data-view.ts';
import { VfioError } from '../../base/errno.ts';
import { Namespace, type NamespaceOptions } from './namespace.ts';

/** Identify's list of active namespaces holds 1024. */
export const NAMESPACES_MAX = 1024;

export class Namespaces implements Disposable {
  /** By NSID - 1. All are active and stay. */
  readonly list: readonly Namespace[];
  /**
   * Called when a namespace's Identify data change, to send an asynchronous event (5.2.1, Namespace
   * Attribute Changed).
   */
  onChanged: ((nsid: number) => void) | null = null;
  /** An operation that a command queued on a namespace's storage has ended: 0 or -errno. */
  onOperation: (namespace: Namespace, tag: number, result: number) => void = () => {};
  /** An operation on a namespace's storage has failed: -errno. */
  onFailed: (namespace: Namespace, result: number) => void = () => {};
  readonly #changed = new Set<number>();

  /** @throws VfioError EINVAL for options that make no namespace */
  constructor(options: readonly NamespaceOptions[]) {
    if (options.length > NAMESPACES_MAX)
      throw new VfioError('EINVAL', `${options.length} namespaces; a controller has up to ${NAMESPACES_MAX}`);
    const list: Namespace[] = [];
    try {
      for (const option of options) {
        const namespace: Namespace = new Namespace(list.length + 1, option, (one, tag, result) => this.onOperation(one, tag, result));
        namespace.onFailed = (result) => this.onFailed(namespace, result);
        list.push(namespace);
      }
    } catch (error) {
      for (const namespace of list) namespace[Symbol.dispose]();
      throw error;
    }
    this.list = list;
  }

  /** NN: the number of namespaces, and the largest NSID. */
  get count(): number {
    return this.list.length;
  }

  /** The namespace `nsid`; undefined for 0, FFFFFFFFh and what is not there. */
  get(nsid: number): Namespace | undefined {
    return this.list[nsid - 1];
  }

  /** Identify Controller, VWC: Flush with NSID FFFFFFFFh flushes all. */
  get vwc(): number {
    return Vwc.FLUSH_ALL | (this.list.some((n) => n.storage.volatile) ? Vwc.PRESENT : 0);
  }

  /** Identify Controller, TNVMCAP: bytes. */
  get capacity(): bigint {
    return this.list.reduce((sum, n) => sum + BigInt(n.storage.size), 0n);
  }

  /**
   * Active Namespace ID list (5.15.2.3, CNS 02h): NSIDs above `after`, in order.
   * @param into 4096 bytes, zeroed
   */
  active(after: number, into: Uint8Array): void {
    const view = viewOf(into);
    let at = 0;
    for (const { nsid } of this.list) {
      if (nsid <= after || at + 4 > into.length) continue;
      view.setUint32(at, nsid, true);
      at += 4;
    }
  }

  /**
   * Returns the NSIDs whose Identify data have changed since the last call (log page 04h), in
   * order.
   */
  takeChanged(): number[] {
    const changed = [...this.#changed].sort((a, b) => a - b);
    this.#changed.clear();
    return changed;
  }

  /**
   * Format NVM (5.23) of one namespace, or of all with FFFFFFFFh: zeroes the contents. I/O commands
   * meanwhile end with Format In Progress.
   *
   * @param index of the LBA format: 0 is 512, 1 is 4096 bytes
   * @param done called once, maybe before this returns; never after `reset`
   */
  format(nsid: number, index: number, done: (status: number) => void): void {
    const chosen = nsid === NSID_ALL ? this.list : this.list.slice(nsid - 1, nsid);
    if (nsid === 0 || chosen.length === 0) {
      done(refused(Status.INVALID_NAMESPACE));
      return;
    }
    let left = chosen.length;
    let first: number = Status.SUCCESS;
    for (const namespace of chosen) {
      namespace.format(
        index,
        () => {
          this.#changed.add(namespace.nsid);
          this.onChanged?.(namespace.nsid);
        },
        (status) => {
          if (first === Status.SUCCESS) first = status;
          if (--left === 0) done(first);
        },
      );
    }
  }

  /** NSIDs that `takeChanged` would give. */
  get changed(): ReadonlySet<number> {
    return this.#changed;
  }

  /** Controller reset: the changed list stays empty, no command waits for a format. */
  reset(): void {
    this.#changed.clear();
    for (const namespace of this.list) namespace.reset();
  }

  /**
   * Closes the storages' queues, not the storages, after operations in flight have ended.
   */
  [Symbol.dispose](): void {
    for (const namespace of this.list) namespace[Symbol.dispose]();
  }
}
