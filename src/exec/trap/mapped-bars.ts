/**
 * Regions of devices that programs map.
 *
 * The engine says whether a range may be mapped. Registers: Linux then maps the file that stands in
 * for the device's; it has no bytes, and the tracer carries out each access. Plain memory: the
 * program maps that memory itself, which the tracer makes of its call. A range can have both.
 *
 * A mapping of registers is the engine's until no program has its file open or mapped any more, a
 * mapping of memory until no program has that memory mapped, whatever a program unmaps in between.
 */
import type { RegionMapping } from '../../abi/device.ts';
import type { Memory } from '../../abi/memory.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { RegisterMemory } from '../../device/register-memory.ts';
import type { OpenFile } from '../../ioctl/file-table.ts';
import { Prot } from '../../ioctl/posix.ts';
import { mapOf } from '../../ioctl/system-calls.ts';
import { LentMemory } from '../../sys/lent-memory.ts';
import type { MappedArea } from '../../sys/mapped-areas.ts';
import { MemfdMemory } from '../../sys/memfd.ts';
import type { OwnedFd } from '../../sys/owned-fd.ts';
import type { MappedFile, MappedRegisters } from './device-memory.ts';
import type { Call } from './injected-calls.ts';
import { Tracer } from './tracer.ts';

/**
 * How programs reach BARs. 'trap': mapped registers trap. 'poll': so they do, but for doorbells
 * that their device polls. 'rw': no BAR can be mapped.
 */
export type BarAccess = 'trap' | 'poll' | 'rw';

/** The open files of programs. */
export interface FilesOfAreas {
  /**
   * The open file of VFIO that an area of a process's address space shows; null: there is none.
   */
  ofArea(area: MappedArea): OpenFile | null;
}

/** A call of mmap(2) that waits for its answer. */
export interface MapCall {
  readonly thread: number;
  readonly pid: number;
  readonly address: number;
  /** Bytes, whole pages. */
  readonly size: number;
  /** `Prot` */
  readonly prot: number;
  readonly flags: number;
  readonly shared: boolean;
  readonly fd: number;
  /** Byte of the file. */
  readonly position: number;
  /** Gives the program a descriptor. @returns its number there @throws VfioError EMFILE, ESRCH */
  addDescriptor(file: OwnedFd): number;
}

/** Numbers of system calls of x86-64; asm-generic/mman-common.h. */
const MMAP = 9;
const CLOSE = 3;
const MAP_FIXED = 0x10;
const PAGE = 4096;

/** The memory of a device, or its registers, at an address of a program. */
export interface DevicePart {
  readonly memory: Memory;
  /** Bytes, from the memory's start. */
  readonly offset: number;
  /** Bytes from there to the memory's end. */
  readonly size: number;
}

/** Registers that a program has mapped, and the same as memory that devices reach. */
interface KeptRegisters extends MappedRegisters {
  readonly memory: RegisterMemory;
}

/** Part of a mapping that is memory: bytes, from the mapping's start. */
interface Piece {
  readonly offset: number;
  readonly size: number;
}

/** The registers of an open file that programs have mapped. */
class FileMappings implements MappedFile, Disposable {
  readonly #file: OpenFile;
  readonly #mappings: KeptRegisters[] = [];

  constructor(file: OpenFile) {
    this.#file = file;
  }

  /** Keep `mapping`, which begins at byte `position` of the file. */
  keep(position: number, mapping: RegionMapping): void {
    if (this.#mappings.some((known) => known.position === position && known.mapping.size === mapping.size)) mapping[Symbol.dispose]();
    else this.#mappings.push({ position, mapping, memory: new RegisterMemory(mapping) });
  }

  at(position: number): KeptRegisters | null {
    return this.#mappings.find((known) => position >= known.position && position < known.position + known.mapping.size) ?? null;
  }

  heldAnswer(): Promise<void> | null {
    return this.#file.device?.heldAnswer?.() ?? null;
  }

  [Symbol.dispose](): void {
    for (const { mapping, memory } of this.#mappings.splice(0)) {
      memory[Symbol.dispose]();
      mapping[Symbol.dispose]();
    }
  }
}

export interface MappedBarsOptions {
  /** Parts of registers that are memory (`MappingMemory.holds`) are mapped as memory. */
  readonly polled: boolean;
  /** A line for people. */
  readonly report: (line: string) => void;
}

export class MappedBars implements Disposable {
  readonly #mapped = new Map<OpenFile, FileMappings>();
  readonly #files: FilesOfAreas;
  readonly #tracer: Tracer;
  readonly #lent = new LentMemory();
  readonly #polled: boolean;
  /** Mappings of memory that programs have. */
  readonly #memory = new Set<RegionMapping>();

  constructor(files: FilesOfAreas, { polled, report }: MappedBarsOptions) {
    this.#polled = polled;
    this.#files = files;
    this.#tracer = new Tracer({
      files: {
        find: (area) => {
          const file = files.ofArea(area);
          return file === null ? null : (this.#mapped.get(file) ?? null);
        },
      },
      report,
    });
  }

  /** Processes that are traced now. */
  get traced(): number {
    return this.#tracer.processes;
  }

  /** Close the mappings of memory that programs have unmapped, or ended with. */
  settle(): void {
    this.#lent.settle();
  }

  /** Whether the thread's present call is one of ours, and Linux carries it out. */
  isInjecting(thread: number): boolean {
    return this.#tracer.isInjecting(thread);
  }

  /**
   * A program maps a device.
   *
   * @returns true: Linux maps the file that stands in. False: the call's answer does not matter,
   *   because the thread makes others in its place
   * @throws VfioError as `mapOf`; EPERM when the process cannot be traced; EMFILE
   */
  map(call: MapCall, file: OpenFile): boolean {
    const { pid, position, size, prot, shared } = call;
    using undo = new Cleanup();
    const mapping = undo.use(mapOf(file, position, size, prot, shared));
    const pieces = this.#pieces(mapping);
    const [first] = pieces;
    this.#tracer.seize(pid);
    if (first === undefined) this.#keep(file, position, mapping);
    else if (first.size === size) this.#inject(call, mapping, pieces, mapping);
    else {
      // The memory keeps the device open, too.
      const own = undo.use(mapOf(file, position + first.offset, first.size, prot, shared));
      this.#inject(call, mapping, pieces, own);
      this.#keep(file, position, mapping);
    }
    undo.move();
    return first === undefined;
  }

  /**
   * The part of a device that a program sees at byte `position` of the file of `area`.
   *
   * @returns undefined when the area shows no device
   * @throws VfioError EFAULT when the program has no part of the device mapped there
   */
  behind(area: MappedArea, position: number): DevicePart | undefined {
    const lent = area.shared ? this.#lent.find(area.device, area.inode) : null;
    if (lent !== null) return partOf(lent, position - lent.fileOffset);
    const file = this.#files.ofArea(area);
    if (file === null) return undefined;
    const registers = this.#mapped.get(file)?.at(position);
    if (registers == null) throw new VfioError('EFAULT', `no region of a device is mapped at byte ${position} of the file`);
    return partOf(registers.memory, position - registers.position);
  }

  #keep(file: OpenFile, position: number, mapping: RegionMapping): void {
    let mappings = this.#mapped.get(file);
    if (mappings === undefined) {
      mappings = new FileMappings(file);
      this.#mapped.set(file, mappings);
    }
    mappings.keep(position, mapping);
  }

  /** The parts of `mapping` that programs map as memory. */
  #pieces({ memory, size }: RegionMapping): readonly Piece[] {
    if (memory === null || !(memory.memory instanceof MemfdMemory)) return [];
    const { holds, offset } = memory;
    if (holds === undefined) return [{ offset: 0, size }];
    if (!this.#polled) return [];
    const found: Piece[] = [];
    for (const area of holds) {
      const from = Math.max(area.offset - offset, 0);
      const to = Math.min(area.offset + area.size - offset, size);
      if (to > from && from % PAGE === 0 && to % PAGE === 0) found.push({ offset: from, size: to - from });
    }
    return found;
  }

  /**
   * The thread maps the stand-in where there are registers, then the memory, and closes the
   * memory's descriptor.
   *
   * @param own disposed when no program has the memory mapped any more
   */
  #inject(call: MapCall, { memory }: RegionMapping, pieces: readonly Piece[], own: RegionMapping): void {
    const file = memory!.memory as MemfdMemory;
    using lent = this.#lent.lend(file, (call.prot & Prot.WRITE) !== 0, () => {
      this.#memory.delete(own);
      own[Symbol.dispose]();
    });
    this.#memory.add(own);
    const fd = call.addDescriptor(lent);
    const { thread, pid, address, size, prot, flags, position } = call;
    const place = file.fileOffset + memory!.offset;
    const calls: ((start: number) => Call)[] = pieces.map((piece) => (start) => {
      const [at, fixed] = piece.size === size ? [address, flags] : [start + piece.offset, flags | MAP_FIXED];
      return [MMAP, at, piece.size, prot, fixed, fd, place + piece.offset];
    });
    if (pieces[0]!.size < size) calls.unshift(() => [MMAP, address, size, prot, flags, call.fd, position]);
    let made = 0;
    let start = Number.NaN;
    let failure = 0;
    const next = (result: number): Call | null => {
      if (made === 1) start = result;
      if (result < 0 && made <= calls.length) failure = result;
      if (made > calls.length) {
        // Without registers it need not be traced any further.
        this.#tracer.release(pid);
        return null;
      }
      if (failure < 0) made = calls.length;
      const build = calls[made++];
      return build === undefined ? [CLOSE, fd] : build(start);
    };
    this.#tracer.inject(thread, next, () => (failure < 0 ? failure : start));
  }

  /** No program has the file open or mapped any more; the memory may be. */
  closed(file: OpenFile): void {
    const mappings = this.#mapped.get(file);
    if (mappings === undefined) return;
    this.#mapped.delete(file);
    mappings[Symbol.dispose]();
    this.#tracer.release();
  }

  [Symbol.dispose](): void {
    this.#tracer[Symbol.dispose]();
    this.#lent[Symbol.dispose]();
    for (const mappings of this.#mapped.values()) mappings[Symbol.dispose]();
    this.#mapped.clear();
    for (const mapping of this.#memory) mapping[Symbol.dispose]();
    this.#memory.clear();
  }
}

function partOf(memory: Memory, offset: number): DevicePart {
  return { memory, offset, size: memory.size - offset };
}
