// A timer on a PCI card: the driver sets a time, and the card interrupts when the time has passed.
import { bar, device, registers, u32 } from 'vfio-ts';

/** The registers, declared once: device and driver use the same map. */
export const Timer = registers({
  delayMs: u32(0x00), // the time to wait
  start: u32(0x04), // writing here starts the timer
  fired: u32(0x08, 'ro'), // how often it has fired
});

export default device({
  id: '1234:c10c', // vendor:device
  msi: 1, // one message-signalled interrupt
  bars: { bar0: bar('4K', Timer) },
  on: {
    async 'bar0.start'({ bar0, irq, sleep }) {
      await sleep(bar0.delayMs); // time of the device's clock, which a test can move
      bar0.fired += 1;
      irq.trigger(0);
    },
  },
});
