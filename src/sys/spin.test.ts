import { expect, it } from 'vitest';
import { UnixSocket } from './unix-socket.ts';

it.each([true, false])('a wait sees what came, and its time pass, with spins: %s', (spins) => {
  const [one, other] = UnixSocket.pair();
  using a = one;
  using b = other;
  a.spins = spins;
  b.spins = spins;
  const bytes = new Uint8Array(1);
  for (let i = 0; i < 600; i++) {
    expect(a.wait('readable', 0)).toBe(false);
    b.send(bytes, 0, 1);
    expect(a.wait('readable', 1000)).toBe(true);
    expect(a.waitEither(b, 1000)).toBe(1);
    a.receive(bytes, 0, 1, []);
  }
  expect([a.wait('readable', 3), a.waitEither(b, 3)]).toEqual([false, 0]);
});
