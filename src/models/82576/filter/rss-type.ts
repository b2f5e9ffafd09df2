/** Which fields of a frame are hashed, and the hash of them (7.1.1.7.1). */

import { Mrqc, Rfctl } from '../../../abi/82576.ts';
import { RssType } from '../../../abi/82576-descriptors.ts';
import type { ReceivedFrame } from '../parts.ts';
import { type Frame, L4 } from './frame.ts';
import type { RssHash } from './rss.ts';

/** Sets `rssType` and `rssHash`; both stay where no function of MRQC is for the frame. */
export function hashFrame(received: ReceivedFrame, frame: Frame, hash: RssHash, mrqc: number, rfctl: number): void {
  const type = frame.ip === 4 ? typeOfIpv4(frame, mrqc) : typeOfIpv6(frame, mrqc, rfctl);
  if (type === RssType.NONE) return;
  const { bytes, start, l3 } = frame;
  let done = 8;
  let result: number;
  if (frame.ip === 4) result = hash.add(0, 0, bytes, frame.sourceAt, 8);
  else {
    // Functions with Ex take the addresses of extension headers; the others those of the header.
    const extended = type === RssType.TCP_IPV6_EX || type === RssType.IPV6_EX || type === RssType.UDP_IPV6_EX;
    const source = extended ? frame.sourceAt : start + l3 + 8;
    const destination = extended ? frame.destinationAt : start + l3 + 24;
    result = hash.add(hash.add(0, 0, bytes, source, 16), 16, bytes, destination, 16);
    done = 32;
  }
  const ports = type !== RssType.IPV4 && type !== RssType.IPV6 && type !== RssType.IPV6_EX;
  received.rssType = type;
  received.rssHash = ports ? hash.add(result, done, bytes, start + frame.l4Offset, 4) : result;
}

function typeOfIpv4(frame: Frame, mrqc: number): number {
  if (frame.l4 === L4.TCP && (mrqc & Mrqc.TCP_IPV4) !== 0) return RssType.TCP_IPV4;
  if (frame.l4 === L4.UDP && (mrqc & Mrqc.UDP_IPV4) !== 0) return RssType.UDP_IPV4;
  return (mrqc & Mrqc.IPV4) !== 0 ? RssType.IPV4 : RssType.NONE;
}

function typeOfIpv6(frame: Frame, mrqc: number, rfctl: number): number {
  // RFCTL.IPV6_EX_DIS: behind extension headers, hardware sees nothing (8.10.21).
  const blind = frame.extended && (rfctl & Rfctl.IPV6_EX_DIS) !== 0;
  if (!blind) {
    if (frame.l4 === L4.TCP && (mrqc & Mrqc.TCP_IPV6_EX) !== 0) return RssType.TCP_IPV6_EX;
    if (frame.l4 === L4.TCP && (mrqc & Mrqc.TCP_IPV6) !== 0) return RssType.TCP_IPV6;
    if (frame.l4 === L4.UDP && (mrqc & Mrqc.UDP_IPV6_EX) !== 0) return RssType.UDP_IPV6_EX;
    if (frame.l4 === L4.UDP && (mrqc & Mrqc.UDP_IPV6) !== 0) return RssType.UDP_IPV6;
    if ((mrqc & Mrqc.IPV6_EX) !== 0) return RssType.IPV6_EX;
  }
  return (mrqc & Mrqc.IPV6) !== 0 ? RssType.IPV6 : RssType.NONE;
}
