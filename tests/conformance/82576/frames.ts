/** Cases of sending and receiving (7.1, 7.2). */
import { describe, expect, it } from 'vitest';
import { BROADCAST, frame, seedOf } from './bytes.ts';
import { begin, failure, Inbox, type OpenNet } from './subject.ts';

export function frameCases(open: OpenNet): void {
  describe('frames', () => {
    it('7.2.1 frames of every length from 60 to 1514 arrive as they were sent', async () => {
      const { left, right } = await begin(open);
      using inbox = new Inbox(right);
      for (const length of [60, 61, 127, 128, 511, 1000, 1499, 1500, 1513, 1514]) {
        const sent = frame(right.mac, left.mac, length, length);
        await left.send(sent);
        const got = await inbox.next();
        expect(got.bytes).toEqual(sent);
      }
    });

    it('8.12 TCTL.PSP a shorter frame is padded with zeroes to 60 bytes', async () => {
      const { left, right } = await begin(open);
      using inbox = new Inbox(right);
      const sent = frame(right.mac, left.mac, 20);
      await left.send(sent);
      const { bytes } = await inbox.next();
      expect([bytes.length, bytes.subarray(0, 20), bytes.subarray(20).every((byte) => byte === 0)]).toEqual([60, sent, true]);
    });

    it('7.2.2 rings wrap: a thousand frames arrive in order, both ways', async () => {
      const { left, right } = await begin(open, { receiveEntries: 64, transmitEntries: 16 });
      using toRight = new Inbox(right);
      using toLeft = new Inbox(left);
      for (let i = 0; i < 1000; i += 10) {
        for (let k = 0; k < 10; k++) {
          await left.send(frame(right.mac, left.mac, 60 + ((i + k) % 300), i + k));
          await right.send(frame(left.mac, right.mac, 60, i + k));
        }
        expect((await toRight.take(10)).map(({ bytes }) => seedOf(bytes))).toEqual(Array.from({ length: 10 }, (_, k) => i + k));
        expect((await toLeft.take(10)).map(({ bytes }) => seedOf(bytes))).toEqual(Array.from({ length: 10 }, (_, k) => i + k));
      }
    });

    it('7.1.4.3 jumbo frames take several buffers, and arrive in one piece where the ring wraps', async () => {
      const { left, right } = await begin(open, { mtu: 9000, receiveEntries: 16, transmitEntries: 16 });
      using inbox = new Inbox(right);
      for (let i = 0; i < 40; i++) {
        const sent = frame(right.mac, left.mac, 9014 - 13 * i, i);
        await left.send(sent);
        const { bytes } = await inbox.next();
        expect(Buffer.compare(bytes, sent)).toBe(0);
      }
    });

    it('8.10.15 RLPML a frame beyond the MTU does not arrive, and is counted', async () => {
      const { subject, left, right } = await begin(open, { mtu: 9000 }, { mtu: 1500 });
      using inbox = new Inbox(right);
      await left.send(frame(right.mac, left.mac, 4000, 1));
      await left.send(frame(right.mac, left.mac, 60, 2));
      expect(seedOf((await inbox.next()).bytes)).toBe(2);
      // QEMU drops the frame, and counts nothing.
      if (subject.qemu !== true) expect(right.statistics().registers.ROC).toBe(1);
    });

    it('7.1.2 the ring: frames are found, read and released without an object', async () => {
      const { left, right } = await begin(open, { interrupts: 'poll' });
      const [tx, rx] = [left.transmitQueue(), right.receiveQueue()];
      let seen = 0;
      for (let round = 0; round < 50; round++) {
        for (let i = 0; i < 8; i++) {
          const at = tx.reserve(60);
          tx.bytes.set(frame(right.mac, left.mac, 60, round * 8 + i), at);
          tx.commit(60);
        }
        tx.ring();
        await right.dev.until(() => rx.poll() >= 8, { timeoutMs: 60_000 });
        for (let i = 0; i < rx.waiting; i++) {
          const at = rx.offsetOf(i);
          expect([rx.lengthOf(i), seedOf(rx.bytes.subarray(at, at + 60))]).toEqual([60, seen++]);
        }
        rx.release(rx.waiting);
      }
      await left.dev.until(() => tx.reclaim() > 0 || tx.inFlight === 0, { timeoutMs: 60_000 });
      expect([tx.committed, tx.completed, rx.received, rx.malformed]).toEqual([400, 400, 400, 0]);
    });

    it('7.2 a frame is sent from memory of the caller, without a copy', async () => {
      const { left, right } = await begin(open);
      using inbox = new Inbox(right);
      using buffer = left.dev.dma.alloc(4096);
      buffer.bytes.set(frame(right.mac, left.mac, 500, 9), 100);
      const tx = left.transmitQueue();
      expect(tx.put(Number(buffer.iova) + 100, 500)).toBe(true);
      tx.ring();
      expect((await inbox.next()).bytes).toEqual(frame(right.mac, left.mac, 500, 9));
    });

    it('8.18 counters of both sides agree on frames and bytes', async () => {
      const { left, right } = await begin(open);
      using inbox = new Inbox(right);
      for (let i = 0; i < 10; i++) await left.send(frame(i % 2 === 0 ? right.mac : BROADCAST, left.mac, 100, i));
      await inbox.take(10);
      await left.flush({ timeoutMs: 60_000 });
      const [sent, received] = [left.statistics(), right.statistics()];
      // A check sequence counts, although the ring does not show it.
      expect([sent.sentFrames, sent.sentBytes]).toEqual([10, 1040]);
      expect([received.receivedFrames, received.receivedBytes]).toEqual([10, 1040]);
      expect([sent.registers.BPTC, received.registers.BPRC, received.registers.PRC127]).toEqual([5, 5, 10]);
    });

    it('house: frames of no such length are refused', async () => {
      const { left } = await begin(open);
      expect((await failure(left.send(new Uint8Array(13)))).code).toBe('EINVAL');
      expect((await failure(left.send(new Uint8Array(70_000)))).code).toBe('EMSGSIZE');
      expect(await failure(left.send(new Uint8Array(9725)))).toMatchObject({
        code: 'EMSGSIZE',
        fix: expect.stringContaining('segmentSize'),
      });
      expect((await failure(left.send(frame(left.mac, left.mac, 100), { segmentSize: 500 }))).message).toContain('not TCP');
    });
  });
}
