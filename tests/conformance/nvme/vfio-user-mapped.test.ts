/** The NVMe driver over a socket, with doorbells that it maps. */
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll } from 'vitest';
import { DriverDevice } from '../../../src/drivers/kit/driver-device.ts';
import { VfioUserDevice } from '../../../src/vfio-user/client.ts';
import { ServerProcess } from '../../kit/server-process.ts';
import { nvmeConformance } from './nvme-conformance.ts';
import type { NvmeSubject } from './subject.ts';

const TIMEOUT_MS = 120_000;

let server: ServerProcess;
const startServer = () => ServerProcess.start({ model: fileURLToPath(new URL('./mapped-disk.ts', import.meta.url)) });

beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server[Symbol.asyncDispose]());

async function subject(): Promise<NvmeSubject> {
  await server.fresh();
  const opened: DriverDevice[] = [];
  return {
    mappedDoorbells: true,
    open() {
      const dev = DriverDevice.attach(VfioUserDevice.connect(server.path, { timeoutMs: TIMEOUT_MS }));
      opened.push(dev);
      return dev;
    },
    async unplug() {
      await server.kill();
      server = await startServer();
    },
    async [Symbol.asyncDispose]() {
      for (const dev of opened) dev.close();
    },
  };
}

nvmeConformance('vfio-user, with mapped doorbells', subject);
