import { expect, it } from 'vitest';
import { FakeDevice } from '../../../tests/kit/fake-device.ts';
import { Mdic, Reg } from '../../abi/82576.ts';
import { Pstatus } from '../../abi/82576-phy.ts';
import type { RegisterAccess } from '../../abi/device.ts';
import { ManualClock } from '../../base/clock.ts';
import { VfioError } from '../../base/errno.ts';
import { DriverDevice } from '../kit/driver-device.ts';
import { Media } from './media.ts';

/** Accesses that release the semaphore of the PHY. */
const RELEASE = 8;

/** The registers of a card whose PHY has negotiated, until the card is pulled at some access. */
function cardUntil(accesses: number) {
  const words = new Map<number, number>();
  let left = accesses;
  const touch = () => {
    if (left-- <= 0) throw new VfioError('ENODEV', 'the card is gone');
  };
  const access = {
    read32: (offset: number) => {
      touch();
      return offset === Reg.MDIC ? Mdic.R | Pstatus.AN_COMPLETE : (words.get(offset) ?? 0);
    },
    write32: (offset: number, value: number) => {
      touch();
      words.set(offset, value);
    },
  };
  const dev = DriverDevice.attach(new FakeDevice(), { clock: new ManualClock() });
  return { media: new Media(dev, access as RegisterAccess), words, used: () => accesses - left };
}

const works: [string, (media: Media) => Promise<unknown>][] = [
  ['agreed pauses', (media) => media.agreedPauses()],
  ['power', (media) => media.power(true)],
];

it.each(works)('4.7: %s of a card that goes fail with ENODEV at any access, and leave no semaphore otherwise', async (_, work) => {
  const whole = cardUntil(1e6);
  await work(whole.media);
  expect([whole.words.get(Reg.SW_FW_SYNC), whole.words.get(Reg.SWSM)]).toEqual([0, 0]);
  for (let accesses = 0; accesses < whole.used(); accesses++) {
    const outcome = await work(cardUntil(accesses).media).then(
      () => 'done',
      (error: unknown) => (error instanceof VfioError ? error.code : error),
    );
    // The last accesses release the semaphore, and the work is done by then.
    expect(outcome).toBe(accesses < whole.used() - RELEASE ? 'ENODEV' : 'done');
  }
});
