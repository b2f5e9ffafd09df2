/**
 * The memory that a program gives to devices. Memory in a shared file (a memfd, /dev/shm, huge
 * pages) is mapped here as well, and devices reach it without a copy; it stays when the program
 * unmaps it, as pinned pages do. All other memory is copied for each access, for as long as the
 * program has it mapped.
 */
import { Access } from '../abi/memory.ts';
import { hex } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';
import type { Segment } from '../engine/dma/address-space.ts';
import type { UserPages } from '../engine/dma/process.ts';
import { CopiedMemory } from '../sys/copied-memory.ts';
import { type MappedArea, mappedAreas, openMapped } from '../sys/mapped-areas.ts';
import type { PeerFiles } from '../sys/peer-files.ts';

export class RealPages implements UserPages {
  readonly #pid: number;
  /** Files that programs share with devices. */
  readonly #files: PeerFiles;
  readonly #copied: CopiedMemory;
  /** Called before the program's limits are looked at. */
  refresh: () => void = () => {};

  constructor(pid: number, files: PeerFiles) {
    this.#pid = pid;
    this.#files = files;
    this.#copied = new CopiedMemory(pid);
  }

  resolve(vaddr: bigint, size: bigint, access: Access): Segment[] {
    this.refresh();
    const first = Number(vaddr);
    const end = first + Number(size);
    const segments: { memory: Segment['memory']; offset: number; size: number; counted: boolean }[] = [];
    let at = first;
    for (const area of mappedAreas(this.#pid, first, end)) {
      if (area.first > at) break;
      if ((access & Access.READ) !== 0 && !area.readable) break;
      if ((access & Access.WRITE) !== 0 && !area.writable) break;
      const next = Math.min(area.end, end);
      const piece = this.#piece(area, at, next - at, access);
      const before = segments.at(-1);
      if (before !== undefined && before.memory === piece.memory && before.offset + before.size === piece.offset) before.size += piece.size;
      else segments.push({ ...piece });
      at = next;
    }
    if (at < end) {
      throw new VfioError(
        'EFAULT',
        `the memory at vaddr ${hex(BigInt(at))} is not mapped by process ${this.#pid}, or not for what the device may do`,
        {
          fix: 'Map memory there first, with the access that the device needs, or ask for less in the DMA mapping.',
        },
      );
    }
    return segments;
  }

  #piece(area: MappedArea, at: number, size: number, access: Access): Segment {
    if (area.shared && area.inode !== 0n) {
      const file = openMapped(this.#pid, area);
      if (file !== null) {
        const { memory, offset } = this.#files.range(file, area.offset + (at - area.first), size, access);
        return { memory, offset, size, counted: true };
      }
    }
    return { memory: this.#copied, offset: at, size, counted: true };
  }
}
