/** QEMU's educational device as software sees it. @see QEMU docs/specs/edu.rst */
import { bit } from '../base/bit-fields.ts';
import { registers, u32, u64 } from '../base/registers.ts';

/** `vendor:device`. */
export const EDU_IDS = { vendor: 0x1234, device: 0x11e8 } as const;

/** BAR 0. */
export const EduRegisters = registers({
  identification: u32(0x00, 'ro'),
  liveness: u32(0x04),
  factorial: u32(0x08),
  status: u32(0x20, { computing: bit(0, 'ro'), interrupt: bit(7) }),
  irqStatus: u32(0x24, 'ro'),
  irqRaise: u32(0x60, 'wo'),
  irqAcknowledge: u32(0x64, 'wo'),
  dmaSource: u64(0x80),
  dmaDestination: u64(0x88),
  dmaCount: u64(0x90),
  dmaCommand: u64(0x98),
});

/** Interrupt causes in `irqStatus`; a driver may raise any other. */
export const EduCause = { FACTORIAL: 0x1, DMA: 0x100 } as const;

/** Bits of `dmaCommand`. */
export const EduCommand = { RUN: 1n, TO_RAM: 2n, INTERRUPT: 4n } as const;

/** The device's buffer, as the DMA registers name it. Loads and stores do not reach it. */
export const EDU_BUFFER = { start: 0x4_0000, size: 4096 } as const;
