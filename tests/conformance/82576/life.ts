/** Cases of a port's life: resets, a device that goes, the end. */
import { describe, expect, it } from 'vitest';
import type { PortEvent } from '../../../src/drivers/82576/events.ts';
import { frame, seedOf } from './bytes.ts';
import { begin, failure, Inbox, type OpenNet } from './subject.ts';

export function lifeCases(open: OpenNet): void {
  describe('life', () => {
    it('4.2.1 after a reset of the driver frames come and go as before', async () => {
      const { left, right } = await begin(open);
      const events: PortEvent['kind'][] = [];
      left.on(({ kind }) => events.push(kind));
      using inbox = new Inbox(right);
      await left.send(frame(right.mac, left.mac, 60, 1));
      expect(seedOf((await inbox.next()).bytes)).toBe(1);
      await left.reset();
      await left.linkUp({ timeoutMs: 60_000 });
      await right.linkUp({ timeoutMs: 60_000 });
      await left.send(frame(right.mac, left.mac, 60, 2));
      expect([seedOf((await inbox.next()).bytes), left.state]).toEqual([2, 'live']);
      expect(events.filter((kind) => kind !== 'link')).toEqual(['reset', 'recovered']);
    });

    it('4.2.1.5 a function-level reset beneath the driver: it starts the card again', async () => {
      const { left, right } = await begin(open);
      let recovered = false;
      left.on(({ kind }) => {
        recovered ||= kind === 'recovered';
      });
      using inbox = new Inbox(right);
      left.dev.reset();
      await left.dev.until(() => recovered, { timeoutMs: 60_000 });
      await left.linkUp({ timeoutMs: 60_000 });
      await right.linkUp({ timeoutMs: 60_000 });
      await left.send(frame(right.mac, left.mac, 60, 3));
      expect(seedOf((await inbox.next()).bytes)).toBe(3);
    });

    it('8.25.1 a PHY that is powered down takes the link from both ports', async ({ skip }) => {
      const { subject, left, right } = await begin(open);
      // QEMU's PHY keeps its link.
      if (subject.qemu === true) return skip();
      const links: boolean[] = [];
      left.on((event) => {
        if (event.kind === 'link') links.push(event.link.up);
      });
      await right.setLink(false);
      await left.dev.until(() => !left.link.up && !right.link.up, { timeoutMs: 60_000 });
      expect((await failure(left.linkUp({ timeoutMs: 1 }))).code).toBe('ENETDOWN');
      await right.setLink(true);
      expect([(await left.linkUp({ timeoutMs: 60_000 })).up, links]).toEqual([true, [false, true]]);
    });

    it('house: readers end and callers fail when the port is closed', async () => {
      const { left } = await begin(open);
      const reader = left.frames().next();
      await Promise.resolve();
      await left.close();
      expect(await reader).toEqual({ done: true, value: undefined });
      expect(await failure(left.send(frame(left.mac, left.mac)))).toMatchObject({
        code: 'ENODEV',
        message: expect.stringContaining('was closed'),
      });
      expect(left.state).toBe('closed');
      await left.close();
    });

    it('house: a card that goes ends all waits with ENODEV', async ({ skip }) => {
      const { subject, left } = await begin(open);
      if (subject.unplug === undefined) return skip();
      const events: PortEvent['kind'][] = [];
      left.on(({ kind }) => events.push(kind));
      const reader = failure(left.frames().next());
      await Promise.resolve();
      await subject.unplug(0);
      expect((await reader).code).toBe('ENODEV');
      expect([left.state, (await failure(left.send(frame(left.mac, left.mac)))).code]).toEqual(['gone', 'ENODEV']);
      expect(events).toContain('gone');
    });
  });
}
