/** Get Log Page (NVMe 1.4, 5.14). */
import { EventType, LogId, NSID_ALL } from '../../../abi/nvme.ts';
import { refused, Status } from '../../../abi/nvme-status.ts';
import { CHANGED_NAMESPACES_MAX, COMMANDS_SUPPORTED_IO, COMMANDS_SUPPORTED_SIZE, FirmwareSlotLog } from '../../../abi/nvme-structs.ts';
import type { Command } from '../command.ts';

/** Where log pages come from. */
export interface LogSources {
  firmware(): string;
  errorPage(): Uint8Array;
  smartPage(): Uint8Array;
  /** Namespaces that changed since they were taken last. */
  changedNamespaces(): readonly number[];
  forgetChanged(): void;
  /** Commands Supported and Effects, a dword for each opcode. */
  adminEffects(): Uint32Array;
  ioEffects(): Uint32Array;
  /** The page that events of `type` point to was read. */
  clearEvents(type: number): void;
}

/** Retain Asynchronous Event, CDW10. */
const RAE = 1 << 15;

export interface LogData {
  readonly status: number;
  /** From the offset asked for on, no longer than asked for. */
  readonly bytes: Uint8Array;
}

const failed = (status: number): LogData => ({ status: refused(status), bytes: new Uint8Array(0) });

export class LogPages {
  readonly #sources: LogSources;

  constructor(sources: LogSources) {
    this.#sources = sources;
  }

  /** The answer of Get Log Page. */
  read(command: Command): LogData {
    const { dw, nsid } = command;
    const lid = dw[10]! & 0xff;
    const page = this.#page(lid);
    if (page === null) return failed(Status.INVALID_LOG_PAGE);
    // LPA, bit 0 is 0: the SMART log, like every log, is for the controller and not for a
    // namespace.
    if (nsid !== 0 && nsid !== NSID_ALL) return failed(Status.INVALID_FIELD);
    const offset = dw[12]! + dw[13]! * 2 ** 32;
    if ((offset & 3) !== 0 || offset > page.length) return failed(Status.INVALID_FIELD);
    const dwords = (dw[11]! & 0xffff) * 0x1_0000 + (dw[10]! >>> 16) + 1;
    const bytes = page.subarray(offset, Math.min(page.length, offset + dwords * 4));
    return { status: Status.SUCCESS, bytes };
  }

  /**
   * Called when the page of `command` has reached the host: the next event of this page may be
   * sent, unless the host asked to retain the event.
   */
  wasRead({ dw }: Command): void {
    if ((dw[10]! & RAE) !== 0) return;
    switch (dw[10]! & 0xff) {
      case LogId.ERROR_INFORMATION:
        this.#sources.clearEvents(EventType.ERROR);
        break;
      case LogId.SMART:
        this.#sources.clearEvents(EventType.SMART);
        break;
      case LogId.CHANGED_NAMESPACES:
        this.#sources.forgetChanged();
        this.#sources.clearEvents(EventType.NOTICE);
        break;
    }
  }

  #page(lid: number): Uint8Array | null {
    const sources = this.#sources;
    switch (lid) {
      case LogId.ERROR_INFORMATION:
        return sources.errorPage();
      case LogId.SMART:
        return sources.smartPage();
      case LogId.FIRMWARE_SLOT: {
        const page = new Uint8Array(FirmwareSlotLog.layoutSize);
        FirmwareSlotLog.encode(new DataView(page.buffer), { afi: 1, frs1: sources.firmware() });
        return page;
      }
      case LogId.CHANGED_NAMESPACES: {
        const page = new Uint8Array(CHANGED_NAMESPACES_MAX * 4);
        const view = new DataView(page.buffer);
        const changed = sources.changedNamespaces();
        if (changed.length > CHANGED_NAMESPACES_MAX) view.setUint32(0, NSID_ALL, true);
        else changed.forEach((nsid, i) => void view.setUint32(4 * i, nsid, true));
        return page;
      }
      case LogId.COMMANDS_SUPPORTED: {
        const page = new Uint8Array(COMMANDS_SUPPORTED_SIZE);
        const view = new DataView(page.buffer);
        sources.adminEffects().forEach((effects, opcode) => void view.setUint32(4 * opcode, effects, true));
        sources.ioEffects().forEach((effects, opcode) => void view.setUint32(COMMANDS_SUPPORTED_IO + 4 * opcode, effects, true));
        return page;
      }
      default:
        return null;
    }
  }
}
