/** Bounds of what a transmit queue takes. */
import { I82576_FRAME_MAX } from '../../../abi/82576.ts';

/** Bytes of a frame without its frame check sequence. */
export const FRAME_MAX = I82576_FRAME_MAX - 4;
/** Addresses and type: less is no frame. */
export const FRAME_MIN = 14;
/** TCTL.PSP: short frames become so long, and 64 with the frame check sequence. */
export const PADDED = 60;
/** PAYLEN has 18 bits, and a header 7, 9 and 8 bits (7.2.2.3, 7.2.2.4). */
export const PACKET_MAX = 2 ** 18 - 1 + 127 + 511 + 255;
/** Two contexts of four words (7.2.2.4). */
export const CONTEXT_WORDS = 8;
/** Where a packet stands in its buffer: the switch inserts a tag before it. */
export const PACKET_AT = 16;
/** Write-backs to remote memory that are under way at once. */
export const WRITES_MAX = 32;
/** Of each: the last word of a descriptor, or a head. */
export const WRITE_BYTES = 4;
