/** Cases of checksums, segmentation and VLAN tags (7.1.11, 7.2.4, 7.2.5, 7.4). */
import { describe, expect, it } from 'vitest';
import { frame, get16, goodChecksums, packet, put16 } from './bytes.ts';
import { begin, Inbox, type OpenNet } from './subject.ts';

const PACKETS = (['tcp', 'udp'] as const).flatMap((protocol) => ([4, 6] as const).map((family) => ({ protocol, family })));

export function offloadCases(open: OpenNet): void {
  describe('offloads', () => {
    it.each(PACKETS)('7.2.5 the card inserts checksums of $protocol over IPv$family', async ({ protocol, family }) => {
      const { left, right } = await begin(open);
      using inbox = new Inbox(right);
      for (const payload of [0, 1, 100, 777]) {
        const right_ = packet(right.mac, left.mac, { protocol, family, payload });
        const sent = right_.slice();
        const ip = family === 4 ? 20 : 40;
        put16(sent, 14 + ip + (protocol === 'tcp' ? 16 : 6), 0xdead);
        if (family === 4) put16(sent, 24, 0xbeef);
        await left.send(sent, { checksums: true });
        const { bytes } = await inbox.next();
        expect(bytes.subarray(0, right_.length)).toEqual(right_);
      }
    });

    it.each(PACKETS)('7.1.11 the card checks checksums of $protocol over IPv$family', async ({ protocol, family }) => {
      const { left, right } = await begin(open);
      using inbox = new Inbox(right);
      const good = packet(right.mac, left.mac, { protocol, family, payload: 100 });
      await left.send(good);
      const first = await inbox.next();
      expect([first.ipChecksumGood, first.l4ChecksumGood]).toEqual([family === 4 ? true : null, true]);
      const bad = good.slice();
      bad[bad.length - 1]! ^= 0xff;
      await left.send(bad);
      expect((await inbox.next()).l4ChecksumGood).toBe(false);
      if (family === 6) return;
      put16(bad, 24, get16(bad, 24) ^ 1);
      await left.send(bad);
      expect((await inbox.next()).ipChecksumGood).toBe(false);
    });

    it('7.1.11 a port that does not want checksums gets none checked', async () => {
      const { left, right } = await begin(open, {}, { checksums: false });
      using inbox = new Inbox(right);
      await left.send(packet(right.mac, left.mac, { protocol: 'udp', family: 4, payload: 100 }));
      const { ipChecksumGood, l4ChecksumGood } = await inbox.next();
      expect([ipChecksumGood, l4ChecksumGood]).toEqual([null, null]);
    });

    it.each([4, 6] as const)('7.2.4 TCP over IPv%i is cut into segments, each with right headers', async (family) => {
      const { subject, left, right } = await begin(open);
      using inbox = new Inbox(right);
      const whole = packet(right.mac, left.mac, { protocol: 'tcp', family, payload: 10_000 });
      const headers = 14 + (family === 4 ? 20 : 40) + 20;
      await left.send(whole, { segmentSize: 1400 });
      const segments = (await inbox.take(8)).map(({ bytes }) => bytes);
      expect(segments.map((bytes) => bytes.length - headers)).toEqual([1400, 1400, 1400, 1400, 1400, 1400, 1400, 200]);
      const data = Buffer.concat(segments.map((bytes) => bytes.subarray(headers)));
      expect(Buffer.compare(data, whole.subarray(headers))).toBe(0);
      // PSH stands in the last segment alone (7.2.4.7); QEMU takes it from that one, too.
      const last = subject.qemu === true ? 0x10 : 0x18;
      segments.forEach((bytes, i) => {
        expect(goodChecksums(bytes)).toEqual({ ip: true, l4: true });
        const tcp = new DataView(bytes.buffer, bytes.byteOffset + headers - 20);
        expect([tcp.getUint32(4), tcp.getUint8(13)]).toEqual([1000 + 1400 * i, i === 7 ? last : 0x10]);
      });
    });

    it('7.4.3 the card inserts a tag, and the other card strips it', async () => {
      const { left, right } = await begin(open, {}, { stripVlan: true });
      using inbox = new Inbox(right);
      const sent = frame(right.mac, left.mac, 100, 3);
      await left.send(sent, { vlan: 0x6005 });
      const got = await inbox.next();
      expect([got.vlan, got.bytes]).toEqual([0x6005, sent]);
      await left.send(sent);
      const plain = await inbox.next();
      expect([plain.vlan, plain.bytes]).toEqual([null, sent]);
    });

    it('7.4.4 a port that keeps tags gets the frame with its tag', async () => {
      const { left, right } = await begin(open);
      using inbox = new Inbox(right);
      const sent = frame(right.mac, left.mac, 100, 3);
      await left.send(sent, { vlan: 5 });
      const { bytes, vlan } = await inbox.next();
      expect([vlan, bytes.length, get16(bytes, 12), get16(bytes, 14), bytes.subarray(16)]).toEqual([
        null,
        104,
        0x8100,
        5,
        sent.subarray(12),
      ]);
    });
  });
}
