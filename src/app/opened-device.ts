/** A device together with what was opened to get at it: closing one closes all. */
import type { Device, DeviceEvent, FeatureRequest, SetIrqs } from '../abi/device.ts';
import { formatVfToken } from '../abi/vf-token.ts';
import { Cleanup } from '../base/cleanup.ts';
import type { Container } from '../engine/dma/container.ts';
import type { Process } from '../engine/dma/process.ts';
import type { Machine } from '../engine/machine/machine.ts';
import type { PeerCredentials } from '../sys/byte-stream.ts';
import type { PeerProcesses } from './peer-processes.ts';
import { openThrough } from './simulation.ts';

/**
 * Open a device for the client of a socket, as the process that it is. Who may connect was decided by the socket's mode: whoever did is given the group.
 *
 * @throws VfioError what opening group, container and device throws
 */
export function openForPeer(
  machine: Machine,
  bdf: string,
  processes: PeerProcesses,
  peer: PeerCredentials | null,
  vfToken: Uint8Array | null = null,
): { readonly device: OpenedDevice; readonly process: Process } {
  using undo = new Cleanup();
  const { process } = undo.use(processes.acquire(peer));
  machine.chownGroup(machine.function(bdf).group!.id, process.uid);
  const { device, owns } = openThrough(machine, bdf, process, vfToken === null ? undefined : formatVfToken(vfToken));
  undo.use(owns);
  return { device: new OpenedDevice(device, undo.move(), device.container), process };
}

export class OpenedDevice implements Device {
  readonly #device: Device;
  readonly #owns: Disposable;

  /** Where its DMA goes. */
  readonly container: Container;

  /** @param owns disposed after the device */
  constructor(device: Device, owns: Disposable, container: Container) {
    this.container = container;
    this.#device = device;
    this.#owns = owns;
  }

  get info() {
    return this.#device.info;
  }

  get dma() {
    return this.#device.dma;
  }

  region(index: number) {
    return this.#device.region(index);
  }

  irq(index: number) {
    return this.#device.irq(index);
  }

  setIrqs(request: SetIrqs) {
    return this.#device.setIrqs(request);
  }

  reset(): void {
    this.#device.reset();
  }

  hotResetInfo() {
    return this.#device.hotResetInfo();
  }

  feature(request: FeatureRequest) {
    return this.#device.feature(request);
  }

  heldAnswer() {
    return this.#device.heldAnswer?.() ?? null;
  }

  on(listener: (event: DeviceEvent) => void) {
    return this.#device.on(listener);
  }

  close(): void {
    try {
      this.#device.close();
    } finally {
      this.#owns[Symbol.dispose]();
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
