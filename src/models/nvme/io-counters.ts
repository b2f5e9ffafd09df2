/** The SMART log's counts of I/O commands (NVMe 1.4, 5.14.1.2), since power on. */
import { NvmOpcode } from '../../abi/nvme.ts';
import { Status } from '../../abi/nvme-status.ts';

/** Units are of 512 bytes. */
export interface NvmCounters {
  readonly unitsRead: number;
  readonly unitsWritten: number;
  readonly readCommands: number;
  readonly writeCommands: number;
  readonly mediaErrors: number;
}

export const IO_COUNTERS = [
  'unitsRead',
  'unitsWritten',
  'readCommands',
  'writeCommands',
  'mediaErrors',
] as const satisfies readonly (keyof NvmCounters)[];

export class IoCounters implements NvmCounters {
  unitsRead = 0;
  unitsWritten = 0;
  readCommands = 0;
  writeCommands = 0;
  mediaErrors = 0;

  clear(): void {
    for (const name of IO_COUNTERS) this[name] = 0;
  }

  /** Reads and writes that have succeeded: how many, and the bytes of all of them. */
  countMany(reads: number, bytesRead: number, writes: number, bytesWritten: number): void {
    this.readCommands += reads;
    this.unitsRead += bytesRead / 512;
    this.writeCommands += writes;
    this.unitsWritten += bytesWritten / 512;
  }

  /** A command that touched `bytes` of the storage has ended. */
  count(opcode: number, bytes: number, status: number): void {
    if (status === Status.UNRECOVERED_READ_ERROR) this.mediaErrors++;
    if (status !== Status.SUCCESS && status !== Status.COMPARE_FAILURE) return;
    switch (opcode) {
      case NvmOpcode.READ:
      case NvmOpcode.COMPARE:
        this.readCommands++;
        this.unitsRead += bytes / 512;
        break;
      case NvmOpcode.VERIFY:
        this.unitsRead += bytes / 512;
        break;
      case NvmOpcode.WRITE:
        this.writeCommands++;
        this.unitsWritten += bytes / 512;
        break;
    }
  }
}
