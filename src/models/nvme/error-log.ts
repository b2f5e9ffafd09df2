/**
 * The Error Information log (NVMe 1.4, 5.14.1.1): the newest errors, of commands and of the
 * controller itself.
 */
import { NvmOpcode } from '../../abi/nvme.ts';
import { ErrorLogEntry } from '../../abi/nvme-structs.ts';
import type { Command } from './command.ts';

/** Entries kept: ELPE + 1. */
export const ERROR_LOG_ENTRIES = 64;
const SIZE = ErrorLogEntry.layoutSize;
export const ERROR_LOG_BYTES = ERROR_LOG_ENTRIES * SIZE;
/** SQID, CID, and parameter error location of what is not about a command or a field. */
const NONE = 0xffff;

export class ErrorLog {
  /** Errors since the beginning: each entry has its number. */
  count = 0;
  readonly #entries = new Uint8Array(ERROR_LOG_BYTES);
  readonly #view = new DataView(this.#entries.buffer);

  /** @param command  null: it is about none   @param status  status field, without the phase tag */
  record(command: Command | null, status: number): void {
    const view = this.#view;
    const base = (this.count % ERROR_LOG_ENTRIES) * SIZE;
    this.count++;
    this.#entries.fill(0, base, base + SIZE);
    view.setUint32(base, this.count >>> 0, true);
    view.setUint32(base + 4, Math.floor(this.count / 2 ** 32), true);
    ErrorLogEntry.sqid.set(view, command === null ? NONE : command.queueId, base);
    ErrorLogEntry.cid.set(view, command === null ? NONE : command.id, base);
    ErrorLogEntry.status.set(view, (status << 1) & 0xffff, base);
    ErrorLogEntry.parameterErrorLocation.set(view, NONE, base);
    if (command === null) return;
    ErrorLogEntry.nsid.set(view, command.nsid, base);
    if (command.queueId === 0 || !hasLba(command.opcode)) return;
    view.setUint32(base + ErrorLogEntry.lba.offset, command.dw[10]!, true);
    view.setUint32(base + ErrorLogEntry.lba.offset + 4, command.dw[11]!, true);
  }

  /** All entries, where `count` puts them. */
  get entries(): Uint8Array {
    return this.#entries;
  }

  set entries(entries: Uint8Array) {
    this.#entries.set(entries);
  }

  /** The log page: newest first, then empty entries. */
  page(): Uint8Array {
    const page = new Uint8Array(this.#entries.length);
    const held = Math.min(this.count, ERROR_LOG_ENTRIES);
    for (let i = 0; i < held; i++) {
      const at = ((this.count - 1 - i) % ERROR_LOG_ENTRIES) * SIZE;
      page.set(this.#entries.subarray(at, at + SIZE), i * SIZE);
    }
    return page;
  }
}

function hasLba(opcode: number): boolean {
  return opcode !== NvmOpcode.FLUSH && opcode !== NvmOpcode.DATASET_MANAGEMENT && opcode <= NvmOpcode.VERIFY;
}
