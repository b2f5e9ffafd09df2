/**
 * The endpoint test function of Linux's PCI endpoint framework, as its driver `pci_endpoint_test`
 * sees it.
 *
 * @see linux/drivers/misc/pci_endpoint_test.c, linux/include/uapi/linux/pcitest.h,
 *   linux/Documentation/PCI/endpoint/pci-test-function.rst
 */
import { registers, u32 } from '../base/registers.ts';

/** `vendor:device` of Texas Instruments' DRA74x, the first that the driver took. */
export const ENDPOINT_TEST_IDS = { vendor: 0x104c, device: 0xb500 } as const;

/** Registers in BAR 0. */
export const EndpointTestRegisters = registers({
  magic: u32(0x00),
  command: u32(0x04),
  status: u32(0x08),
  sourceLow: u32(0x0c),
  sourceHigh: u32(0x10),
  destinationLow: u32(0x14),
  destinationHigh: u32(0x18),
  /** Bytes of a transfer; of the commands of a BAR's halves: the number of the BAR. */
  size: u32(0x1c),
  /** CRC-32 as Linux's `crc32_le(~0, …)`: without the inversion at the end. */
  checksum: u32(0x20),
  irqType: u32(0x24),
  /** The message that ends a command, from 1. */
  irqNumber: u32(0x28),
  flags: u32(0x2c),
  capabilities: u32(0x30, 'ro'),
  doorbellBar: u32(0x34, 'ro'),
  doorbellOffset: u32(0x38, 'ro'),
  doorbellData: u32(0x3c, 'ro'),
  /** The doorbell: the driver finds it by the three registers before. */
  doorbell: u32(0x40, 'wo'),
});

/** Values of `command`: one at a time. READ and WRITE are seen from the device. */
export const EndpointTestCommand = {
  RAISE_INTX: 1 << 0,
  RAISE_MSI: 1 << 1,
  RAISE_MSIX: 1 << 2,
  /** From memory at the source; the checksum is the driver's. */
  READ: 1 << 3,
  /** To memory at the destination; the checksum is the device's. */
  WRITE: 1 << 4,
  COPY: 1 << 5,
  ENABLE_DOORBELL: 1 << 6,
  DISABLE_DOORBELL: 1 << 7,
  /** Exchanges the halves of a BAR, and fills each half with a byte of its own. */
  SUBRANGE_SETUP: 1 << 8,
  SUBRANGE_CLEAR: 1 << 9,
} as const;

/** Bits of `status`. */
export const EndpointTestStatus = {
  READ_SUCCESS: 1 << 0,
  READ_FAIL: 1 << 1,
  WRITE_SUCCESS: 1 << 2,
  WRITE_FAIL: 1 << 3,
  COPY_SUCCESS: 1 << 4,
  COPY_FAIL: 1 << 5,
  IRQ_RAISED: 1 << 6,
  SOURCE_INVALID: 1 << 7,
  DESTINATION_INVALID: 1 << 8,
  DOORBELL_SUCCESS: 1 << 9,
  DOORBELL_ENABLE_SUCCESS: 1 << 10,
  DOORBELL_ENABLE_FAIL: 1 << 11,
  DOORBELL_DISABLE_SUCCESS: 1 << 12,
  DOORBELL_DISABLE_FAIL: 1 << 13,
  SUBRANGE_SETUP_SUCCESS: 1 << 14,
  SUBRANGE_SETUP_FAIL: 1 << 15,
  SUBRANGE_CLEAR_SUCCESS: 1 << 16,
  SUBRANGE_CLEAR_FAIL: 1 << 17,
} as const;

/** Values of `irqType`. */
export const EndpointTestIrq = { INTX: 0, MSI: 1, MSIX: 2 } as const;

/** Bits of `capabilities`. */
export const EndpointTestCapability = {
  UNALIGNED_ACCESS: 1 << 0,
  MSI: 1 << 1,
  MSIX: 1 << 2,
  INTX: 1 << 3,
  SUBRANGE_MAPPING: 1 << 4,
  DYNAMIC_INBOUND_MAPPING: 1 << 5,
} as const;

/** `doorbellBar` while there is no doorbell. */
export const NO_DOORBELL_BAR = 0xffff_ffff;

/** The byte that fills half `half` of BAR `bar` after SUBRANGE_SETUP. */
export function subrangeSignature(bar: number, half: number): number {
  return 0x50 + 8 * bar + half;
}
