/**
 * Virtio over PCI as software sees it: the structures that a modern device locates by capabilities,
 * and split virtqueues in the driver's memory.
 *
 * @see Virtual I/O Device (VIRTIO) Version 1.2: 2.1 status, 2.7 split virtqueues, 4.1 virtio over
 *   PCI, 6 reserved feature bits
 */
import { registers, u8, u16, u32, u64 } from '../base/registers.ts';

/** The common configuration (4.1.4.3), from the offset that its capability names. */
export const virtioCommon = {
  deviceFeatureSelect: u32(0x00),
  deviceFeature: u32(0x04, 'ro'),
  driverFeatureSelect: u32(0x08),
  driverFeature: u32(0x0c),
  configVector: u16(0x10),
  numQueues: u16(0x12, 'ro'),
  deviceStatus: u8(0x14),
  configGeneration: u8(0x15, 'ro'),
  queueSelect: u16(0x16),
  queueSize: u16(0x18),
  queueVector: u16(0x1a),
  queueEnable: u16(0x1c),
  queueNotifyOffset: u16(0x1e, 'ro'),
  queueDescriptors: u64(0x20),
  queueDriver: u64(0x28),
  queueDevice: u64(0x30),
} as const;

/** Bytes of the common configuration. */
export const VIRTIO_COMMON_BYTES = 0x38;

/**
 * The window onto a BAR (4.1.4.9) in config space: an access to `data` is one to `length` bytes of
 * BAR `bar` at `offset`.
 *
 * @param at the offset of its capability
 */
export function virtioWindow(at: number) {
  return registers({ bar: u8(at + 4), offset: u32(at + 8), length: u32(at + 12), data: u32(at + 16) });
}

/** Kinds of structures that capabilities locate (4.1.4). */
export const VirtioCapType = { COMMON: 1, NOTIFY: 2, ISR: 3, DEVICE: 4, WINDOW: 5 } as const;

/** Bits of `deviceStatus` (2.1). */
export const VirtioStatus = { ACKNOWLEDGE: 1, DRIVER: 2, DRIVER_OK: 4, FEATURES_OK: 8, NEEDS_RESET: 64, FAILED: 128 } as const;

/** Feature bits 32 to 63, in the register that select 1 shows (6). */
export const VirtioFeatureHigh = { VERSION_1: 1 << 0, ACCESS_PLATFORM: 1 << 1 } as const;

/** Bits of the ISR (4.1.4.5). */
export const VirtioIsr = { QUEUE: 1, CONFIG: 2 } as const;

/** A vector register without a vector. */
export const VIRTIO_NO_VECTOR = 0xffff;

/** Descriptors of a split virtqueue (2.7.5), and the flag of its available ring (2.7.6). */
export const VirtioDescriptor = { BYTES: 16, NEXT: 1, WRITE: 2 } as const;
export const VIRTIO_NO_INTERRUPT = 1;
