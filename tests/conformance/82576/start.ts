/** Cases of starting a port: reset, address, EEPROM, link, interrupts (4.6, 6, 3.5, 7.3). */
import { setImmediate as turnOfEventLoop } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { macText } from '../../../src/drivers/82576/mac-address.ts';
import { frame } from './bytes.ts';
import { begin, drive, failure, Inbox, type OpenNet } from './subject.ts';

export function startCases(open: OpenNet): void {
  it('4.6.1 a port starts from any state, and again, and has the address of its EEPROM', async () => {
    const { subject, left, right } = await begin(open);
    const words = [];
    for (let i = 0; i < 3; i++) words.push(await left.eepromWord(i));
    const read = Uint8Array.from(words.flatMap((word) => [word & 0xff, word >>> 8]));
    expect([left.mac, left.permanentMac]).toEqual([macText(read), macText(read)]);
    expect(left.mac).not.toBe(right.mac);
    await left.close();
    const again = await drive(subject, 0);
    expect([again.mac, again.state]).toEqual([macText(read), 'live']);
  });

  it('6.2.10 words 0 to 0x3f of the EEPROM add up', async () => {
    const { left } = await begin(open);
    expect(await left.eepromGood()).toBe(true);
  });

  it('3.5.2 the PHY answers, and both ends agree on full duplex at 1000 Mbit/s', async () => {
    const { left, right } = await begin(open);
    const up = { up: true, speed: 1000, fullDuplex: true };
    expect([left.link, right.link]).toEqual([up, up]);
    expect([await left.readPhy(2), (await left.readPhy(3)) & 0xfff0]).toEqual([0x02a8, 0x0390]);
  });

  it.each(['msix', 'msi', 'intx', 'poll'] as const)('7.3 a frame comes with interrupts by %s', async (interrupts) => {
    const { left, right } = await begin(open, { interrupts });
    expect(right.interrupts).toBe(interrupts);
    using inbox = new Inbox(right);
    for (let i = 0; i < 20; i++) {
      const sent = frame(right.mac, left.mac, 64, i);
      // It is awaited before it comes, so that an interrupt has to announce it.
      const next = inbox.next();
      await turnOfEventLoop();
      await left.send(sent);
      expect((await next).bytes).toEqual(sent);
    }
    await left.flush({ timeoutMs: 60_000 });
    expect(left.transmitQueue().inFlight).toBe(0);
    const { IAC: interruptsSent } = right.statistics().registers;
    if (interrupts === 'poll') expect(interruptsSent).toBe(0);
    else expect(interruptsSent).toBeGreaterThan(0);
  });

  it('house: options that make no sense are refused, and the device is closed', async () => {
    const subject = await open();
    await using _subject = subject;
    const dev = subject.open(0);
    expect(await failure(drive(Object.assign(Object.create(subject), { open: () => dev }), 0, { queues: 17 }))).toMatchObject({
      code: 'EINVAL',
    });
    expect((await failure(drive(subject, 0, { mtu: 20 }))).message).toContain('mtu');
    expect((await failure(drive(subject, 0, { mac: '01:00:00:00:00:01' }))).message).toContain('no address of a station');
    expect((await failure(drive(subject, 0, { receiveEntries: 100 }))).fix).toContain('power of two');
    // The device is free again.
    expect((await drive(subject, 0)).state).toBe('live');
  });
}
