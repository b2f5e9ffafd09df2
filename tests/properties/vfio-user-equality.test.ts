/**
 * A device over a socket answers as it does in this process: any sequence of calls, with the same
 * values and the same errno, call by call.
 *
 * Not compared, because the protocol does not carry it: a device's name, IOVA ranges, the devices
 * that a bus reset would hit, that the MSI-X table's pages may be mapped, and the table itself
 * through a mapping (the server shows it as pread does: ones).
 */

import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { VfioUserDevice } from '../../src/vfio-user/client.ts';
import { ServerProcess } from '../kit/server-process.ts';
import { calls, here, outcome, User } from './device-calls.ts';

const RUNS = 60;

let server: ServerProcess;
beforeAll(async () => {
  server = await ServerProcess.start({ model: new URL('../kit/many-bars-model.ts', import.meta.url).pathname });
});
afterAll(() => server[Symbol.asyncDispose]());

async function there(twinSocket: boolean): Promise<User> {
  await server.fresh();
  return new User(VfioUserDevice.connect(server.path, { timeoutMs: 120_000, twinSocket }), null);
}

for (const twin of [false, true]) {
  it(`any calls, over ${twin ? 'two sockets' : 'one socket'} and in this process, are answered alike`, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(calls, { minLength: 1, maxLength: 60 }), async (sequence) => {
        using local = here();
        using remote = await there(twin);
        const expected: unknown[] = [];
        const got: unknown[] = [];
        for (const call of sequence) {
          expected.push([call.what, outcome(call, local)]);
          got.push([call.what, outcome(call, remote)]);
        }
        expect(got).toEqual(expected);
      }),
      { numRuns: RUNS },
    );
  });
}
