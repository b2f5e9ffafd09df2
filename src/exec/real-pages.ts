/**
 * The memory that a program gives to devices. Memory in a shared file (a memfd, /dev/shm, huge
 * pages) is mapped here as well, and devices reach it without a copy; it stays when the program
 * unmaps it, as pinned pages do. Regions of devices that the program has mapped are reached as
 * regions (peer-to-peer). All other memory is copied for each access, for as long as the program
 * has it mapped.
 */
import { Access } from '../abi/memory.ts';
import { hex } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';
import type { Segment } from '../engine/dma/address-space.ts';
import type { UserPages } from '../engine/dma/process.ts';
import { CopiedMemory } from '../sys/copied-memory.ts';
import { type MappedArea, MappedAreas } from '../sys/mapped-areas.ts';
import type { PeerFiles } from '../sys/peer-files.ts';
import type { ProcessHandle } from '../sys/process-handle.ts';
import type { DevicePart } from './trap/mapped-bars.ts';

/** Parts of devices that programs have mapped; see `MappedBars.behind`. */
export interface MappedDevices {
  behind(area: MappedArea, position: number): DevicePart | undefined;
}

export class RealPages implements UserPages, Disposable {
  readonly #process: ProcessHandle;
  /** Files that programs share with devices. */
  readonly #files: PeerFiles;
  /** Of the program that the process executes now. */
  readonly #devices: MappedDevices;
  #copied: CopiedMemory;
  readonly #areas: MappedAreas;
  readonly #refresh: () => void;

  /** @param refresh called before the limits of the process are looked at */
  constructor(process: ProcessHandle, files: PeerFiles, devices: MappedDevices, refresh: () => void) {
    this.#devices = devices;
    this.#process = process;
    this.#files = files;
    this.#copied = new CopiedMemory(process.pid);
    this.#areas = new MappedAreas(process.pid, () => {
      this.#drop();
      this.#copied = new CopiedMemory(process.pid);
    });
    this.#refresh = refresh;
  }

  resolve(vaddr: bigint, size: bigint, access: Access): Segment[] {
    this.#refresh();
    const end = Number(vaddr + size);
    const segments: Segment[] = [];
    for (let at = Number(vaddr); at < end; ) {
      const { area } = this.#areas;
      if (!this.#areas.find(at) || area.first > at || !allows(area, access)) {
        throw new VfioError(
          'EFAULT',
          `the memory at vaddr ${hex(BigInt(at))} is not mapped by process ${this.#process.pid}, or not for the access that the device is to have`,
          { fix: 'Map memory there first, with the access that the device needs, or ask for less in the DMA mapping.' },
        );
      }
      const piece = this.#piece(area, at, Math.min(area.end, end) - at, access);
      const before = segments.at(-1);
      if (before !== undefined && before.memory === piece.memory && before.offset + before.size === piece.offset) {
        segments[segments.length - 1] = { ...before, size: before.size + piece.size };
      } else segments.push(piece);
      at += piece.size;
    }
    return segments;
  }

  #piece(area: MappedArea, at: number, size: number, access: Access): Segment {
    if (area.shared && area.inode !== 0n) {
      const offset = area.offset + (at - area.first);
      const part = this.#devices.behind(area, offset);
      // Not pages that could be locked.
      if (part !== undefined) return { ...part, size: Math.min(size, part.size), counted: false };
      const range = this.#files.mapped(area.device, area.inode, offset, size, access) ?? this.#mapped(offset, size, access);
      if (range !== null) return { memory: range.memory, offset: range.offset, size, counted: true };
    }
    return { memory: this.#copied, offset: at, size, counted: true };
  }

  #mapped(offset: number, size: number, access: Access) {
    const file = this.#areas.open(this.#process);
    return file === null ? null : this.#files.range(file, offset, size, access);
  }

  /**
   * The process is about to execute another program. Devices do not reach that one's memory by
   * mappings of this one.
   */
  executes(): void {
    const areas = this.#areas;
    this.#copied.doubt(() => areas.isSame);
  }

  #drop(): void {
    this.#copied.lose();
    this.#copied[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.#areas[Symbol.dispose]();
    this.#drop();
  }
}

function allows({ readable, writable }: MappedArea, access: Access): boolean {
  return ((access & Access.READ) === 0 || readable) && ((access & Access.WRITE) === 0 || writable);
}
