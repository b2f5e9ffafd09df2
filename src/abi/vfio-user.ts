/**
 * The vfio-user protocol, as far as all of its messages share it: the header, and numbers that
 * peers agree on. Each message's own number and layout is in its row, in src/vfio-user/messages/.
 *
 * @see qemu/docs/interop/vfio-user.rst
 */
import { struct, type Value } from '../base/struct.ts';

/** Every message begins with this. A reply has the id and the command of its request. */
export const Header = struct('vfio_user_header', 16, { id: 'u16', command: 'u16', size: 'u32', flags: 'u32', error: 'u32' });
export const HEADER_BYTES = Header.structSize;

export const HeaderFlags = {
  TYPE_MASK: 0xf,
  COMMAND: 0,
  REPLY: 1,
  /** The sender of this command wants no answer, not even an error. */
  NO_REPLY: 0x10,
  /** This reply has no payload; `error` is a positive errno. */
  ERROR: 0x20,
} as const;

export const VERSION_MAJOR = 0;
/** The newest minor version that we speak. */
export const VERSION_MINOR = 2;

/** The value of a capability that a peer does not name. */
export const CapabilityDefaults = { MAX_MSG_FDS: 1, MAX_DATA_XFER_SIZE: 2 ** 20, MAX_DMA_MAPS: 65535, PGSIZES: 4096 } as const;
/** QEMU refuses a reply that allows more descriptors per message. */
export const QEMU_MAX_MSG_FDS = 16;
/** Linux puts no more descriptors into one message (SCM_MAX_FD). */
export const MAX_FDS = 253;

export type Header = Value<typeof Header>;
