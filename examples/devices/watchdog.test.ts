/** The watchdog in virtual time. */
import { ManualClock, open, TestHost } from 'vfio-ts';
import { expect, it } from 'vitest';
import watchdog, { Reload, Unlock, Watchdog, WatchdogConfig } from './watchdog.ts';

/**
 * A watchdog with two counts of about 100 ms, enabled, and how often it has pulled the reset line.
 */
function armed() {
  const host = new TestHost({ mode: 'intx' });
  const instance = host.plug(watchdog);
  const registers = host.bar(0, Watchdog);
  const seen = { reboots: 0 };
  instance.on('reboot', () => void seen.reboots++);
  const unlock = () => {
    registers.reload.value = Unlock.FIRST;
    registers.reload.value = Unlock.SECOND;
  };
  const set = (name: 'timer1' | 'timer2', ticks: number) => {
    unlock();
    registers[name] = ticks;
  };
  const keepAlive = () => {
    unlock();
    registers.reload.value = Reload.RELOAD;
  };
  set('timer1', 100);
  set('timer2', 100);
  host.config.write(0x68, 1, 0x02);
  return { host, registers, seen, unlock, set, keepAlive };
}

it('takes a write after the unlock sequence, and one alone', () => {
  const { registers, set } = armed();
  registers.timer1 = 7;
  expect(registers.timer1).toBe(100);
  set('timer1', 8);
  registers.timer1 = 9;
  expect(registers.timer1).toBe(8);
});

it('a wrong sequence unlocks nothing', () => {
  const { registers } = armed();
  registers.reload.value = Unlock.SECOND;
  registers.reload.value = Unlock.FIRST;
  registers.timer1 = 7;
  expect(registers.timer1).toBe(100);
});

it('an unlock sequence begins anew at its first value', () => {
  const { registers, unlock, set } = armed();
  unlock();
  set('timer1', 8);
  expect(registers.timer1).toBe(8);
});

it('interrupts after the first count, and pulls the reset line after the second', async () => {
  const { host, registers, seen } = armed();
  await host.advance(101);
  expect([host.asserted, registers.interrupt.active, seen.reboots]).toEqual([true, 1, 0]);
  registers.interrupt.active = 1;
  expect(host.asserted).toBe(false);
  await host.advance(100);
  expect([seen.reboots, registers.reload.timedOut]).toEqual([1, 1]);
  await host.advance(1000);
  expect(seen.reboots).toBe(1);
});

it('does nothing to a computer that keeps it alive', async () => {
  const { host, keepAlive, seen } = armed();
  for (let i = 0; i < 10; i++) {
    await host.advance(90);
    keepAlive();
  }
  expect([seen.reboots, host.irqEvents]).toEqual([0, []]);
});

it('registers of config space choose the clock, the interrupt and the output', async () => {
  const { host, keepAlive, seen } = armed();
  host.config.write(0x60, 2, 0x27); // no interrupt, the fast clock, no output
  keepAlive();
  await host.advance(1);
  expect([host.irqEvents, seen.reboots, host.config.read(0x60, 2)]).toEqual([[], 0, 0x27]);
});

it('once locked it stays enabled until a reset', async () => {
  const { host } = armed();
  host.config.write(0x68, 1, 0x03);
  host.config.write(0x68, 1, 0x00);
  expect(host.config.read(0x68, 1)).toBe(0x03);
  host.reset();
  expect(host.config.read(0x68, 1)).toBe(0);
  expect(host.clock.pendingTimers).toBe(0);
});

it('a driver behind VFIO reaches both registers of config space', async () => {
  const clock = new ManualClock();
  using dev = await open(watchdog, { match: '8086:25ab', clock });
  let reboots = 0;
  dev.instance.on('reboot', () => void reboots++);
  const config = dev.config.registers(WatchdogConfig);
  const registers = dev.bar(0, Watchdog);
  config.control.interruptType = 3;
  config.lock.enabled = 1;
  registers.reload.value = Unlock.FIRST;
  registers.reload.value = Unlock.SECOND;
  registers.timer1 = 10;
  registers.reload.value = Unlock.FIRST;
  registers.reload.value = Unlock.SECOND;
  registers.reload.value = Reload.RELOAD;
  expect([config.control.value, config.lock.value, dev.config.read32(0x68)]).toEqual([3, 2, 2]);
  await clock.pass(2_000_000);
  expect(reboots).toBe(1);
});
