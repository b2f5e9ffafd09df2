// A test of a device in virtual time.
import { edu, TestHost } from 'vfio-ts/device';
import { expect, it } from 'vitest';

it('edu has the factorial once the clock has moved on', () => {
  const host = new TestHost();
  const model = edu({ factorialMs: 5 }).create(host);
  model.write(0, 0x08, 4, 5);
  expect(model.read(0, 0x08, 4)).toBe(5);
  host.clock.advance(5);
  expect(model.read(0, 0x08, 4)).toBe(120);
});
