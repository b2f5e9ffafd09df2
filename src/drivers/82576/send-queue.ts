/**
 * Frames that people send: they go into the ring at once while it has room, and wait in order while
 * it has none. One doorbell announces the frames of one turn.
 */
import { I82576_FRAME_MAX } from '../../abi/82576.ts';
import { TxContext } from '../../abi/82576-descriptors.ts';
import { VfioError } from '../../base/errno.ts';
import { FrameHeaders } from './headers.ts';
import { contextLengths, contextSegments, PACKET_MAX, TransmitFlag, type TransmitQueue } from './transmit-queue.ts';

/** The card's work on a frame that is sent. */
export interface SendOptions {
  /** The transmit queue. Default: 0. */
  readonly queue?: number;
  /**
   * Insert the checksums of IPv4, and of TCP, UDP or SCTP, whatever stands there. Default: false.
   */
  readonly checksums?: boolean;
  /**
   * Bytes of TCP's payload in a segment: the card cuts the frame into segments, with headers and
   * checksums of their own (7.2.4). Default: the frame is sent as it is.
   */
  readonly segmentSize?: number;
  /** Insert this tag: priority (3 bits), CFI, and VLAN (12 bits). Default: none. */
  readonly vlan?: number;
}

interface Pending {
  readonly bytes: Uint8Array;
  readonly options: SendOptions;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** The shortest frame that a port sends: a header. The card pads to 60 bytes (TCTL.PSP). */
const SHORTEST = 14;
/** The card throws longer ones away; it adds a check sequence of four bytes (7.1.4.3). */
const LONGEST = I82576_FRAME_MAX - 4;

export class SendQueue {
  readonly queue: TransmitQueue;
  readonly #pending: Pending[] = [];
  readonly #headers = new FrameHeaders();
  readonly #name: string;
  readonly #ring = () => {
    this.#scheduled = false;
    this.queue.ring();
  };
  #scheduled = false;

  /** @param name the device's, for errors */
  constructor(queue: TransmitQueue, name: string) {
    this.queue = queue;
    this.#name = name;
  }

  /** Whether frames wait for room. */
  get waiting(): boolean {
    return this.#pending.length > 0;
  }

  /** Resolves when the frame lies in the ring. @throws VfioError EINVAL, EMSGSIZE */
  send(bytes: Uint8Array, options: SendOptions): Promise<void> {
    const { segmentSize = 0 } = options;
    const longest = segmentSize > 0 ? PACKET_MAX : LONGEST;
    if (bytes.length < SHORTEST || bytes.length > longest) {
      const what = `a frame of ${bytes.length} bytes; it must have from ${SHORTEST} to ${longest}`;
      const fix =
        bytes.length <= PACKET_MAX && bytes.length > LONGEST ? { fix: 'With segmentSize the card cuts a long packet of TCP.' } : {};
      return Promise.reject(new VfioError(bytes.length < SHORTEST ? 'EINVAL' : 'EMSGSIZE', what, fix));
    }
    if (segmentSize > 0 && !(this.#headers.find(bytes, 0, bytes.length) && this.#headers.tcp)) return Promise.reject(this.#notTcp());
    if (this.#pending.length === 0 && this.#put(bytes, options)) return Promise.resolve();
    return new Promise((resolve, reject) => this.#pending.push({ bytes, options, resolve, reject }));
  }

  /** There may be room. */
  serve(): void {
    if (this.#pending.length === 0) return;
    this.queue.reclaim();
    let done = 0;
    for (const { bytes, options, resolve } of this.#pending) {
      if (!this.#put(bytes, options)) break;
      resolve();
      done++;
    }
    this.#pending.splice(0, done);
  }

  fail(error: Error): void {
    for (const { reject } of this.#pending.splice(0)) reject(error);
  }

  /** @returns false when there is no room */
  #put(bytes: Uint8Array, { checksums = false, segmentSize = 0, vlan }: SendOptions): boolean {
    const { queue } = this;
    const headers = this.#headers;
    let flags = vlan === undefined ? 0 : TransmitFlag.VLAN;
    const found = (checksums || segmentSize > 0) && headers.find(bytes, 0, bytes.length);
    const segmented = segmentSize > 0;
    if (found && headers.ipv4) flags |= TransmitFlag.IP_CHECKSUM;
    if (found && headers.l4 > 0) flags |= TransmitFlag.L4_CHECKSUM;
    if (segmented) flags |= TransmitFlag.SEGMENT;
    if (flags !== 0 && !this.#context(found, segmented ? segmentSize : 0, vlan ?? 0)) return false;
    const at = queue.reserve(bytes.length);
    if (at < 0) return false;
    queue.bytes.set(bytes, at);
    if (found) headers.prepare(queue.bytes, at, bytes.length, segmented);
    const payload = segmented ? bytes.length - headers.mac - headers.ip - headers.l4 : bytes.length;
    queue.commit(bytes.length, flags, payload);
    if (!this.#scheduled) {
      this.#scheduled = true;
      queueMicrotask(this.#ring);
    }
    return true;
  }

  #context(found: boolean, mss: number, vlan: number): boolean {
    const { mac, ip, l4, tucmd } = this.#headers;
    if (!found) return this.queue.context(contextLengths(SHORTEST, 0, vlan), TxContext.IPV4, 0);
    return this.queue.context(contextLengths(mac, ip, vlan), tucmd, contextSegments(l4, mss));
  }

  #notTcp(): VfioError {
    return new VfioError('EINVAL', `${this.#name}: a frame that is not TCP cannot be cut into segments`, {
      fix: 'Leave segmentSize out, or send TCP over IPv4 or IPv6.',
    });
  }
}
