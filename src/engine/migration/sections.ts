/**
 * The sections of a device's data: their numbers, versions and layouts. Layouts grow at their end
 * only, with a new version.
 */
import { viewOf } from '../../base/data-view.ts';
import { struct, type Value } from '../../base/struct.ts';
import type { PciDeclaration } from '../../pci/declaration.ts';
import { invalid, type SectionKind } from './stream-format.ts';

export const Section = {
  /** The identity of the device; the first section. */
  IDENTITY: 1,
  /** The size of a store and of its blocks; before the blocks. */
  STORE: 2,
  BLOCKS: 3,
  /** Blocks that read as zeroes. */
  ZERO_BLOCKS: 4,
  /** Configuration space. */
  CONFIG: 5,
  /** Interrupts that wait to be signalled. */
  INTERRUPTS: 6,
  /** The model's own state. */
  MODEL: 7,
  /** The last section. */
  END: 8,
} as const;
export type Section = (typeof Section)[keyof typeof Section];

/** Bytes of blocks in one section; a larger block has a section of its own. */
export const BLOCKS_BYTES = 256 * 1024;
/**
 * Blocks in one section of zeroes. The number bounds the work of one read, and of a few bytes that
 * arrive.
 */
export const ZERO_BLOCKS_MAX = 65536;
/** The most bytes of a model's own state. */
const MODEL_STATE_MAX = 2 ** 28;
/** The largest block: no model here has larger ones. */
const BLOCK_SIZE_MAX = 2 ** 24;

export const sectionKinds: ReadonlyMap<number, SectionKind> = new Map<Section, SectionKind>([
  [Section.IDENTITY, { name: 'IDENTITY', version: 1, max: 4096 }],
  [Section.STORE, { name: 'STORE', version: 1, max: 64 }],
  [Section.BLOCKS, { name: 'BLOCKS', version: 1, max: 16 + Math.max(BLOCKS_BYTES, BLOCK_SIZE_MAX) }],
  [Section.ZERO_BLOCKS, { name: 'ZERO_BLOCKS', version: 1, max: 64 }],
  [Section.CONFIG, { name: 'CONFIG', version: 1, max: 16 + 2 * 4096 }],
  [Section.INTERRUPTS, { name: 'INTERRUPTS', version: 1, max: 8 + 2 * 4096 }],
  [Section.MODEL, { name: 'MODEL', version: 1, max: 4 + MODEL_STATE_MAX }],
  [Section.END, { name: 'END', version: 1, max: 64 }],
]);

/** Followed by `bars` IdentityBar and the name's UTF-8. */
const Identity = struct('identity', 24, {
  vendor: 'u16',
  device: 'u16',
  subsystem_vendor: 'u16',
  subsystem: 'u16',
  class_code: 'u32',
  config_bytes: 'u16',
  msix_vectors: 'u16',
  revision: 'u8',
  interrupt_pin: 'u8',
  bars: 'u8',
  reserved: 'u8',
  name_bytes: 'u32',
});
/** `type` 0 mem32, 1 mem64, 2 io; `backing` 0 registers, 1 memory. */
const IdentityBar = struct('identity_bar', 16, { index: 'u8', type: 'u8', backing: 'u8', reserved: 'u8', reserved2: 'u32', size: 'u64' });

const barTypes = ['mem32', 'mem64', 'io'] as const;

/** Two devices with the same bytes can be moved from one to the other. */
export function encodeIdentity(declaration: PciDeclaration, configBytes: number, msixVectors: number): Uint8Array<ArrayBuffer> {
  const bars = declaration.bars ?? [];
  const name = new TextEncoder().encode(declaration.name).subarray(0, 1024);
  const bytes = new Uint8Array(Identity.structSize + bars.length * IdentityBar.structSize + name.length);
  const view = new DataView(bytes.buffer);
  Identity.encode(view, 0, {
    vendor: declaration.vendor,
    device: declaration.device,
    subsystem_vendor: declaration.subsystemVendor ?? 0,
    subsystem: declaration.subsystem ?? 0,
    class_code: declaration.classCode,
    config_bytes: configBytes,
    msix_vectors: msixVectors,
    revision: declaration.revision ?? 0,
    interrupt_pin: declaration.interruptPin ?? 0,
    bars: bars.length,
    name_bytes: name.length,
  });
  bars.forEach(({ index, type, backing, size }, i) => {
    IdentityBar.encode(view, Identity.structSize + i * IdentityBar.structSize, {
      index,
      type: barTypes.indexOf(type),
      backing: backing === 'memory' ? 1 : 0,
      size: BigInt(size),
    });
  });
  bytes.set(name, bytes.length - name.length);
  return bytes;
}

/** @throws VfioError EINVAL with the difference between the two devices */
export function checkIdentity(theirs: Uint8Array, ours: Uint8Array): void {
  if (theirs.length < Identity.structSize) throw invalid('it does not say whose it is');
  const a = Identity.decode(viewOf(theirs));
  const b = Identity.decode(viewOf(ours));
  for (const field of Object.keys(b) as (keyof typeof b)[]) {
    if (a[field] === b[field] || field === 'name_bytes') continue;
    const shown = (value: number) => (field === 'bars' || field === 'msix_vectors' ? value : `0x${value.toString(16)}`);
    throw invalid(`it is of a device with ${field.replaceAll('_', ' ')} ${shown(a[field])}; this one has ${shown(b[field])}`);
  }
  for (let i = 0; i < b.bars; i++) {
    const at = Identity.structSize + i * IdentityBar.structSize;
    if (theirs.length < at + IdentityBar.structSize) throw invalid('it ends within a BAR');
    const bar = IdentityBar.decode(viewOf(theirs), at);
    const own = IdentityBar.decode(viewOf(ours), at);
    if (bar.index === own.index && bar.type === own.type && bar.backing === own.backing && bar.size === own.size) continue;
    const of = ({ index, type, backing, size }: typeof own) =>
      `BAR ${index} of ${size} bytes (${barTypes[type] ?? type}, ${backing === 1 ? 'memory' : 'registers'})`;
    throw invalid(`it is of a device with ${of(bar)}; this one has ${of(own)}`);
  }
  const rest = Identity.structSize + b.bars * IdentityBar.structSize;
  const name = (bytes: Uint8Array) => new TextDecoder().decode(bytes.subarray(rest));
  if (name(theirs) !== name(ours)) throw invalid(`it is of the device '${name(theirs)}'; this one is '${name(ours)}'`);
}

/** A store: 0 is the model's own bulk; 1 + n is BAR n, where that is plain memory. */
export const MODEL_STORE = 0;

export const Store = struct('store', 24, { store: 'u32', block_size: 'u32', size: 'u64', reserved: 'u64' });
/** Followed by `count` blocks. */
export const Blocks = struct('blocks', 16, { store: 'u32', count: 'u32', first: 'u64' });
export const ZeroBlocks = struct('zero_blocks', 24, { store: 'u32', reserved: 'u32', first: 'u64', count: 'u64' });
/** Followed by `size` bytes of the hardware's config space, and as many of the user's copy. */
export const ConfigState = struct('config', 8, { size: 'u32', flags: 'u32' });
export const ConfigStateFlags = { D3HOT: 1 } as const;
/** Followed by `count` vectors (u16) of messages that the device has not sent yet. */
export const InterruptState = struct('interrupts', 8, { level: 'u32', count: 'u32' });
/** Followed by the result of `ModelMigration.save`. */
export const ModelState = struct('model', 4, { version: 'u32' });
/** The number of blocks that were sent, for the reader's check. */
export const End = struct('end', 16, { blocks: 'u64', reserved: 'u64' });

export type Store = Value<typeof Store>;
