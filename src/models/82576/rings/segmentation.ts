/**
 * Cuts what a driver hands over as one packet into frames (7.2.4). The frames are built in the
 * packet's own buffer: each header is written right before its payload, over the end of the payload
 * that was sent before it.
 */
import { TxContext, TxStatus } from '../../../abi/82576-descriptors.ts';
import { insertIpChecksum, insertL4Checksum, ipLength, macLength } from './offload.ts';
import { FRAME_MAX } from './transmit-limits.ts';

/** The longest header that a context can describe: 7, 9 and 8 bits. */
const HEADER_MAX = 127 + 511 + 255;
const TCP_HEADER = 20;
const UDP_HEADER = 8;
const IPV4_HEADER = 20;
const IPV6_HEADER = 40;

export class Segmentation {
  /** The frame that `next` has built. */
  offset = 0;
  length = 0;
  readonly #header = new Uint8Array(HEADER_MAX);
  #bytes: Uint8Array = new Uint8Array(0);
  /** Where the packet stands. */
  #base = 0;
  #headerLength = 0;
  #mac = 0;
  #ip = 0;
  #l4 = 0;
  #ipv4 = false;
  #tcp = false;
  #kind = 0;
  #options = 0;
  #mss = 1;
  /** Payload in all, and of the frames that are built. */
  #payload = 0;
  #done = 0;
  #frames = 0;

  /** Frames are left. */
  get more(): boolean {
    return this.#frames === 0 || this.#done < this.#payload;
  }

  /** Payload and frames that are built, for migration. */
  get progress(): { readonly payload: number; readonly frames: number } {
    return { payload: this.#done, frames: this.#frames };
  }

  /** The header of the packet, as the driver wrote it. */
  get header(): Uint8Array {
    return this.#header.subarray(0, this.#headerLength);
  }

  /** Goes on where another one has stopped, right after `begin`. */
  skip({ payload, frames }: { readonly payload: number; readonly frames: number }): void {
    this.#done = Math.min(payload, this.#payload);
    this.#frames = frames;
  }

  /**
   * The packet of `length` bytes at `offset`. False: the context does not fit it.
   *
   * @param lengths  `command`, `segments`: words of the context
   * @param options  the word `status` of the packet's first descriptor
   */
  begin(bytes: Uint8Array, offset: number, length: number, lengths: number, command: number, segments: number, options: number): boolean {
    const mac = macLength(lengths);
    const ip = ipLength(lengths);
    const l4 = (segments & TxContext.L4LEN) >>> TxContext.L4LEN_SHIFT;
    const mss = segments >>> TxContext.MSS_SHIFT;
    const header = mac + ip + l4;
    const type = command & TxContext.L4T;
    const tcp = type === TxContext.L4T_TCP;
    const ipv4 = (command & TxContext.IPV4) !== 0;
    if (!tcp && type !== TxContext.L4T_UDP) return false;
    if (mac < 14 || ip < (ipv4 ? IPV4_HEADER : IPV6_HEADER) || l4 < (tcp ? TCP_HEADER : UDP_HEADER)) return false;
    if (mss === 0 || header + mss > FRAME_MAX || header > length) return false;
    // The buffers must have what PAYLEN says (7.2.4.2).
    if (length - header !== options >>> TxStatus.PAYLEN_SHIFT) return false;
    this.#header.set(bytes.subarray(offset, offset + header));
    this.#bytes = bytes;
    this.#base = offset;
    this.#headerLength = header;
    this.#mac = mac;
    this.#ip = ip;
    this.#l4 = l4;
    this.#ipv4 = ipv4;
    this.#tcp = tcp;
    this.#kind = command;
    this.#options = options;
    this.#mss = mss;
    this.#payload = length - header;
    this.#done = 0;
    this.#frames = 0;
    return true;
  }

  /**
   * Builds the next frame. `more` must be true.
   *
   * @param flagsLow  DTXTCPFLGL: flags that stay in the first frame, and in those in the middle
   * @param flagsHigh DTXTCPFLGH: in the last
   */
  next(flagsLow: number, flagsHigh: number): void {
    const bytes = this.#bytes;
    const header = this.#headerLength;
    const first = this.#frames === 0;
    const size = Math.min(this.#mss, this.#payload - this.#done);
    const last = this.#done + size >= this.#payload;
    const at = this.#base + this.#done;
    // A frame before this one may have lost its header to an inserted tag, and to this payload.
    if (!first) for (let i = 0; i < header; i++) bytes[at + i] = this.#header[i]!;
    const end = at + header + size;
    const ip = at + this.#mac;
    const l4 = ip + this.#ip;
    this.#network(ip, size);
    if (this.#tcp) this.#transport(l4, first, last, flagsLow, flagsHigh);
    else put16(bytes, l4 + 4, this.#l4 + size);
    if ((this.#options & TxStatus.IXSM) !== 0 && this.#ipv4) insertIpChecksum(bytes, ip, this.#ip, end);
    // The driver's sum of the pseudo header is without the length (7.2.4.6).
    if ((this.#options & TxStatus.TXSM) !== 0) insertL4Checksum(bytes, l4, end, this.#kind, this.#l4 + size);
    this.offset = at;
    this.length = header + size;
    this.#done += size;
    this.#frames++;
  }

  /** Lengths, and the identification of IPv4 (7.2.4.7.1, 7.2.4.7.2). */
  #network(ip: number, size: number): void {
    const bytes = this.#bytes;
    if (!this.#ipv4) {
      put16(bytes, ip + 4, this.#ip - IPV6_HEADER + this.#l4 + size);
      return;
    }
    put16(bytes, ip + 2, this.#ip + this.#l4 + size);
    put16(bytes, ip + 4, ((bytes[ip + 4]! << 8) | bytes[ip + 5]!) + this.#frames);
  }

  /** Sequence number and flags of TCP (7.2.4.7.3). */
  #transport(tcp: number, first: boolean, last: boolean, flagsLow: number, flagsHigh: number): void {
    const bytes = this.#bytes;
    const sequence = ((bytes[tcp + 4]! << 24) | (bytes[tcp + 5]! << 16) | (bytes[tcp + 6]! << 8) | bytes[tcp + 7]!) + this.#done;
    put16(bytes, tcp + 4, sequence >>> 16);
    put16(bytes, tcp + 6, sequence);
    // The only frame of a packet has the flags of the packet.
    if (first && last) return;
    const mask = last ? flagsHigh : first ? flagsLow : flagsLow >>> 16;
    bytes[tcp + 12]! &= 0xf0 | ((mask >>> 8) & 0xf);
    bytes[tcp + 13]! &= mask;
  }
}

function put16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}
