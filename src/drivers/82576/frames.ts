/** Frames for people: a copy of each, with what the card found out about it. */
import { RxInfo, RxStatus } from '../../abi/82576-descriptors.ts';
import type { ReceiveQueue } from './receive-queue.ts';

/** A frame that came, without its check sequence. */
export interface Frame {
  /** The caller's own. */
  readonly bytes: Uint8Array;
  /** The receive queue. */
  readonly queue: number;
  /** The tag that the card stripped; null: none. */
  readonly vlan: number | null;
  /** The checksum of IPv4's header: null where the card has not looked. */
  readonly ipChecksumGood: boolean | null;
  /** The checksum of TCP, UDP or SCTP: null where the card has not looked. */
  readonly l4ChecksumGood: boolean | null;
  /** The RSS hash, and one of `RssType`; 0: there is none. */
  readonly rssHash: number;
  readonly rssType: number;
  /** A function of the same card has sent it, and it has seen no wire. */
  readonly looped: boolean;
}

/** Copies frame `index` of `queue`. */
export function takeFrame(queue: ReceiveQueue, index: number, number: number): Frame {
  const status = queue.statusOf(index);
  const at = queue.offsetOf(index);
  const vlan = queue.vlanOf(index);
  const looked = (bit: number, error: number) => ((status & bit) === 0 ? null : (status & error) === 0);
  return {
    bytes: queue.bytes.slice(at, at + queue.lengthOf(index)),
    queue: number,
    vlan: vlan < 0 ? null : vlan,
    ipChecksumGood: looked(RxStatus.IPCS, RxStatus.IPE),
    l4ChecksumGood: looked(RxStatus.L4CS, RxStatus.L4E),
    rssHash: queue.hashOf(index),
    rssType: queue.infoOf(index) & RxInfo.RSS_TYPE,
    looped: (status & RxStatus.LB) !== 0,
  };
}
