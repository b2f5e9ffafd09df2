/**
 * A driver in a thread of its own, at the end of a socket: the part of tests/events-equal.test.ts
 * that blocks its thread.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { ManualClock } from '../../src/base/clock.ts';
import { DriverDevice } from '../../src/drivers/kit/driver-device.ts';
import { EventStream } from '../../src/events/stream.ts';
import { VfioUserDevice } from '../../src/vfio-user/client.ts';
import { sessions } from './driver-sessions.ts';

const { path, session } = workerData as { readonly path: string; readonly session: keyof typeof sessions };
const events = new EventStream();
const reader = events.read({ kinds: ['message'], data: true });
const port = parentPort!;
const clock = new ManualClock();

/**
 * The device in the other thread gets older first. Its interrupts are here before this clock goes
 * on.
 */
async function pass(ms: number): Promise<void> {
  port.postMessage({ pass: ms });
  await new Promise((resolve) => port.once('message', resolve));
  await clock.pass(ms, async () => {
    for (let i = 0; i < 10; i++) await new Promise((resolve) => setImmediate(resolve));
  });
}

const dev = DriverDevice.attach(VfioUserDevice.connect(path, { keepAlive: true, events }), { clock });
await sessions[session].run(dev, pass);
port.postMessage({ pass: null, messages: reader.take() });
await new Promise((resolve) => port.once('message', resolve));
dev[Symbol.dispose]();
port.close();
