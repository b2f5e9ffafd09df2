/** The namespaces that the controller has active (NVMe 1.4, 5.15.2.3 and 6.1). */

import { Cns } from '../../abi/nvme-identify.ts';
import { Status } from '../../abi/nvme-status.ts';
import { viewOf } from '../../base/data-view.ts';
import type { LogLevel } from '../../base/log.ts';
import type { CommandPort } from './command-port.ts';
import type { Controller } from './controller.ts';
import { isStatus, isUnsupported, NvmeError } from './errors.ts';
import { NvmeNamespace } from './namespace.ts';
import { withRetries } from './retry.ts';

/** NSIDs in one list. */
const LIST = 1024;
/**
 * Number of namespaces that the driver looks at. It does not believe a controller that claims more.
 */
const NAMESPACES_MAX = 16_384;
/** Number of identifiers that the driver tries one by one when it has no list. */
const TRIES_MAX = 1024;
const VS_1_1 = 0x1_0100;
/** The highest identifier of a namespace. Those above it have a meaning of their own (6.1). */
const NSID_LAST = 0xffff_fffd;

/** Namespaces that came, went or changed between two looks at the controller's list. */
export interface NamespaceChanges {
  readonly added: readonly NvmeNamespace[];
  readonly removed: readonly NvmeNamespace[];
  readonly changed: readonly NvmeNamespace[];
}

/** A command port, with the facts that say how the controller lists its namespaces. */
export interface ScanPort extends CommandPort {
  readonly controller: Pick<Controller, 'vs' | 'capabilities'>;
  log(level: LogLevel, message: string): void;
}

export class NamespaceList {
  readonly #port: ScanPort;
  #byId = new Map<number, NvmeNamespace>();
  #all: readonly NvmeNamespace[] = [];
  #scanning: Promise<NamespaceChanges> | null = null;

  constructor(port: ScanPort) {
    this.#port = port;
  }

  /** By identifier, in order. */
  get all(): readonly NvmeNamespace[] {
    return this.#all;
  }

  get(id: number): NvmeNamespace | undefined {
    return this.#byId.get(id);
  }

  /** Scan again. A namespace that is still active stays the same object. */
  async scan(): Promise<NamespaceChanges> {
    // Scans run one after another: the next one finds changes that happened during a scan.
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
    if (this.#port.controller.capabilities.adminOnly) return { added, removed: [], changed };
    const failures: string[] = [];
    for (const id of await this.#identifiers()) {
      const known = this.#byId.get(id);
      const raw = await this.#identify(id, known, failures);
      if (raw === null) continue;
      const ns = known ?? new NvmeNamespace(id, raw, this.#port);
      if (known === undefined) added.push(ns);
      else if (known.update(raw)) changed.push(ns);
      found.set(id, ns);
    }
    if (failures.length > 0) {
      const others = failures.length === 1 ? '' : ` (and ${failures.length - 1} more that cannot be identified)`;
      this.#port.log('warn', `${failures[0]!}: the namespace is left alone${others}`);
    }
    const removed = this.#all.filter(({ id }) => !found.has(id));
    for (const ns of removed) ns.remove();
    this.#byId = found;
    this.#all = [...found.values()];
    return { added, removed, changed };
  }

  /**
   * The namespace `nsid`; null when it is not active. A known namespace whose Identify fails for
   * now stays as it was.
   */
  async #identify(id: number, known: NvmeNamespace | undefined, failures: string[]): Promise<Uint8Array | null> {
    try {
      const raw = await withRetries(this.#port, () => this.#port.admin.identify(Cns.NAMESPACE, id));
      // Identify of an inactive namespace is all zeroes (5.15.2.1).
      return raw.some((byte) => byte !== 0) ? raw : null;
    } catch (error) {
      if (!(error instanceof NvmeError)) throw error;
      const { message, retryable } = error;
      const absent = isUnsupported(error) || isStatus(error, Status.INVALID_NAMESPACE);
      if (absent) this.#port.log('debug', message);
      else failures.push(message);
      return absent || !retryable || known === undefined ? null : known.raw;
    }
  }

  /**
   * Identifiers that may be active, in order. CNS 2 came with NVMe 1.1: before, CNS is one bit, and
   * a controller takes 2 for another value. Where the list fails, or is invalid, the driver also
   * tries identifiers one by one.
   */
  async #identifiers(): Promise<readonly number[]> {
    const { info, controller, deviceName } = this.#port;
    const tried = Array.from({ length: Math.min(info.nn, TRIES_MAX) }, (_, i) => i + 1);
    if (controller.vs < VS_1_1) return tried;
    const listed = new Set<number>();
    const wrong = await this.#readList(listed);
    if (wrong === null) return [...listed];
    this.#port.log('warn', `${deviceName}: namespaces 1 to ${tried.length} are tried one by one: ${wrong}`);
    return [...new Set([...listed, ...tried])].sort((a, b) => a - b);
  }

  /**
   * Put the active identifiers of the controller's list into `listed`.
   *
   * @returns the fault of the list; null when it has none
   */
  async #readList(listed: Set<number>): Promise<string | null> {
    const { info, admin, deviceName } = this.#port;
    // In a sorted list, the driver believes identifiers above NN, because some controllers have
    // such namespaces. In any other list it believes only those up to NN.
    const highest = Math.min(NSID_LAST, Math.max(info.nn, TRIES_MAX));
    for (let from = 0; listed.size < NAMESPACES_MAX; ) {
      let raw: Uint8Array;
      try {
        raw = await admin.identify(Cns.ACTIVE_NAMESPACES, from);
      } catch (error) {
        if (!(error instanceof NvmeError)) throw error;
        return error.message;
      }
      const view = viewOf(raw);
      const page = Array.from({ length: LIST }, (_, i) => view.getUint32(4 * i, true));
      const end = page.indexOf(0);
      const ids = end < 0 ? page : page.slice(0, end);
      const ordered = ids.every((id, i) => id > (i === 0 ? from : ids[i - 1]!));
      const isList = ids.every((id) => id <= (ordered ? NSID_LAST : highest)) && (end < 0 || page.every((id, i) => i < end || id === 0));
      if (!isList) return 'the data of its list of active namespaces is something else';
      for (const id of ids) listed.add(id);
      if (!ordered) return 'the list of its active namespaces is not in order';
      if (end >= 0) return null;
      from = ids.at(-1)!;
    }
    this.#port.log('warn', `${deviceName} lists more than ${NAMESPACES_MAX} namespaces; the others are left alone`);
    return null;
  }
}
