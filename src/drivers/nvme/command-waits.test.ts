import { afterEach, expect, it } from 'vitest';
import { bytes, closeAll, failsWith, start, within } from '../../../tests/kit/nvme/driver-under-test.ts';
import { FakeController } from '../../../tests/kit/nvme/fake-controller.ts';
import type { VfioEvent } from '../../abi/event.ts';
import { NvmOpcode } from '../../abi/nvme.ts';
import { Status } from '../../abi/nvme-status.ts';

afterEach(closeAll);

async function working() {
  const fake = new FakeController();
  const driver = await start(fake);
  return { fake, driver, ns: driver.namespace(1) };
}

/** `Read on I/O 1: done` */
const words = (events: readonly VfioEvent[]) =>
  events.flatMap((event) => (event.kind === 'wait' && event.what.includes(' on ') ? [`${event.what}: ${event.outcome}`] : []));

it('commands are waits of the driver, but for its standing requests for events', async () => {
  const fake = new FakeController();
  using reader = fake.stream.read();
  const driver = await start(fake);
  const ns = driver.namespace(1);
  const started = words(reader.take());
  expect(started[0]).toBe('Identify on admin: done');
  expect(started.filter((each) => each.startsWith('Async'))).toEqual([]);
  await ns.write(0, bytes(512));
  await ns.read(0, 1);
  expect(words(reader.take())).toEqual(['Write on I/O 1: done', 'Read on I/O 1: done']);
});

it('a command of the ring is a wait too', async () => {
  const { fake, driver, ns } = await working();
  using buffer = driver.dev.dma.alloc(4096);
  using reader = fake.stream.read();
  const queue = driver.queue(0);
  const done = new Promise<void>((resolve) => {
    queue.onComplete = () => resolve();
  });
  queue.submitRead(ns, 0, 1, Number(buffer.iova), 1);
  queue.ring();
  await done;
  expect(words(reader.take())).toEqual(['Read on I/O 1: done']);
});

it('a command that fails, and one that a reset ends, have failed', async () => {
  const { fake, driver, ns } = await working();
  fake.script = ({ queue, opcode }) => (queue === 1 ? (opcode === NvmOpcode.READ ? Status.UNRECOVERED_READ_ERROR : 'hold') : undefined);
  using reader = fake.stream.read();
  await failsWith(ns.read(0, 1));
  const write = failsWith(ns.write(0, bytes(512)));
  fake.script = () => undefined;
  await within(10_000, driver.reset());
  await write;
  expect(words(reader.take()).filter((each) => each.includes('I/O'))).toEqual(['Read on I/O 1: failed', 'Write on I/O 1: failed']);
});

it('the driver’s lines are notes of the device where the driver has no log', async () => {
  const { fake, driver } = await working();
  using reader = fake.stream.read({ kinds: ['note'] });
  await within(10_000, driver.reset());
  expect(reader.take()).toMatchObject([{ level: 'warn', text: expect.stringContaining('is reset') }]);
});
