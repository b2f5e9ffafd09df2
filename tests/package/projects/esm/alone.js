// A program whose bundle stands away from the package: models work, and calls that need the addon
// say so.
import { bar, device, open, registers, u32 } from 'vfio-ts';
import { EventFd } from 'vfio-ts/machine';

const Card = registers({ value: u32(0x00) });

open(device({ id: '1234:cafe', bars: { bar0: bar('4K', Card) } })).then((dev) => {
  const card = dev.bar(0, Card);
  card.value = 42;
  try {
    EventFd.create();
  } catch (error) {
    console.log(card.value, error.code, error.fix);
  }
  dev[Symbol.dispose]();
});
