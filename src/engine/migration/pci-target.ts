/**
 * A PCI function that is open through VFIO, as migration sees it.
 * docs/decisions/0008-what-a-device-takes-along.md lists the configuration that goes along, and the
 * settings that the next user makes anew.
 */

import type { ModelBulk, ModelMigration } from '../../abi/device-host.ts';
import { type DirectMemory, WINDOW_BYTES } from '../../abi/memory.ts';
import { NUM_REGIONS } from '../../abi/vfio.ts';
import { viewOf } from '../../base/data-view.ts';
import type { FunctionHost } from '../../hardware/function-host.ts';
import type { DevicePower } from '../device/power.ts';
import type { VirtualConfig } from '../device/virtual-config.ts';
import { ConfigState, ConfigStateFlags, encodeIdentity, InterruptState, MODEL_STORE } from './sections.ts';
import { invalid } from './stream-format.ts';
import type { MigrationTarget, TargetStore } from './target.ts';

const BAR_BLOCK = 4096;
/** The most vectors of MSI-X. */
const VECTORS_MAX = 2048;

/**
 * A BAR or region of plain memory as a store. No log records writes to it, because drivers map it.
 */
class BarStore implements ModelBulk {
  readonly size: number;
  readonly blockSize: number;
  readonly #memory: DirectMemory;

  constructor(memory: DirectMemory, size: number) {
    this.#memory = memory;
    this.size = size;
    this.blockSize = Math.min(BAR_BLOCK, size);
  }

  #bytes(block: number): Uint8Array<ArrayBufferLike> {
    const at = block * this.blockSize;
    const start = at % WINDOW_BYTES;
    return this.#memory.windows[Math.floor(at / WINDOW_BYTES)]!.subarray(start, start + this.blockSize);
  }

  present(block: number): boolean {
    return this.#bytes(block).some((byte) => byte !== 0);
  }

  read(block: number, into: Uint8Array): void {
    into.set(this.#bytes(block));
  }

  write(block: number, from: Uint8Array): void {
    this.#bytes(block).set(from);
  }

  startTracking(): void {}
  stopTracking(): void {}

  takeDirty(): number {
    return -1;
  }
}

export interface PciTargetOptions {
  readonly host: FunctionHost;
  readonly model: ModelMigration;
  readonly vconfig: VirtualConfig;
  readonly power: DevicePower;
}

export class PciTarget implements MigrationTarget {
  readonly name: string;
  readonly model: ModelMigration;
  readonly identity: Uint8Array<ArrayBuffer>;
  readonly stores: readonly TargetStore[];
  readonly #host: FunctionHost;
  readonly #vconfig: VirtualConfig;
  readonly #power: DevicePower;

  constructor({ host, model, vconfig, power }: PciTargetOptions) {
    this.name = host.bdf;
    this.model = model;
    this.#host = host;
    this.#vconfig = vconfig;
    this.#power = power;
    this.identity = encodeIdentity(host.declaration, host.config.size, host.msix?.vectors ?? 0);
    const { bars = [], regions = [] } = host.declaration;
    const memories = [...bars, ...regions.map((region, i) => ({ ...region, index: NUM_REGIONS + i }))].filter(
      ({ backing }) => backing === 'memory',
    );
    this.stores = [
      ...(model.bulk === undefined ? [] : [{ id: MODEL_STORE, bulk: model.bulk, tracked: true }]),
      ...memories.map(({ index, size }) => ({ id: 1 + index, bulk: new BarStore(host.barMemory(index), size), tracked: false })),
    ];
  }

  hold(): void {
    this.#host.hold();
  }

  release(): void {
    this.#host.release();
  }

  get draining(): boolean {
    return this.#host.dma.underWay > 0;
  }

  resetModel(): void {
    this.#host.resetModel();
  }

  saveConfig(): Uint8Array<ArrayBuffer> {
    const { config } = this.#host;
    const bytes = new Uint8Array(ConfigState.structSize + 2 * config.size);
    const flags = this.#power.ownState === 'D3hot' ? ConfigStateFlags.D3HOT : 0;
    ConfigState.encode(new DataView(bytes.buffer), 0, { size: config.size, flags });
    bytes.set(config.bytes, ConfigState.structSize);
    bytes.set(this.#vconfig.saveUser(), ConfigState.structSize + config.size);
    return bytes;
  }

  checkConfig(saved: Uint8Array): void {
    const { size } = this.#host.config;
    if (saved.length < ConfigState.structSize) throw invalid('a section CONFIG is cut short');
    const head = ConfigState.decode(viewOf(saved));
    if (head.size !== size || saved.length !== ConfigState.structSize + 2 * size) {
      throw invalid(`its configuration space has ${head.size} bytes; here it has ${size}`);
    }
    if ((head.flags & ~ConfigStateFlags.D3HOT) !== 0) throw invalid(`its configuration has flags 0x${head.flags.toString(16)}`);
  }

  loadConfig(saved: Uint8Array): void {
    const { size, flags } = ConfigState.decode(viewOf(saved));
    const hardware = saved.subarray(ConfigState.structSize, ConfigState.structSize + size);
    this.#vconfig.loadUser(saved.subarray(ConfigState.structSize + size), hardware);
    this.#power.setState((flags & ConfigStateFlags.D3HOT) === 0 ? 'D0' : 'D3hot');
  }

  saveInterrupts(): Uint8Array<ArrayBuffer> {
    const { level, vectors } = this.#host.irq.saveUnsent();
    const bytes = new Uint8Array(InterruptState.structSize + 2 * vectors.length);
    const view = new DataView(bytes.buffer);
    InterruptState.encode(view, 0, { level: level ? 1 : 0, count: vectors.length });
    vectors.forEach((vector, i) => {
      view.setUint16(InterruptState.structSize + 2 * i, vector, true);
    });
    return bytes;
  }

  checkInterrupts(saved: Uint8Array): void {
    if (saved.length < InterruptState.structSize) throw invalid('a section INTERRUPTS is cut short');
    const { level, count } = InterruptState.decode(viewOf(saved));
    if (level > 1 || count > VECTORS_MAX || saved.length !== InterruptState.structSize + 2 * count) {
      throw invalid(`its interrupts are ${count} vectors in ${saved.length} bytes`);
    }
    for (const vector of vectorsOf(saved)) if (vector >= VECTORS_MAX) throw invalid(`interrupt vector ${vector}`);
  }

  loadInterrupts(saved: Uint8Array): void {
    this.#host.irq.loadUnsent(InterruptState.level.get(viewOf(saved), 0) === 1, vectorsOf(saved));
  }
}

function vectorsOf(saved: Uint8Array): number[] {
  const view = viewOf(saved);
  return Array.from({ length: InterruptState.count.get(view, 0) }, (_, i) => view.getUint16(InterruptState.structSize + 2 * i, true));
}
