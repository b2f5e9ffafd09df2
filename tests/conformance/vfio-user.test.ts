/** The conformance cases over a socket: our client, and our server in another process with the engine behind it. */
import { afterAll, beforeAll } from 'vitest';
import { EventFd } from '../../src/sys/eventfd.ts';
import { VfioUserDevice } from '../../src/vfio-user/client.ts';
import { ServerProcess } from '../kit/server-process.ts';
import { deviceConformance } from './device-conformance.ts';
import type { ConformanceSubject } from './subject.ts';

/** Each turn lets the model's next step happen, and what it causes arrive; nothing of edu takes more. */
const TURNS = 10;
const TIMEOUT_MS = 20_000;

let server: ServerProcess;
beforeAll(async () => {
  server = await ServerProcess.start();
});
afterAll(() => server[Symbol.asyncDispose]());

async function subject(twinSocket: boolean): Promise<ConformanceSubject> {
  await server.fresh();
  const connect = () => VfioUserDevice.connect(server.path, { timeoutMs: TIMEOUT_MS, twinSocket });
  const device = connect();
  return {
    device,
    eventfd: () => EventFd.create(),
    reopen: connect,
    async until(done) {
      for (let turn = 0; turn < TURNS; turn++) {
        if (done()) return true;
        await new Promise<void>((resolve) => setTimeout(() => setImmediate(resolve), 2));
      }
      return done();
    },
    async [Symbol.asyncDispose]() {
      device.close();
    },
  };
}

deviceConformance('vfio-user, one socket', () => subject(false));
deviceConformance('vfio-user, with a twin socket', () => subject(true));
