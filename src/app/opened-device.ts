/** A device together with what was opened to get at it: closing one closes all. */
import type { Device, DeviceEvent, FeatureRequest, SetIrqs } from '../abi/device.ts';

export class OpenedDevice implements Device {
  readonly #device: Device;
  readonly #owns: Disposable;

  /** @param owns disposed after the device */
  constructor(device: Device, owns: Disposable) {
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
