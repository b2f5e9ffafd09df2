/**
 * A model that can be moved, with the optional states that a test chooses, and a store whose blocks
 * a test writes.
 */
import type { DeviceHost, Model, ModelBulk, ModelMigration, ModelPeerToPeer, Width } from '../../src/abi/device-host.ts';
import { VfioError } from '../../src/base/errno.ts';
import { msix, pcie } from '../../src/pci/capabilities.ts';
import type { DeviceModel, PciDeclaration } from '../../src/pci/declaration.ts';

export interface MovableOptions {
  readonly bulk?: boolean;
  readonly p2p?: boolean;
  readonly blocks?: number;
  readonly blockSize?: number;
  readonly declaration?: Partial<PciDeclaration>;
}

const declaration: PciDeclaration = {
  name: 'movable',
  vendor: 0x1234,
  device: 0x4d4d,
  classCode: 0x088000,
  bars: [
    { index: 0, size: 0x4000, type: 'mem32' },
    { index: 2, size: 0x8000, type: 'mem32', backing: 'memory' },
  ],
  interruptPin: 1,
  capabilities: [pcie({ flr: true }), msix({ vectors: 8, tableBar: 0, tableOffset: 0x2000, pbaBar: 0, pbaOffset: 0x3000 })],
};

/** Registers that do something; the others below 0x100 keep what is written. */
export const Movable = {
  /** A block's number << 8, and the value of its bytes. */
  FILL: 0xf0,
  /** The target of a DMA of 64 bytes: the number of a page. */
  SEND: 0xf4,
  /** The block whose first byte this register shows. */
  LOOK: 0xf8,
} as const;

/** Blocks that are not there read as zeroes. */
export class TestStore implements ModelBulk {
  readonly size: number;
  readonly blockSize: number;
  readonly blocks = new Map<number, Uint8Array>();
  readonly dirty = new Set<number>();
  tracking = false;

  constructor(blocks: number, blockSize: number) {
    this.size = blocks * blockSize;
    this.blockSize = blockSize;
  }

  present(block: number): boolean {
    return this.blocks.has(block);
  }

  read(block: number, into: Uint8Array): void {
    into.set(this.blocks.get(block) ?? new Uint8Array(this.blockSize));
  }

  write(block: number, from: Uint8Array): void {
    if (block * this.blockSize >= this.size || from.length !== this.blockSize) throw new Error(`block ${block}, ${from.length} bytes`);
    if (from.some((byte) => byte !== 0)) this.blocks.set(block, from.slice());
    else this.blocks.delete(block);
    if (this.tracking) this.dirty.add(block);
  }

  startTracking(): void {
    this.tracking = true;
    this.dirty.clear();
  }

  stopTracking(): void {
    this.tracking = false;
    this.dirty.clear();
  }

  takeDirty(from: number): number {
    let least = -1;
    for (const block of this.dirty) if (block >= from && (least < 0 || block < least)) least = block;
    this.dirty.delete(least);
    return least;
  }

  /** Block to its bytes, for comparing. */
  get contents(): ReadonlyMap<number, string> {
    return new Map([...this.blocks].sort(([a], [b]) => a - b).map(([block, bytes]) => [block, Buffer.from(bytes).toString('hex')]));
  }
}

export class MovableModel implements Model, ModelMigration {
  readonly host: DeviceHost;
  readonly words = new Uint32Array(64);
  readonly store: TestStore;
  /** The calls that it got, in order. */
  readonly calls: string[] = [];
  /** The next call of this name throws this. */
  readonly failures = new Map<string, unknown>();
  version = 3;
  readonly bulk?: ModelBulk;
  readonly p2p?: ModelPeerToPeer;

  constructor(host: DeviceHost, options: MovableOptions = {}) {
    this.host = host;
    this.store = new TestStore(options.blocks ?? 64, options.blockSize ?? 512);
    if (options.bulk === true) this.bulk = this.store;
    if (options.p2p === true) this.p2p = { enter: () => this.#called('enter'), leave: () => this.#called('leave') };
  }

  get migration(): ModelMigration {
    return this;
  }

  #called(name: string): void {
    this.calls.push(name);
    const failure = this.failures.get(name);
    this.failures.delete(name);
    if (failure !== undefined) throw failure;
  }

  read(_bar: number, offset: number, _width: Width): number {
    if (offset === Movable.LOOK) return this.store.blocks.get(this.words[offset >>> 2]!)?.[0] ?? 0;
    return this.words[offset >>> 2] ?? 0;
  }

  write(_bar: number, offset: number, _width: Width, value: number): void {
    this.words[offset >>> 2] = value;
    if (offset === Movable.FILL) this.store.write(value >>> 8, new Uint8Array(this.store.blockSize).fill(value));
    if (offset === Movable.SEND) this.host.dma.write(value, new Uint8Array(64).fill(value >>> 12)).catch(() => {});
  }

  reset(): void {
    this.#called('reset');
    this.words.fill(0);
  }

  stop(): void {
    this.#called('stop');
  }

  start(): void {
    this.#called('start');
  }

  save(): Uint8Array {
    this.#called('save');
    return new Uint8Array(this.words.slice().buffer);
  }

  load(state: Uint8Array, version: number): void {
    this.#called(`load ${version}`);
    if (state.length !== this.words.byteLength) throw new VfioError('EINVAL', `a state of ${state.length} bytes`);
    this.words.set(new Uint32Array(state.slice().buffer));
  }
}

export function movable(options: MovableOptions = {}): DeviceModel {
  return {
    declaration: { ...declaration, ...options.declaration },
    create: (host) => new MovableModel(host, options),
  };
}
