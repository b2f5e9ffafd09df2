/** The namespaces that the controller has active (NVMe 1.4, 5.15.2.3 and 6.1). */
import { Cns } from '../../abi/nvme.ts';
import { Status } from '../../abi/nvme-status.ts';
import { VfioError } from '../../base/errno.ts';
import { isUnsupported, NvmeError } from './errors.ts';
import { NvmeNamespace } from './namespace.ts';
import type { Session } from './session.ts';

/** NSIDs in one list. */
const LIST = 1024;
/** Namespaces that are looked at; a controller that says it has more is not believed. */
const NAMESPACES_MAX = 16_384;
/** Without lists (before 1.1): identifiers that are tried, one by one. */
const TRIES_MAX = 1024;

export interface NamespaceChanges {
  readonly added: readonly NvmeNamespace[];
  readonly removed: readonly NvmeNamespace[];
  readonly changed: readonly NvmeNamespace[];
}

export class NamespaceList {
  readonly #session: Session;
  #byId = new Map<number, NvmeNamespace>();
  #all: readonly NvmeNamespace[] = [];
  #scanning: Promise<NamespaceChanges> | null = null;

  constructor(session: Session) {
    this.#session = session;
  }

  /** By identifier, in order. */
  get all(): readonly NvmeNamespace[] {
    return this.#all;
  }

  get(id: number): NvmeNamespace | undefined {
    return this.#byId.get(id);
  }

  /** Look again. A namespace that is still there stays the same object. */
  async scan(): Promise<NamespaceChanges> {
    // One after the other: what changed during a scan is found by the next.
    while (this.#scanning !== null) await this.#scanning.catch(() => {});
    this.#scanning = this.#scan();
    try {
      return await this.#scanning;
    } finally {
      this.#scanning = null;
    }
  }

  async #scan(): Promise<NamespaceChanges> {
    const added: NvmeNamespace[] = [];
    const changed: NvmeNamespace[] = [];
    const found = new Map<number, NvmeNamespace>();
    if (this.#session.controller.capabilities.adminOnly) return { added, removed: [], changed };
    for (const id of await this.#identifiers()) {
      const known = this.#byId.get(id);
      const raw = await this.#identify(id, known);
      if (raw === null) continue;
      const ns = known ?? new NvmeNamespace(id, raw, this.#session);
      if (known === undefined) added.push(ns);
      else if (known.update(raw)) changed.push(ns);
      found.set(id, ns);
    }
    const removed = this.#all.filter(({ id }) => !found.has(id));
    for (const ns of removed) ns.remove();
    this.#byId = found;
    this.#all = [...found.values()];
    return { added, removed, changed };
  }

  /** Null for one that is not active (any more). One that was, and of which nothing can be told just now, is as it was. */
  async #identify(id: number, known: NvmeNamespace | undefined): Promise<Uint8Array | null> {
    try {
      const raw = await this.#session.admin.identify(Cns.NAMESPACE, id);
      // Inactive: all of it is zero (5.15.2.1).
      return raw.some((byte) => byte !== 0) ? raw : null;
    } catch (error) {
      if (!(error instanceof NvmeError)) throw error;
      this.#session.log('debug', error.message);
      const inactive = !error.retryable || error.is(Status.INVALID_NAMESPACE) || isUnsupported(error);
      return inactive || known === undefined ? null : known.raw;
    }
  }

  async #identifiers(): Promise<readonly number[]> {
    const { info, admin, deviceName } = this.#session;
    const ids: number[] = [];
    for (let from = 0; ids.length < NAMESPACES_MAX; from = ids.at(-1)!) {
      let raw: Uint8Array;
      try {
        raw = await admin.identify(Cns.ACTIVE_NAMESPACES, from);
      } catch (error) {
        if (from > 0 || !isUnsupported(error)) throw error;
        return Array.from({ length: Math.min(info.nn, TRIES_MAX) }, (_, i) => i + 1);
      }
      const view = new DataView(raw.buffer, raw.byteOffset);
      for (let i = 0; i < LIST; i++) {
        const id = view.getUint32(4 * i, true);
        if (id === 0) return ids;
        if (id <= (ids.at(-1) ?? 0) || id >= 0xffff_fffe) {
          throw new VfioError('EIO', `${deviceName}: namespace ${id} is out of order in its list of active ones`);
        }
        ids.push(id);
      }
    }
    this.#session.log('warn', `${deviceName} lists more than ${NAMESPACES_MAX} namespaces; the others are left alone`);
    return ids;
  }
}
