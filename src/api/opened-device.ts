/**
 * A device together with the resources that were opened to reach it. Closing the device closes all.
 */

import type { Device, DeviceEvent, DeviceEventKind, DmaBufRequest, FeatureRequest, SetIrqs } from '../abi/device.ts';
import type { EventKind, EventOptions } from '../abi/event.ts';
import { formatVfToken } from '../abi/vf-token.ts';
import { Cleanup } from '../base/cleanup.ts';
import type { DeviceFile } from '../engine/device/device-file.ts';
import type { Container } from '../engine/dma/container.ts';
import type { Process } from '../engine/dma/process.ts';
import type { Machine } from '../engine/machine/machine.ts';
import type { PeerCredentials } from '../sys/byte-stream.ts';
import type { GroupUse, GroupUses } from './group-use.ts';
import type { PeerProcesses } from './peer-processes.ts';
import type { DmaView } from './shared-dma.ts';

/**
 * Open a device for the client of a socket, on the account of the client's process. The socket's
 * mode decided which users may connect: a client that connected gets the group, unless another
 * process has the group.
 *
 * @param mayShare is called before another connection of the process opens a device of the group;
 *   throws the reason of a refusal
 * @throws VfioError EBUSY while another process has the group; errors of opening group, container
 *   and device
 */
export function openForPeer(
  machine: Machine,
  bdf: string,
  processes: PeerProcesses,
  peer: PeerCredentials | null,
  vfToken: Uint8Array | null = null,
  mayShare: () => void = () => {},
): { readonly device: OpenedDevice; readonly process: Process } {
  using undo = new Cleanup();
  const held = undo.use(processes.acquire(peer));
  const token = vfToken === null ? undefined : formatVfToken(vfToken);
  const device = openForProcess(machine, bdf, held.process, processes.groups, token, mayShare);
  device.keep(undo.move());
  return { device, process: held.process };
}

/**
 * The same for a process that the caller knows.
 *
 * @throws VfioError as `openForPeer`
 */
export function openForProcess(
  machine: Machine,
  bdf: string,
  process: Process,
  groups: GroupUses,
  token?: string,
  mayShare: () => void = () => {},
): OpenedDevice {
  using undo = new Cleanup();
  const { device, use } = undo.use(groups.open(machine, bdf, process, token, mayShare));
  const dma = undo.use(use.dma.view(device.dma, bdf));
  return new OpenedDevice(device, dma, use, undo.move());
}

export class OpenedDevice implements Device {
  readonly #device: DeviceFile;
  readonly #owns: Disposable;
  readonly #kept = new Cleanup();

  /**
   * The device's mappings of the container, without mappings of the process's other connections.
   */
  readonly dma: DmaView;
  /** The process's use of the group that the device is in. */
  readonly use: GroupUse;

  /** @param owns disposed after the device */
  constructor(device: DeviceFile, dma: DmaView, use: GroupUse, owns: Disposable) {
    this.dma = dma;
    this.use = use;
    this.#device = device;
    this.#owns = owns;
  }

  /** Dispose `resource` after all other resources. */
  keep(resource: Disposable): void {
    this.#kept.use(resource);
  }

  /** The container that the device's DMA reaches. */
  get container(): Container {
    return this.use.container;
  }

  get info() {
    return this.#device.info;
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

  events<K extends EventKind = EventKind>(options?: EventOptions<K>) {
    return this.#device.events(options);
  }

  get eventPort() {
    return this.#device.eventPort;
  }

  hotResetInfo() {
    return this.#device.hotResetInfo();
  }

  resetBus(others: readonly Device[] = []): void {
    this.#device.resetBus(others.map((other) => (other instanceof OpenedDevice ? other.#device : other)));
  }

  feature(request: FeatureRequest) {
    return this.#device.feature(request);
  }

  get migration() {
    return this.#device.migration;
  }

  get dmaLogging() {
    return this.#device.dmaLogging;
  }

  get lowPower() {
    return this.#device.lowPower;
  }

  get sleepNotice() {
    return this.#device.sleepNotice;
  }

  exportDmaBuf(request: DmaBufRequest) {
    return this.#device.exportDmaBuf(request);
  }

  setVfToken(token: Uint8Array): void {
    this.#device.setVfToken(token);
  }

  heldAnswer() {
    return this.#device.heldAnswer();
  }

  awake() {
    return this.#device.awake();
  }

  on(listener: (event: DeviceEvent) => void, kinds?: readonly DeviceEventKind[]) {
    return this.#device.on(listener, kinds);
  }

  close(): void {
    using _last = this.#kept;
    using _then = this.#owns;
    this.#device.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
