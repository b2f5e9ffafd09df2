/**
 * The other side of a device: its inputs and outputs, resets of its own, handlers that run one at a
 * time.
 */
import { expect, expectTypeOf, it } from 'vitest';
import { registers, u8, u32 } from '../../base/registers.ts';
import { bar } from './bar.ts';
import { device } from './device.ts';
import { TestHost } from './test-host.ts';

const Port = registers({ data: u8(0), count: u32(4, 'ro'), go: u32(8), gate: u32(12) });
const bar0 = bar('4K', Port);

function port() {
  return device({
    id: '1234:0001',
    name: 'port',
    bars: { bar0 },
    state: () => ({ received: 0 }),
    outputs: { transmit(_byte: number, _last: boolean) {}, fail() {} },
    inputs: {
      receive(dev, bytes: Uint8Array, times: number) {
        dev.state.received += bytes.length * times;
        dev.bar0.count = dev.state.received;
      },
      async fail() {
        throw new Error('in an input');
      },
    },
    on: {
      'bar0.data': (dev, byte) => dev.outputs.transmit(byte, true),
      'bar0.go': (dev) => dev.outputs.fail(),
    },
  });
}

it('inputs and outputs have the types of their declaration', () => {
  const instance = port().create(new TestHost());
  expectTypeOf(instance.inputs.receive).parameters.toEqualTypeOf<[bytes: Uint8Array, times: number]>();
  expectTypeOf(instance.inputs.fail).parameters.toEqualTypeOf<[]>();
  instance.on('transmit', (byte, last) => {
    expectTypeOf(byte).toEqualTypeOf<number>();
    expectTypeOf(last).toEqualTypeOf<boolean>();
  });
  // @ts-expect-error no such output
  expect(() => instance.on('transmitt', () => {})).toThrow(
    expect.objectContaining({ message: "the device has no output 'transmitt'", fix: "Did you mean 'transmit'?" }),
  );
});

it('a timer that is not declared is an error of the handler, which names the nearest', () => {
  const host = new TestHost();
  const model = device({
    id: '1234:0001',
    bars: { bar0: bar('4K', Port) },
    on: { 'bar0.go': (dev) => dev.schedule('dnoe', 1) },
    timers: { done() {} },
  });
  host.plug(model);
  host.bar(0, Port).go = 1;
  expect(host.logged[0]!.message).toMatch(/bar0\.go failed: EINVAL: the device has no timer 'dnoe'.*Did you mean 'done'\?/s);
});

it('a host takes a model, not the function that makes one', () => {
  const given = port as never as ReturnType<typeof port>;
  expect(() => new TestHost().plug(given)).toThrow(
    expect.objectContaining({
      code: 'EINVAL',
      message: 'plug() is given a function; it takes a model that device() made',
      fix: 'Call the function, and give its result: plug(uart()).',
    }),
  );
});

it('inputs reach their own instance, also after a reset', () => {
  const [one, other] = [new TestHost(), new TestHost()];
  const [line] = [one.plug(port()), other.plug(port())];
  line.inputs.receive(Uint8Array.of(1, 2), 3);
  expect([one.bar(0, Port).count, other.bar(0, Port).count]).toEqual([6, 0]);
  one.reset();
  line.inputs.receive(Uint8Array.of(1), 1);
  expect(one.bar(0, Port).count).toBe(1);
});

it('outputs reach the listeners of their own instance until these are disposed', () => {
  const host = new TestHost();
  const seen: unknown[] = [];
  const listening = host.plug(port()).on('transmit', (...args) => void seen.push(args));
  host.bar(0, Port).data = 7;
  host.reset();
  host.bar(0, Port).data = 8;
  listening[Symbol.dispose]();
  host.bar(0, Port).data = 9;
  expect(seen).toEqual([
    [7, true],
    [8, true],
  ]);
});

it('an input or a listener that fails is logged, and the others run', async () => {
  const host = new TestHost();
  const line = host.plug(port());
  let heard = 0;
  line.on('fail', () => {
    throw new Error('in a listener');
  });
  line.on('fail', () => void heard++);
  line.inputs.fail();
  host.bar(0, Port).go = 1;
  await host.idle();
  expect(heard).toBe(1);
  expect(host.logged.map(({ message }) => message.split('\n')[0])).toEqual([
    'port: output fail failed: Error: in a listener',
    'port: input fail failed: Error: in an input',
  ]);
});

it('dev.reset() is a reset of BARs, state and timers, after which the handler’s device reaches nothing', async () => {
  const host = new TestHost();
  const seen: string[] = [];
  host.plug(
    device({
      id: '1234:0001',
      bars: { bar0: bar('4K', Port, { count: { reset: 5 } }) },
      state: () => ({ lives: 1 }),
      outputs: { put(_text: string) {} },
      on: {
        start: (dev) => void seen.push(`start ${dev.bar0.count}`),
        'bar0.data'(dev) {
          dev.bar0.count = 9;
          dev.irq.raise();
          dev.schedule('late', 1);
          dev.reset();
          dev.bar0.count = 10;
          dev.irq.raise();
          dev.outputs.put('late');
          dev.schedule('late', 1);
          dev.reset();
        },
      },
      timers: { late: () => void seen.push('late') },
    }),
  );
  const port = host.bar(0, Port);
  port.go = 3;
  port.data = 1;
  await host.advance(10);
  expect([port.count, port.go, port.data]).toEqual([5, 0, 0]);
  expect(host.irqEvents).toEqual(['raise', 'lower']);
  expect(seen).toEqual(['start 5', 'start 5']);
});

it('a serial handler runs one at a time; writes meanwhile are one more run, with the last value', async () => {
  const host = new TestHost();
  const seen: string[] = [];
  host.plug(
    device({
      id: '1234:0001',
      bars: { bar0 },
      on: {
        'bar0.go': {
          async serial(dev, written, before) {
            seen.push(`begin ${written} after ${before}`);
            await dev.sleep(10);
            seen.push(`end ${written}`);
          },
        },
      },
    }),
  );
  const port = host.bar(0, Port);
  for (const value of [1, 2, 3]) port.go = value;
  await host.advance(100);
  await host.idle();
  port.go = 4;
  expect(seen).toEqual(['begin 1 after 0', 'end 1', 'begin 3 after 2', 'end 3', 'begin 4 after 3']);
});

it.each([0, 1, 2, 3, 4, 5, 6])('a serial handler sees a write that comes %i microtasks after its end', async (microtasks) => {
  const host = new TestHost();
  const seen: number[] = [];
  host.plug(
    device({
      id: '1234:0001',
      bars: { bar0 },
      on: {
        'bar0.go': {
          async serial(_, written) {
            seen.push(written);
            if (written === 1) void writeLater();
          },
        },
      },
    }),
  );
  const port = host.bar(0, Port);
  async function writeLater(): Promise<void> {
    for (let i = 0; i < microtasks; i++) await null;
    port.go = 2;
  }
  port.go = 1;
  await host.idle();
  expect(seen).toEqual([1, 2]);
});

it('a serial handler that fails runs again all the same, and a reset sets it free', async () => {
  const host = new TestHost();
  let runs = 0;
  host.plug(
    device({
      id: '1234:0001',
      bars: { bar0 },
      on: {
        'bar0.go': {
          async serial(dev, written) {
            runs++;
            await dev.sleep(1);
            if (written === 1) throw new Error('first');
          },
        },
      },
    }),
  );
  const port = host.bar(0, Port);
  port.go = 1;
  port.go = 2;
  await host.advance(10);
  expect([runs, host.logged.length]).toEqual([2, 1]);
  port.go = 3;
  host.reset();
  port.go = 4;
  expect(runs).toBe(4);
});

it('host.idle() waits for handlers at work, and says which clock they wait for', async () => {
  const host = new TestHost();
  let done = 0;
  host.plug(
    device({
      id: '1234:0001',
      bars: { bar0 },
      on: {
        async 'bar0.go'() {
          for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve));
          done++;
        },
        async 'bar0.data'(dev) {
          await dev.sleep(1);
          done++;
        },
        async 'bar0.gate'(dev) {
          await dev.dma.read(host.base, 4);
          done++;
        },
      },
    }),
  );
  const port = host.bar(0, Port);
  port.go = 1;
  await host.idle();
  expect(done).toBe(1);
  port.data = 1;
  await expect(host.idle()).rejects.toMatchObject({ code: 'EBUSY', message: 'the clock stands still, and a handler waits for it' });
  host.dmaDelayMs = 1;
  port.gate = 1;
  await expect(host.idle()).rejects.toMatchObject({ code: 'EBUSY' });
  await host.advance(1);
  await host.idle();
  expect(done).toBe(3);
});
