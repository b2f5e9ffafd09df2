/** Cases of receive filters and receive-side scaling (7.1.1, 7.1.2). */
import { describe, expect, it } from 'vitest';
import { RssType } from '../../../src/abi/82576-descriptors.ts';
import { BROADCAST, frame, packet, seedOf } from './bytes.ts';
import { begin, failure, Inbox, type OpenNet } from './subject.ts';

const OTHER = '52:54:00:aa:bb:cc';
const GROUP = '01:00:5e:01:02:03';
/** Comes after the frames that should not come. */
const LAST = 999;

export function filterCases(open: OpenNet): void {
  async function pair() {
    const both = await begin(open);
    const inbox = new Inbox(both.right);
    return {
      ...both,
      inbox,
      /** The numbers of the frames that come, of those that are sent to `targets`. */
      async arrivals(targets: readonly string[], vlan?: number): Promise<number[]> {
        const { left, right } = both;
        for (const [i, to] of targets.entries()) await left.send(frame(to, left.mac, 80, i), vlan === undefined ? {} : { vlan });
        await left.send(frame(right.mac, left.mac, 80, LAST));
        const seen: number[] = [];
        for (;;) {
          const { bytes } = await inbox.next();
          const untagged = bytes[12] === 0x81 ? Uint8Array.from([...bytes.subarray(0, 12), ...bytes.subarray(16)]) : bytes;
          if (seedOf(untagged) === LAST) return seen;
          seen.push(seedOf(untagged));
        }
      },
    };
  }

  describe('filters', () => {
    it('7.1.2.1 a port receives its own address and broadcasts, and no others', async () => {
      const { right, arrivals } = await pair();
      expect(await arrivals([OTHER, right.mac, GROUP, BROADCAST])).toEqual([1, 3]);
    });

    it('7.1.2.1 a port receives addresses that were added, until they are removed', async () => {
      const { right, arrivals } = await pair();
      await right.addMac(OTHER);
      expect(await arrivals([OTHER, '52:54:00:aa:bb:cd'])).toEqual([0]);
      expect([await right.removeMac(OTHER), await right.removeMac(OTHER)]).toEqual([true, false]);
      expect(await arrivals([OTHER])).toEqual([]);
      for (let i = 0; i < 23; i++) await right.addMac(`52:54:00:00:01:${i.toString(16).padStart(2, '0')}`);
      expect((await failure(right.addMac(OTHER))).code).toBe('ENOSPC');
      expect(await arrivals(['52:54:00:00:01:16'])).toEqual([0]);
    });

    it('7.1.2.1 another address takes the place of the own one', async () => {
      const { right, arrivals } = await pair();
      const before = right.mac;
      await right.setMac(OTHER);
      expect(right.mac).toBe(OTHER);
      expect(await arrivals([before, OTHER])).toEqual([1]);
    });

    it('7.1.2.3 a port receives groups that it joined, until it leaves them', async () => {
      const { right, arrivals } = await pair();
      await right.joinGroup(GROUP);
      await right.joinGroup(GROUP);
      // The table has a bit for all groups of one hash: the first byte is no part of it.
      expect(await arrivals([GROUP, '01:00:5e:01:02:13'])).toEqual([0]);
      await right.leaveGroup(GROUP);
      expect(await arrivals([GROUP])).toEqual([0]);
      await right.leaveGroup(GROUP);
      expect([await arrivals([GROUP]), await right.leaveGroup(GROUP)]).toEqual([[], false]);
      expect((await failure(right.joinGroup(OTHER))).code).toBe('EINVAL');
    });

    it('7.1.2.2 promiscuous ports receive all, or all groups', async () => {
      const { right, arrivals } = await pair();
      await right.setPromiscuous({ groups: true });
      expect(await arrivals([OTHER, GROUP])).toEqual([1]);
      await right.setPromiscuous({ all: true });
      expect(await arrivals([OTHER, GROUP])).toEqual([0, 1]);
      await right.setPromiscuous();
      expect(await arrivals([OTHER, GROUP])).toEqual([]);
    });

    it('7.1.2.4 a port receives tagged frames of its VLANs alone', async () => {
      const { right, arrivals } = await pair();
      expect(await arrivals([right.mac], 7)).toEqual([0]);
      await right.setVlans([5, 4094]);
      expect([await arrivals([right.mac], 7), await arrivals([right.mac], 5), await arrivals([right.mac], 4094)]).toEqual([[], [0], [0]]);
      await right.setVlans(null);
      expect(await arrivals([right.mac], 7)).toEqual([0]);
      expect((await failure(right.setVlans([4095]))).code).toBe('EINVAL');
    });

    it('house: filters outlast a reset of the driver', async () => {
      const { right, arrivals } = await pair();
      await right.addMac(OTHER);
      await right.joinGroup(GROUP);
      await right.reset();
      await right.linkUp({ timeoutMs: 60_000 });
      expect(await arrivals([OTHER, GROUP, '01:00:5e:01:02:13'])).toEqual([0, 1]);
    });
  });

  describe('receive-side scaling', () => {
    // "Verifying the RSS Hash Calculation", Microsoft: the key is the driver's default.
    it.each([
      { source: [66, 9, 149, 187], destination: [161, 142, 100, 80], ports: [2794, 1766], hash: 0x51cc_c178, bare: 0x323e_8fc2 },
      { source: [199, 92, 111, 2], destination: [65, 69, 140, 83], ports: [14_230, 4739], hash: 0xc626_b0ea, bare: 0xd718_262a },
      { source: [24, 19, 198, 95], destination: [12, 22, 207, 184], ports: [12_898, 38_024], hash: 0x5c2b_394a, bare: 0xd2d0_a5de },
    ])('7.1.1.7 the hash $hash of TCP over IPv4, and the queue of its last 7 bits', async ({ source, destination, ports, hash, bare }) => {
      const { left, right } = await begin(open, {}, { queues: 4 });
      using inbox = new Inbox(right);
      const of = (protocol: 'tcp' | 'udp') =>
        packet(right.mac, left.mac, {
          protocol,
          family: 4,
          payload: 60,
          source,
          destination,
          sourcePort: ports[0]!,
          destinationPort: ports[1]!,
        });
      await left.send(of('tcp'));
      const tcp = await inbox.next();
      expect([tcp.rssHash, tcp.rssType, tcp.queue]).toEqual([hash, RssType.TCP_IPV4, (hash & 127) % 4]);
      await left.send(of('udp'));
      const udp = await inbox.next();
      expect([udp.rssHash, udp.rssType, udp.queue]).toEqual([bare, RssType.IPV4, (bare & 127) % 4]);
    });

    it('7.1.1.7.4 frames follow the table of queues; what is not IP goes to queue 0', async () => {
      const indirection = Array.from({ length: 128 }, () => 2);
      const { left, right } = await begin(open, {}, { queues: 3, rss: { indirection } });
      using inbox = new Inbox(right);
      for (let port = 0; port < 5; port++)
        await left.send(packet(right.mac, left.mac, { protocol: 'tcp', family: 4, payload: 60, sourcePort: port + 1 }));
      expect((await inbox.take(5)).map(({ queue }) => queue)).toEqual([2, 2, 2, 2, 2]);
      await left.send(frame(right.mac, left.mac, 60));
      expect(await inbox.next()).toMatchObject({ queue: 0, rssType: RssType.NONE });
    });

    it('7.2.1 all transmit queues send', async () => {
      const { left, right } = await begin(open, { queues: 8 }, {});
      using inbox = new Inbox(right);
      for (let queue = 0; queue < 8; queue++) {
        await left.send(frame(right.mac, left.mac, 60, queue), { queue });
        expect(seedOf((await inbox.next()).bytes)).toBe(queue);
      }
    });
  });
}
