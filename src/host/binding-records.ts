/**
 * Records of binds: the driver, the override and the virtual functions that each function had
 * before. `vfio restore` reads them. The file is in /run and ends with the boot, as the binds do.
 */
import { isDriverName } from '../abi/driver-name.ts';
import { VfioError } from '../base/errno.ts';
import type { HostChanges } from '../sys/host-changes.ts';
import type { HostFiles } from '../sys/host-files.ts';
import type { FunctionState } from './function-state.ts';

export const RECORDS_FILE = '/run/vfio-ts/bindings.json';
const SCHEMA = 'vfio-ts/bindings/1';

export interface BindingRecord {
  readonly bdf: string;
  /** vendor:device: another card at the same address has no record. */
  readonly id: string;
  /** As it was before the first bind; null for none. */
  readonly driver: string | null;
  readonly driverOverride: string | null;
  /** Virtual functions that were enabled; null for a function without SR-IOV. */
  readonly numVfs: number | null;
  /** The driver that the bind gave it; null for none. */
  readonly boundTo: string | null;
}

export function recordOf(fn: FunctionState, boundTo: string | null): BindingRecord {
  const { bdf, vendor, device, driver, driverOverride, numVfs } = fn;
  return { bdf, id: `${vendor}:${device}`, driver, driverOverride, numVfs, boundTo };
}

export class BindingRecords {
  readonly path: string;
  readonly #files: HostFiles;
  readonly #host: HostChanges;

  constructor(files: HostFiles, host: HostChanges, path: string = RECORDS_FILE) {
    this.#files = files;
    this.#host = host;
    this.path = path;
  }

  /** @throws VfioError EINVAL for a file that is damaged */
  read(): readonly BindingRecord[] {
    const text = this.#files.text(this.path);
    if (text === null) return [];
    try {
      const document = JSON.parse(text) as { readonly schema?: unknown; readonly bindings?: unknown };
      if (document.schema === SCHEMA && Array.isArray(document.bindings) && document.bindings.every(isRecord)) return document.bindings;
    } catch {
      // The error below says it.
    }
    throw new VfioError('EINVAL', `${this.path} is no file of vfio bind`, {
      fix: `Remove it, and give devices back by hand: vfio bind BDF --driver DRIVER.`,
    });
  }

  /** Keep records for these functions; earlier records of the same card stay as they are. */
  add(records: readonly BindingRecord[]): void {
    const before = this.read();
    const kept = records.map((record) => {
      const earlier = before.find(({ bdf, id }) => bdf === record.bdf && id === record.id);
      return earlier === undefined ? record : { ...earlier, boundTo: record.boundTo };
    });
    this.write([...before.filter(({ bdf }) => !records.some((record) => record.bdf === bdf)), ...kept]);
  }

  write(records: readonly BindingRecord[]): void {
    if (records.length === 0) {
      this.#host.remove(this.path);
      return;
    }
    const sorted = [...records].sort((a, b) => (a.bdf < b.bdf ? -1 : 1));
    this.#host.file(this.path, `${JSON.stringify({ schema: SCHEMA, bindings: sorted }, null, 2)}\n`, 0o644);
  }
}

function isRecord(value: unknown): value is BindingRecord {
  const { bdf, id, driver, driverOverride, numVfs, boundTo } = (value ?? {}) as Record<string, unknown>;
  const isName = (name: unknown) => name === null || (typeof name === 'string' && isDriverName(name));
  return (
    typeof bdf === 'string' &&
    /^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/.test(bdf) &&
    typeof id === 'string' &&
    [driver, driverOverride, boundTo].every(isName) &&
    (numVfs === null || Number.isSafeInteger(numVfs))
  );
}
