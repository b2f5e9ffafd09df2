// hello-device.ts
// A PCI card that shouts: it takes text from memory, makes it upper case, puts it back, and
// interrupts.
import { bar, device, registers, u32, u64 } from 'vfio-ts';

export const Card = registers({
  address: u64(0x00), // where the text is
  length: u32(0x08), // how long it is, in bytes
  shout: u32(0x0c), // writing here starts the work
});

export default device({
  id: '1234:cafe', // vendor:device
  msi: 1, // one message-signalled interrupt
  bars: { bar0: bar('4K', Card) },
  on: {
    async 'bar0.shout'({ bar0, dma, irq }) {
      const text = await dma.read(bar0.address, bar0.length); // registers keep answering meanwhile
      for (const [i, byte] of text.entries()) if (byte >= 0x61 && byte <= 0x7a) text[i] = byte - 0x20;
      await dma.write(bar0.address, text);
      irq.trigger(0);
    },
  },
});
