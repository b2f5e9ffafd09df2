/**
 * Regions of devices that programs map.
 *
 * The engine says whether a range may be mapped. Linux then maps the file that stands in for the
 * device's; it has no bytes, and the tracer carries out each access. The mappings of an open file
 * are the engine's until no program has the file open or mapped any more, whatever a program unmaps
 * in between.
 */
import type { OpenFile } from '../../ioctl/file-table.ts';
import { mapOf } from '../../ioctl/system-calls.ts';
import type { MappedArea } from '../../sys/mapped-areas.ts';
import type { MappedFile, MappedRegisters } from './device-memory.ts';
import { Tracer } from './tracer.ts';

/** The open files of programs. */
export interface FilesOfAreas {
  /** The open file of VFIO that an area of a process's address space shows; null: there is none. */
  ofArea(area: MappedArea): OpenFile | null;
}

/** A request of mmap(2). */
export interface MapRequest {
  /** Byte of the file. */
  readonly position: number;
  /** Bytes, whole pages. */
  readonly size: number;
  /** `Prot` */
  readonly prot: number;
  readonly shared: boolean;
}

class FileMappings implements MappedFile, Disposable {
  readonly #file: OpenFile;
  readonly #mappings: MappedRegisters[] = [];

  constructor(file: OpenFile) {
    this.#file = file;
  }

  /** @throws VfioError as `mapOf` */
  map({ position, size, prot, shared }: MapRequest): void {
    const mapping = mapOf(this.#file, position, size, prot, shared);
    if (this.#mappings.some((known) => known.position === position && known.mapping.size === mapping.size)) mapping[Symbol.dispose]();
    else this.#mappings.push({ position, mapping });
  }

  at(position: number): MappedRegisters | null {
    return this.#mappings.find((known) => position >= known.position && position < known.position + known.mapping.size) ?? null;
  }

  heldAnswer(): Promise<void> | null {
    return this.#file.device?.heldAnswer?.() ?? null;
  }

  [Symbol.dispose](): void {
    for (const { mapping } of this.#mappings.splice(0)) mapping[Symbol.dispose]();
  }
}

export class MappedBars implements Disposable {
  readonly #mapped = new Map<OpenFile, FileMappings>();
  readonly #tracer: Tracer;

  /** @param report a line for people */
  constructor(files: FilesOfAreas, report: (line: string) => void) {
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

  /**
   * Process `pid` maps a device; Linux makes the mapping afterwards.
   *
   * @throws VfioError as `mapOf`; EPERM when the process cannot be traced
   */
  map(pid: number, file: OpenFile, request: MapRequest): void {
    let mappings = this.#mapped.get(file);
    const isNew = mappings === undefined;
    mappings ??= new FileMappings(file);
    try {
      mappings.map(request);
      this.#mapped.set(file, mappings);
      this.#tracer.seize(pid);
    } catch (error) {
      if (isNew) this.closed(file);
      throw error;
    }
  }

  /** No program has the file open or mapped any more. */
  closed(file: OpenFile): void {
    const mappings = this.#mapped.get(file);
    if (mappings === undefined) return;
    this.#mapped.delete(file);
    mappings[Symbol.dispose]();
    this.#tracer.release();
  }

  [Symbol.dispose](): void {
    this.#tracer[Symbol.dispose]();
    for (const mappings of this.#mapped.values()) mappings[Symbol.dispose]();
    this.#mapped.clear();
  }
}
