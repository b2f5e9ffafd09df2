// hello-driver.ts
// Its driver. Run it: npx vfio run hello-driver.ts sim:./hello-device.ts
import { open } from 'vfio-ts';
import { Card } from './hello-device.ts'; // the registers, by the same names

export async function main(address: string) {
  using dev = await open(address, { match: '1234:cafe' }); // closed at the end of the block
  const card = dev.bar(0, Card);
  const irq = dev.msi.enable(1);
  const buffer = dev.dma.alloc(4096); // memory that the card may reach, at buffer.iova
  dev.busMaster = true; // until now it could reach nothing

  const { written } = new TextEncoder().encodeInto('hello from user space', buffer.bytes);
  card.address = buffer.iova;
  card.length = written;
  card.shout = 1;
  await irq.next(0, { timeoutMs: 10_000 });

  console.log(new TextDecoder().decode(buffer.bytes.subarray(0, written)));
}
