/** The BARs of an open device, as the signals of its ioeventfds write them. */
import type { RegionInfo } from '../../abi/device.ts';
import type { Width } from '../../abi/device-host.ts';
import { RegionFlags } from '../../abi/vfio.ts';
import type { EventSource } from '../../events/source.ts';
import type { FunctionHost } from '../../hardware/function-host.ts';
import type { MsixTable } from '../../hardware/msix-table.ts';
import type { Mediation } from '../mediation/mediation.ts';
import type { IoeventfdTarget } from './ioeventfd.ts';

/** The device whose BARs are written; `VfioPciDevice` is one. */
export interface WrittenDevice {
  readonly bdf: string;
  readonly host: FunctionHost;
  readonly mediation: Pick<Mediation, 'region'> | null;
  readonly resetting: boolean;
  regionInfo(index: number): RegionInfo;
}

export class IoeventfdRegisters implements IoeventfdTarget {
  readonly bdf: string;
  readonly events: EventSource;
  readonly msix: MsixTable | null;
  readonly #device: WrittenDevice;
  readonly #config: () => { readonly memoryEnabled: boolean } | null;

  /**
   * @param config the user's config space; null before the open is over, and after the last close
   */
  constructor(device: WrittenDevice, config: () => { readonly memoryEnabled: boolean } | null) {
    this.bdf = device.bdf;
    this.events = device.host.events;
    this.msix = device.host.msix;
    this.#device = device;
    this.#config = config;
  }

  barSize(index: number): number {
    return this.#device.host.bar(index)?.size ?? 0;
  }

  seesWrites(bar: number): boolean {
    const hooks = this.#device.mediation?.region(bar) ?? null;
    return hooks !== null && (hooks.write !== undefined || (this.#device.regionInfo(bar).flags & RegionFlags.WRITE) === 0);
  }

  signalled(bar: number, offset: number, size: number, data: bigint): void {
    const { host, resetting } = this.#device;
    const config = this.#config();
    if (config === null || resetting) return;
    if (host.bar(bar)!.type !== 'io' && !config.memoryEnabled) return;
    const value = Number(BigInt.asUintN(8 * size, data));
    if (offset % size === 0) host.write(bar, offset, size as Width, value);
    else for (let i = 0; i < size; i++) host.write(bar, offset + i, 1, (value >>> (8 * i)) & 0xff);
  }
}
