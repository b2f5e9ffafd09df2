/** Cases of virtual functions: mailbox, pools, the switch (7.8, 4.5.3, 8.26). */
import { setImmediate as turnOfEventLoop } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { VfReg } from '../../../src/abi/82576.ts';
import { Message, MessageFlag, VfMailbox } from '../../../src/abi/82576-mailbox.ts';
import type { PortEvent } from '../../../src/drivers/82576/events.ts';
import { macBytes, macText, multicastHash } from '../../../src/drivers/82576/mac-address.ts';
import { BROADCAST, frame, seedOf } from './bytes.ts';
import { begin, drive, driveVf, failure, Inbox, type NetSubject, type OpenNet, type Pair } from './subject.ts';

const OTHER = '52:54:00:aa:bb:cc';
const GROUP = '01:00:5e:01:02:03';

export function virtualCases(open: OpenNet): void {
  /** Card 0 serves `count` virtual functions. */
  async function hosted(count: number, skip: () => void): Promise<(Pair & { subject: Required<NetSubject> }) | null> {
    const pair = await begin(open, { virtualFunctions: true }, {});
    const { subject, left } = pair;
    if (subject.enableVfs === undefined || subject.openVf === undefined) {
      skip();
      return null;
    }
    await subject.enableVfs(count);
    await left.dev.until(() => left.virtualFunctions.count === count, { timeoutMs: 60_000 });
    return { ...pair, subject: subject as Required<NetSubject> };
  }

  describe('virtual functions', () => {
    it('7.8.2.9 a virtual function has an address by mailbox, and talks with the wire', async ({ skip }) => {
      const pair = await hosted(2, skip);
      if (pair === null) return;
      const { subject, left, right } = pair;
      const vf = await driveVf(subject, 0);
      expect(vf.mac).toBe(left.virtualFunctions.get(0).mac);
      expect((await vf.linkUp({ timeoutMs: 60_000 })).speed).toBe(1000);
      using atVf = new Inbox(vf);
      using atRight = new Inbox(right);
      await right.send(frame(vf.mac, right.mac, 100, 1));
      expect(seedOf((await atVf.next()).bytes)).toBe(1);
      await vf.send(frame(right.mac, vf.mac, 100, 2));
      expect(seedOf((await atRight.next()).bytes)).toBe(2);
      await vf.flush({ timeoutMs: 60_000 });
      expect([vf.statistics().receivedFrames, vf.statistics().sentFrames]).toEqual([1, 1]);
    });

    it('7.8.3 functions of one card reach each other and the physical one without the wire', async ({ skip }) => {
      const pair = await hosted(3, skip);
      if (pair === null) return;
      const { subject, left, right } = pair;
      const [a, b] = [await driveVf(subject, 0), await driveVf(subject, 2)];
      await a.linkUp({ timeoutMs: 60_000 });
      await b.linkUp({ timeoutMs: 60_000 });
      using atA = new Inbox(a);
      using atB = new Inbox(b);
      using atLeft = new Inbox(left);
      using atRight = new Inbox(right);
      await a.send(frame(b.mac, a.mac, 100, 1));
      const fromA = await atB.next();
      // QEMU does not set RDESC.STATUS.LB.
      expect([seedOf(fromA.bytes), fromA.looped]).toEqual([1, subject.qemu !== true]);
      await b.send(frame(left.mac, b.mac, 100, 2));
      expect(seedOf((await atLeft.next()).bytes)).toBe(2);
      await left.send(frame(a.mac, left.mac, 100, 3));
      expect(seedOf((await atA.next()).bytes)).toBe(3);
      // A broadcast reaches every function but its own, and the wire.
      await a.send(frame(BROADCAST, a.mac, 100, 4));
      for (const inbox of [atB, atLeft, atRight]) expect(seedOf((await inbox.next()).bytes)).toBe(4);
      // Nothing of the above but the broadcast has reached the wire, nor has it come back.
      await right.send(frame(a.mac, right.mac, 100, 5));
      expect(seedOf((await atA.next()).bytes)).toBe(5);
      expect(right.statistics().receivedFrames).toBe(1);
    });

    it('7.8.2.9 addresses and groups by mailbox; a given address cannot be changed', async ({ skip }) => {
      const pair = await hosted(1, skip);
      if (pair === null) return;
      const { subject, left, right } = pair;
      const vf = await driveVf(subject, 0);
      using inbox = new Inbox(vf);
      await vf.setMac(OTHER);
      await vf.joinGroup(GROUP);
      expect([vf.mac, left.virtualFunctions.get(0).mac]).toEqual([OTHER, OTHER]);
      await right.send(frame(OTHER, right.mac, 100, 1));
      await right.send(frame(GROUP, right.mac, 100, 2));
      expect((await inbox.take(2)).map(({ bytes }) => seedOf(bytes))).toEqual([1, 2]);
      let recovered = false;
      vf.on(({ kind }) => {
        recovered ||= kind === 'recovered';
      });
      left.virtualFunctions.setMac(0, '52:54:00:00:07:07');
      await vf.dev.until(() => recovered, { timeoutMs: 60_000 });
      expect(vf.mac).toBe('52:54:00:00:07:07');
      expect(await failure(vf.setMac(OTHER))).toMatchObject({ code: 'EPERM', message: expect.stringContaining('refuses') });
      expect(left.virtualFunctions.get(0)).toMatchObject({ macFixed: true, refused: 1, started: true });
    });

    it('7.8.2.9 a function cannot take the address of another, also of one that has not started', async ({ skip }) => {
      const pair = await hosted(3, skip);
      if (pair === null) return;
      const { subject, left } = pair;
      const [vf, thief] = [await driveVf(subject, 0), await driveVf(subject, 1)];
      const own = thief.mac;
      // The third function's driver starts later.
      const third = macBytes(left.mac).map((byte, i) => (i === 0 ? (byte & 0xfe) | 2 : i === 1 ? byte ^ 0x82 : byte));
      for (const mac of [vf.mac, left.mac, macText(third)]) {
        expect((await failure(thief.setMac(mac))).code).toBe('EPERM');
        expect((await failure(thief.addMac(mac))).code).toBe('EPERM');
      }
      expect((await driveVf(subject, 2)).mac).toBe(macText(third));
      expect([thief.mac, left.virtualFunctions.get(1).refused]).toEqual([own, 6]);
      // The administrator's word counts more than a function's own choice.
      await thief.setMac(OTHER);
      left.virtualFunctions.setMac(0, OTHER);
      await vf.dev.until(() => vf.mac === OTHER && thief.mac !== OTHER, { timeoutMs: 60_000 });
      // A trusted one may have the same address: two that stand in for each other.
      left.virtualFunctions.setTrust(1, true);
      await thief.setMac(OTHER);
      expect(thief.mac).toBe(OTHER);
    });

    it('7.8.2.9 promiscuity is for trusted functions', async ({ skip }) => {
      const pair = await hosted(1, skip);
      if (pair === null) return;
      const { subject, left, right } = pair;
      const vf = await driveVf(subject, 0);
      using inbox = new Inbox(vf);
      const events: PortEvent[] = [];
      left.on((event) => events.push(event));
      expect((await failure(vf.setPromiscuous({ groups: true }))).code).toBe('EPERM');
      expect(events).toContainEqual({ kind: 'vf-refused', vf: 0, request: 'SET_PROMISC', reason: 'it is not trusted' });
      left.virtualFunctions.setTrust(0, true);
      await vf.setPromiscuous({ groups: true });
      // QEMU drops groups that RCTL and MTA do not pass, whatever VMOLR.MPE says.
      if (subject.qemu === true) return;
      const group = '01:00:5e:7f:00:01';
      expect(multicastHash([1, 0, 0x5e, 0x7f, 0, 1])).toBe(0x010);
      await right.send(frame(group, right.mac, 100, 3));
      expect(seedOf((await inbox.next()).bytes)).toBe(3);
    });

    it('7.8.3.4 a function with a VLAN of the administrator sees no tag, and no other VLAN', async ({ skip }) => {
      const pair = await hosted(2, skip);
      if (pair === null) return;
      const { subject, left, right } = pair;
      left.virtualFunctions.setVlan(0, 7);
      const [a, b] = [await driveVf(subject, 0), await driveVf(subject, 1)];
      await a.linkUp({ timeoutMs: 60_000 });
      using atA = new Inbox(a);
      using atRight = new Inbox(right);
      await a.send(frame(right.mac, a.mac, 100, 1));
      const tagged = (await atRight.next()).bytes;
      expect([...tagged.subarray(12, 16)]).toEqual([0x81, 0, 0, 7]);
      await right.send(frame(a.mac, right.mac, 100, 2));
      await right.send(frame(a.mac, right.mac, 100, 3), { vlan: 8 });
      await right.send(frame(a.mac, right.mac, 100, 4), { vlan: 7 });
      const { bytes } = await atA.next();
      expect([seedOf(bytes), bytes[12]]).toEqual([4, 0x88]);
      expect((await failure(a.setVlans([9]))).code).toBe('EPERM');
      await b.setVlans([9]);
      expect(left.virtualFunctions.get(1).vlans).toEqual([9]);
    });

    it('7.8.3.5 a function that sends from an address of another is blocked and reported', async ({ skip }) => {
      const pair = await hosted(1, skip);
      if (pair === null) return;
      const { subject, left, right } = pair;
      const vf = await driveVf(subject, 0);
      await vf.linkUp({ timeoutMs: 60_000 });
      // QEMU checks no addresses.
      if (subject.qemu === true) return skip();
      using atRight = new Inbox(right);
      await vf.send(frame(right.mac, OTHER, 100, 1));
      await vf.send(frame(right.mac, vf.mac, 100, 2));
      expect(seedOf((await atRight.next()).bytes)).toBe(2);
      left.virtualFunctions.setSpoofCheck(0, false);
      await vf.send(frame(right.mac, OTHER, 100, 3));
      expect(seedOf((await atRight.next()).bytes)).toBe(3);
    });

    it('4.2.1.5 functions come and go while the physical one works', async ({ skip }) => {
      const pair = await hosted(7, skip);
      if (pair === null) return;
      const { subject, left, right } = pair;
      const vf = await driveVf(subject, 6);
      await vf.linkUp({ timeoutMs: 60_000 });
      using atRight = new Inbox(right);
      await vf.send(frame(right.mac, vf.mac, 100, 1));
      expect(seedOf((await atRight.next()).bytes)).toBe(1);
      await vf.close();
      await subject.enableVfs(0);
      await left.dev.until(() => left.virtualFunctions.count === 0, { timeoutMs: 60_000 });
      await left.send(frame(right.mac, left.mac, 100, 2));
      expect(seedOf((await atRight.next()).bytes)).toBe(2);
      await subject.enableVfs(2);
      await left.dev.until(() => left.virtualFunctions.count === 2, { timeoutMs: 60_000 });
      const again = await driveVf(subject, 1);
      await again.linkUp({ timeoutMs: 60_000 });
      await again.send(frame(right.mac, again.mac, 100, 3));
      expect(seedOf((await atRight.next()).bytes)).toBe(3);
    });

    it('7.8.2.9 a reset of the physical function: functions start anew by themselves', async ({ skip }) => {
      const pair = await hosted(1, skip);
      if (pair === null) return;
      const { subject, left, right } = pair;
      const vf = await driveVf(subject, 0);
      let recovered = false;
      vf.on(({ kind }) => {
        recovered ||= kind === 'recovered';
      });
      await left.reset();
      await vf.dev.until(() => recovered, { timeoutMs: 60_000 });
      await vf.linkUp({ timeoutMs: 60_000 });
      await right.linkUp({ timeoutMs: 60_000 });
      using atRight = new Inbox(right);
      await vf.send(frame(right.mac, vf.mac, 100, 1));
      expect(seedOf((await atRight.next()).bytes)).toBe(1);
    });

    it('house: the driver of the physical function ends and comes again: functions go on, by interrupts', async ({ skip }) => {
      const pair = await hosted(2, skip);
      if (pair === null) return;
      const { subject, left } = pair;
      // QEMU's functions do not come back by themselves when the physical one is opened again.
      if (subject.qemu === true) return skip();
      const [a, b] = [await driveVf(subject, 0), await driveVf(subject, 1)];
      let recovered = 0;
      for (const vf of [a, b])
        vf.on(({ kind }) => {
          if (kind === 'recovered') recovered++;
        });
      await left.close();
      const again = await drive(subject, 0, { virtualFunctions: true });
      await again.dev.until(() => recovered >= 2, { timeoutMs: 60_000 });
      await a.linkUp({ timeoutMs: 60_000 });
      await b.linkUp({ timeoutMs: 60_000 });
      using atB = new Inbox(b);
      for (let i = 0; i < 10; i++) {
        const next = atB.next();
        await turnOfEventLoop();
        await a.send(frame(b.mac, a.mac, 100, i));
        expect(seedOf((await next).bytes)).toBe(i);
      }
    });

    it('7.8.2.9 an answer that its function has not read is not overwritten', async ({ skip }) => {
      const pair = await hosted(1, skip);
      if (pair === null) return;
      const { subject, left } = pair;
      const dev = subject.openVf(0);
      const registers = dev.bar(0);
      const message = () => registers.read32(VfReg.VMBMEM);
      registers.write32(VfReg.VFMAILBOX, VfMailbox.VFU);
      registers.write32(VfReg.VMBMEM, Message.RESET);
      registers.write32(VfReg.VFMAILBOX, VfMailbox.REQ);
      const answer = (Message.RESET | MessageFlag.ACK) >>> 0;
      await left.dev.until(() => message() === answer, { timeoutMs: 60_000 });
      left.virtualFunctions.ping();
      expect(message()).toBe(answer);
      registers.write32(VfReg.VFMAILBOX, VfMailbox.VFU);
      registers.write32(VfReg.VFMAILBOX, VfMailbox.ACK);
      await left.dev.until(() => message() === (Message.PF_CONTROL | MessageFlag.CTS), { timeoutMs: 60_000 });
    });
  });
}
