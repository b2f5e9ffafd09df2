/** Limits of a client of a server: resources, and times. */
import { CapabilityDefaults, MAX_FDS } from '../abi/vfio-user.ts';
import { checkIndex } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';

/** Limits of one client. */
export interface ServerLimits {
  /** Bytes of data in one message, either way: `max_data_xfer_size`. QEMU takes 64 MiB at most. */
  readonly maxDataBytes: number;
  /** Descriptors in one message of the client. */
  readonly maxMsgFds: number;
  /** DMA mappings. The device's own DMA space has a limit besides. */
  readonly maxMappings: number;
  /** Address space that the client's files may take in this process. */
  readonly maxFileBytes: number;
  /**
   * Whether the client's memory may be files other than memfd, tmpfs and hugetlbfs: the owners of
   * their file systems can stop the server. Default: false.
   */
  readonly anyFile: boolean;
  /**
   * Bytes without pages that the client's files may bring in the time of its connection: DMA makes
   * the pages, and they are charged to the server's memory cgroup. Default: no limit.
   */
  readonly maxSparseBytes: number;
  /**
   * Replies that the client has not taken. With more, the server reads nothing from the client
   * until it has taken them.
   */
  readonly maxQueuedBytes: number;
  /**
   * Whether the server's thread looks for the client's next message for up to 50 µs before it
   * sleeps, while that pays (native/spin.c). Default: true.
   */
  readonly spin: boolean;
  /** From the connection to VERSION. */
  readonly handshakeTimeoutMs: number;
  /** A message that began to arrive must be whole after so long. */
  readonly messageTimeoutMs: number;
  /** Replies that wait must begin to go after so long. */
  readonly stallTimeoutMs: number;
  /**
   * A DMA by message must be answered after so long. Otherwise it fails for the model, and the
   * connection goes on.
   */
  readonly dmaTimeoutMs: number;
  /**
   * A client that comes while another is served waits so long for the other's end. Then it is
   * refused with EBUSY.
   */
  readonly waitMs: number;
  /** Clients that may wait; more are refused at once. */
  readonly maxWaiting: number;
}

const defaultLimits: ServerLimits = {
  maxDataBytes: CapabilityDefaults.MAX_DATA_XFER_SIZE,
  maxMsgFds: MAX_FDS,
  maxMappings: 1_000_000,
  maxFileBytes: 2 ** 43,
  anyFile: false,
  maxSparseBytes: Number.POSITIVE_INFINITY,
  maxQueuedBytes: 4 * 2 ** 20,
  spin: true,
  handshakeTimeoutMs: 10_000,
  messageTimeoutMs: 30_000,
  stallTimeoutMs: 60_000,
  dmaTimeoutMs: 10_000,
  waitMs: 2000,
  maxWaiting: 16,
};

/** @throws VfioError EINVAL for a limit out of range */
export function checkLimits(given: Partial<ServerLimits>): ServerLimits {
  const limits = { ...defaultLimits, ...given };
  const { anyFile, maxSparseBytes, spin, ...numbers } = limits;
  if (maxSparseBytes !== Number.POSITIVE_INFINITY) checkIndex(maxSparseBytes, Number.MAX_SAFE_INTEGER, 'limit maxSparseBytes');
  for (const [name, value] of Object.entries({ anyFile, spin })) {
    if (typeof value !== 'boolean') throw new VfioError('EINVAL', `limit ${name} is ${String(value)}; give true or false`);
  }
  for (const [name, value] of Object.entries(numbers)) checkIndex(value, Number.MAX_SAFE_INTEGER, `limit ${name}`);
  checkIndex(limits.maxDataBytes - 1, 64 * 2 ** 20 - 1, 'limit maxDataBytes - 1');
  return limits;
}
