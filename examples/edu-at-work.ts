// edu-at-work.ts
// A driver that works until the machine wants its device back, and prints the events that it gets:
// docs/admin.md runs it.
import { EduDriver, open } from 'vfio-ts/driver';

export async function main(address: string) {
  using dev = await open(address, { match: EduDriver.ids });
  using edu = new EduDriver(dev, { timeoutMs: 1000 });
  let over = false;
  dev.on((event) => {
    console.log(event.kind);
    if (event.kind === 'suspend') event.acknowledge();
    over ||= event.kind === 'request' || event.kind === 'gone';
  });
  console.log('at work');
  // A reset by the administrator takes a round away: its answer is wrong, or its interrupt does not
  // come.
  for (let lost = 0; !over; await new Promise((resolve) => setTimeout(resolve, 10))) {
    const answer = await edu.factorial(10).catch(() => null);
    lost = answer === 3628800 ? 0 : lost + 1;
    if (lost > 3) throw new Error(`${lost} wrong answers, one after another`);
  }
}
