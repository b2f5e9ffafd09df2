/**
 * A watchdog: Intel's 6300ESB, as Linux's i6300esb drives it. Its timer counts twice. After the
 * first time it interrupts, after the second it pulls the reset line of the computer: the output
 * `reboot`.
 *
 * Each register of the timer takes one write after the driver has written 0x80 and then 0x86 to
 * `reload`. How the timer runs stands in config space.
 *
 * @see Intel 6300ESB I/O Controller Hub datasheet, 300641, chapter 16
 */
import { bar, bit, bits, configRegisters, type Dev, device, registers, u8, u16, u32 } from 'vfio-ts';

export const Watchdog = registers({
  timer1: u32(0x00), // 20 bits
  timer2: u32(0x04),
  interrupt: u32(0x08, { active: bit(0, 'w1c') }),
  reload: u16(0x0c, { reload: bit(8), timedOut: bit(9, 'ro') }),
});

/** In config space. */
export const WatchdogConfig = registers({
  control: u16(0x60, { interruptType: bits(1, 0), fast: bit(2), outputOff: bit(5) }),
  lock: u8(0x68, { locked: bit(0), enabled: bit(1), freeRunning: bit(2) }),
});

/** Written to `reload`, one after the other. */
export const Unlock = { FIRST: 0x80, SECOND: 0x86 } as const;
/** Bits of `reload`, once it is unlocked. */
export const Reload = { RELOAD: 0x100, TIMED_OUT: 0x200 } as const;

const PCI_CLOCK_HZ = 33_000_000;

const bar0 = bar(16, Watchdog, {
  timer1: { writable: 0xf_ffff, reset: 0xf_ffff },
  timer2: { writable: 0xf_ffff, reset: 0xf_ffff },
});
const config = configRegisters(WatchdogConfig);

const outputs = {
  /** The reset line of the computer is pulled. */
  reboot() {},
};

interface State {
  /** The writes of the unlock sequence that have come. */
  unlock: 0 | 1 | 2;
  stage: 1 | 2;
}

type Timer = Dev<{ bar0: typeof bar0 }, State, typeof config, typeof outputs>;

/** Begins the first count anew, where the timer is enabled. */
function restart(dev: Timer): void {
  dev.cancel('expired');
  if (!dev.config.lock.enabled) return;
  count(dev, 1);
}

function count(dev: Timer, stage: 1 | 2): void {
  dev.state.stage = stage;
  const ticks = stage === 1 ? dev.bar0.timer1 : dev.bar0.timer2;
  // The prescaler: a tick is 2^15 clocks of the bus (about 1 ms), or 2^5.
  const clocks = ticks * 2 ** (dev.config.control.fast ? 5 : 15);
  dev.schedule('expired', (1000 * clocks) / PCI_CLOCK_HZ);
}

/** Whether the write that is being handled was unlocked. Each sequence unlocks one write. */
function takeUnlocked(dev: Timer): boolean {
  const unlocked = dev.state.unlock === 2;
  dev.state.unlock = 0;
  return unlocked;
}

export default device({
  id: '8086:25ab',
  name: 'i6300esb',
  class: 0x088000, // base system peripheral
  pcie: false,
  intx: 'A',
  bars: { bar0 },
  config,
  outputs,
  state: (): State => ({ unlock: 0, stage: 1 }),
  on: {
    'bar0.timer1'(dev, _, before) {
      if (!takeUnlocked(dev)) dev.bar0.timer1 = before;
    },
    'bar0.timer2'(dev, _, before) {
      if (!takeUnlocked(dev)) dev.bar0.timer2 = before;
    },
    'bar0.interrupt'(dev) {
      if (!dev.bar0.interrupt.active) dev.irq.lower();
    },
    'bar0.reload'(dev, written) {
      const { bar0, state } = dev;
      bar0.reload.reload = 0;
      if (written === Unlock.FIRST || (written === Unlock.SECOND && state.unlock === 1)) {
        state.unlock = written === Unlock.FIRST ? 1 : 2;
        return;
      }
      if (!takeUnlocked(dev)) return;
      if ((written & Reload.TIMED_OUT) !== 0) bar0.reload.timedOut = 0;
      if ((written & Reload.RELOAD) !== 0) restart(dev);
    },
    'config.lock'(dev, _, before) {
      // Once locked, the timer stays as it is until a reset.
      if ((before & 0x01) !== 0) dev.config.lock.value = before;
      else if (((dev.config.lock.value ^ before) & 0x02) !== 0) restart(dev);
    },
  },
  timers: {
    expired(dev) {
      const { bar0, config, irq, outputs, state } = dev;
      if (state.stage === 1) {
        if (config.control.interruptType === 0) {
          bar0.interrupt.active = 1;
          irq.raise();
        }
        return count(dev, 2);
      }
      bar0.reload.timedOut = 1;
      if (!config.control.outputOff) outputs.reboot();
      if (config.lock.freeRunning) count(dev, 1);
    },
  },
  migration: true,
});
