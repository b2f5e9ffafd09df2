/**
 * The limits of mappings, known before they are hit: locked memory (RLIMIT_MEMLOCK) and the entries
 * of a container (dma_entry_limit).
 *
 * The kernel charges each mapping for all of its pages, also for pages that are mapped twice.
 *
 * @see linux/drivers/vfio/vfio_iommu_type1.c, vfio_pin_pages_remote(); linux/drivers/iommu/iommufd/
 *   pages.c, incr_user_locked_vm()
 */
import { Errno } from '../base/errno.ts';
import { type Memlock, memlock } from '../sys/memlock.ts';

/** Takes a line for people. @param about lines about one thing are limited in rate together */
export type Warn = (about: string, text: string) => void;

/** From this part of a limit on, a line warns. */
const NEAR = 0.9;

export class MappingLimits {
  readonly #backend: { readonly maxMaps: number | null };
  readonly #read: () => Memlock;
  #memlock: Memlock | null = null;
  /** Bytes of this space's mappings. */
  #bytes = 0;
  #warned = { memory: false, entries: false };

  /**
   * @param backend knows the number of mappings once a device is in it
   * @param read for tests. Default: that of this process
   */
  constructor(backend: { readonly maxMaps: number | null }, read: () => Memlock = memlock) {
    this.#backend = backend;
    this.#read = read;
  }

  /**
   * Warn, once, when a mapping of `bytes` brings a limit near.
   *
   * @param entries mappings before it
   */
  before(bytes: number, entries: number, warn: Warn): void {
    this.#memlock ??= this.#read();
    const { limit, locked } = this.#memlock;
    const needed = locked + this.#bytes + bytes;
    if (needed < NEAR * limit) this.#warned.memory = false;
    else if (!this.#warned.memory) {
      this.#warned.memory = true;
      warn('memlock', `mappings for DMA lock ${kib(needed)}; this process may lock ${kib(limit)} (RLIMIT_MEMLOCK)`);
    }
    const max = this.#backend.maxMaps;
    if (max === null) return;
    if (entries + 1 < NEAR * max) this.#warned.entries = false;
    else if (!this.#warned.entries) {
      this.#warned.entries = true;
      warn(
        'dma-entry-limit',
        `the container has ${entries + 1} of at most ${max} DMA mappings; ${Math.max(0, max - entries - 1)} are left`,
      );
    }
  }

  mapped(bytes: number): void {
    this.#bytes += bytes;
  }

  unmapped(bytes: number): void {
    this.#bytes -= bytes;
  }

  /** The numbers behind a refusal of the kernel; null for one that is about no limit. */
  reason(result: number, bytes: number, entries: number): { readonly why: string; readonly fix: string } | null {
    if (result === -Errno.ENOSPC && this.#backend.maxMaps !== null) {
      return {
        why: `the container has ${entries} DMA mappings, and its limit (dma_entry_limit) is ${this.#backend.maxMaps}`,
        fix: 'Map larger pieces, unmap what is not used, or load vfio_iommu_type1 with a larger dma_entry_limit.',
      };
    }
    if (result !== -Errno.ENOMEM) return null;
    const before = this.#memlock?.locked ?? 0;
    const { limit, locked } = this.#read();
    if (limit === Number.POSITIVE_INFINITY) return null;
    const already = Math.max(locked, before + this.#bytes);
    const needed = already + bytes;
    if (needed <= limit) return null;
    return {
      why: `the mapping locks ${kib(bytes)} more, which makes ${kib(needed)} needed; this process may lock ${kib(limit)} (RLIMIT_MEMLOCK)`,
      fix: `Raise the limit to ${needed} bytes (ulimit -l ${Math.ceil(needed / 1024)}, or LimitMEMLOCK=${needed} in a systemd unit), or give the process CAP_IPC_LOCK.`,
    };
  }
}

const kib = (bytes: number): string => `${Math.ceil(bytes / 1024)} KiB`;
