/**
 * How a frame is laid out over the buffers of its descriptors, and what the descriptors say of it
 * when they are written back (7.1.4, 7.1.5, 7.1.10).
 */
import { Reg, Srrctl } from '../../../abi/82576.ts';
import { RxInfo, RxStatus } from '../../../abi/82576-descriptors.ts';
import type { ReceivedFrame } from '../parts.ts';

/** RCTL.BSIZE, where SRRCTL has no size of its own (8.10.1). */
const BUFFER_BYTES = [2048, 1024, 512, 256] as const;
const BSIZE_SHIFT = 16;
const HDR_LEN_MAX = 0x3ff;
/** Bits of the legacy status that the advanced one has at the same places. */
const LEGACY_STATUS = RxStatus.VP | RxStatus.UDPCS | RxStatus.L4CS | RxStatus.IPCS | RxStatus.PIF;

export class ReceiveLayout {
  /** SRRCTL.DESCTYPE is 0: descriptors of the legacy format. */
  legacy = false;
  /** Bytes of the buffers. */
  packetBytes = 2048;
  headerBytes = 0;
  /** Bytes of the frame that the first header buffer gets, from the frame's first on. */
  head = 0;
  /** The first byte for packet buffers. */
  start = 0;
  /** Descriptors that the frame needs. */
  descriptors = 1;
  #type = 0;
  #srrctl = -1;
  #rctl = -1;
  /** SPH and HDR_LEN of the first descriptor's write-back, and HBO of the last's. */
  #info = 0;
  #overflow = 0;

  /** The sizes of a queue, when they have changed. */
  #configure(srrctl: number, rctl: number): void {
    this.#srrctl = srrctl;
    this.#rctl = rctl;
    this.#type = srrctl & Srrctl.DESCTYPE;
    this.legacy = this.#type === Srrctl.LEGACY;
    const kilobytes = srrctl & Srrctl.BSIZEPACKET;
    this.packetBytes = kilobytes > 0 ? kilobytes * 1024 : BUFFER_BYTES[(rctl >>> BSIZE_SHIFT) & 3]!;
    this.headerBytes = ((srrctl & Srrctl.BSIZEHEADER) >>> Srrctl.BSIZEHEADER_SHIFT) * 64;
  }

  /** A frame that becomes `total` bytes in memory, with headers of `header` bytes (0: unknown). */
  lay(srrctl: number, words: Uint32Array, total: number, header: number): void {
    const rctl = words[Reg.RCTL >>> 2]!;
    if (srrctl !== this.#srrctl || rctl !== this.#rctl) this.#configure(srrctl, rctl);
    this.head = 0;
    this.start = 0;
    this.#info = 0;
    this.#overflow = 0;
    this.descriptors = 1;
    if (this.#type <= Srrctl.ADV_ONE_BUFFER && total <= this.packetBytes) return;
    const room = this.headerBytes;
    switch (this.#type) {
      case Srrctl.ADV_SPLIT:
        if (header > room) this.#split(0, 0, header, true);
        else if (header > 0) this.#split(header, header, header, true);
        break;
      case Srrctl.ADV_SPLIT_ALWAYS:
        if (total <= room) this.#split(total, total, total, false);
        else if (header === 0) this.#split(room, room, room, false);
        else if (header <= room) this.#split(header, header, header, true);
        else this.#split(room, room, header, true);
        break;
      case Srrctl.ADV_REPLICATION_LARGE:
        if (total <= room) this.#split(total, total, total, header > 0);
        else this.#split(room, 0, header, header > 0);
        break;
      case Srrctl.ADV_REPLICATION:
        this.#split(Math.min(total, room), 0, header, header > 0);
        break;
    }
    this.descriptors = Math.max(1, Math.ceil((total - this.start) / this.packetBytes));
  }

  #split(head: number, start: number, length: number, found: boolean): void {
    this.head = head;
    this.start = start;
    this.#info = (Math.min(length, HDR_LEN_MAX) << RxInfo.HDR_LEN_SHIFT) | (found ? RxInfo.SPH : 0);
    if (found && length > this.headerBytes) this.#overflow = RxStatus.HBO;
  }

  /**
   * Writes the write-back of a descriptor to `words` from `at` on, its status last.
   *
   * @param bytes  in its packet buffer
   * @param first  the frame's first descriptor; `last`: its last
   */
  writeBack(words: Uint32Array, at: number, frame: ReceivedFrame, bytes: number, first: boolean, last: boolean): void {
    const tag = last && frame.vlan >= 0 ? frame.vlan << 16 : 0;
    if (this.legacy) {
      const checksum = last ? frame.rssHash & 0xffff_0000 : 0;
      const status = last ? RxStatus.DD | RxStatus.EOP | (frame.status & LEGACY_STATUS) | ((frame.errors >>> 24) << 8) : RxStatus.DD;
      words[at + 2] = checksum | bytes;
      words[at + 3] = tag | status;
      return;
    }
    const split = first ? this.#info : 0;
    words[at] = last ? frame.rssType | (frame.packetType << RxInfo.PACKET_TYPE_SHIFT) | split : split;
    words[at + 1] = last ? frame.rssHash : 0;
    words[at + 3] = tag | bytes;
    words[at + 2] = last ? RxStatus.DD | RxStatus.EOP | frame.status | frame.errors | this.#overflow : RxStatus.DD;
  }
}
