// edu-at-work.ts
// A driver that works until its device is wanted back, and says what it hears: docs/admin.md runs it.
import { EduDriver, open } from 'vfio-ts';

export async function main(address: string) {
  using dev = await open(address, { match: EduDriver.ids });
  using edu = new EduDriver(dev);
  let over = false;
  dev.on((event) => {
    console.log(event.kind);
    if (event.kind === 'suspend') event.acknowledge();
    over ||= event.kind === 'request' || event.kind === 'gone';
  });
  console.log('at work');
  for (let rounds = 1; !over; rounds++) {
    if ((await edu.factorial(10)) !== 3628800) throw new Error(`a wrong answer in round ${rounds}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
