/**
 * How a program opens a device at the other end of a connection, and the memory that may come with
 * it.
 */
import type { Access, DirectMemory } from '../../abi/memory.ts';
import type { Logger } from '../../base/log.ts';
import type { EventStream } from '../../events/stream.ts';

export interface VfioUserOptions {
  /** The device's name. Default: `unix:PATH`. */
  readonly name?: string;
  /**
   * How long the server may take for a request, in milliseconds. After that the request fails with
   * ETIMEDOUT and the client closes the connection, because a late answer would look like the next
   * one. Default: 10000.
   */
  readonly timeoutMs?: number;
  /**
   * Whether a request looks for its answer for up to 50 µs before the thread sleeps, while that
   * pays. Default: true.
   */
  readonly spin?: boolean;
  /** Whether the connection keeps the process alive. Default: false. */
  readonly keepAlive?: boolean;
  /**
   * Writes of registers in BARs do not wait for the server. They are faster, and their errors are
   * not reported. Default: false.
   */
  readonly postedWrites?: boolean;
  /**
   * Whether to take a second socket for the server's own commands, when the server has one.
   * Default: true.
   */
  readonly twinSocket?: boolean;
  /**
   * VF token, a UUID, for a function of an SR-IOV device that asks for one. It travels in VERSION,
   * under a name of ours.
   */
  readonly token?: string;
  /**
   * Take over the device that was moved to the server, with the memory that is mapped on it, and no
   * other device. Default: false.
   */
  readonly adopt?: boolean;
  /** Receives lines of the client's own stream; a stream that is given has a log of its own. */
  readonly log?: Logger;
  /** The stream to which the client emits. Default: one of its own. */
  readonly events?: EventStream;
}

/**
 * A mapping that came with a device: bytes of a memory that the device's driver filled before the
 * move.
 */
export interface AdoptedMemory {
  readonly iova: bigint;
  readonly size: number;
  readonly memory: DirectMemory;
  readonly offset: number;
  readonly access: Access;
}
