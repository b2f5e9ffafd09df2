/** The device's other side, which `open(model)` and `serve(model)` hand to a program. */
import { expect, expectTypeOf, it } from 'vitest';
import type { DeviceHost, Model } from '../abi/device-host.ts';
import { registers, u32 } from '../base/registers.ts';
import { bar } from '../models/kit/bar.ts';
import { device } from '../models/kit/device.ts';
import { open } from './open.ts';
import { DeviceServer } from './serve.ts';

const BDF = '0000:01:00.0';
const Lamp = registers({ on: u32(0), pressed: u32(4, 'ro') });

const lamp = () =>
  device({
    id: '1234:0001',
    bars: { bar0: bar('4K', Lamp) },
    outputs: { lit(_on: boolean) {} },
    inputs: {
      press(dev, times: number) {
        dev.bar0.pressed += times;
      },
    },
    on: { 'bar0.on': (dev, on) => dev.outputs.lit(on === 1) },
  });

it('open(model) hands out the instance, with the types of its declaration', async () => {
  using dev = await open(lamp());
  expectTypeOf(dev.instance.inputs.press).parameters.toEqualTypeOf<[times: number]>();
  const seen: boolean[] = [];
  dev.instance.on('lit', (on) => void seen.push(on));
  const registers = dev.bar(0, Lamp);
  registers.on = 1;
  dev.instance.inputs.press(3);
  expect([seen, registers.pressed]).toEqual([[true], 3]);
});

it('the instance of a model that is a class is the object that create returned', async () => {
  class Counter implements Model {
    presses = 0;
    read(): number {
      return this.presses;
    }
    write(): void {}
    reset(): void {}
  }
  const model = { declaration: lamp().declaration, create: (_host: DeviceHost) => new Counter() };
  using dev = await open(model);
  dev.instance.presses = 5;
  expect(dev.bar(0, Lamp).pressed).toBe(5);
});

it('a device at an address has no instance', async () => {
  using dev = await open('sim:edu');
  expect(dev.instance).toBe(undefined);
});

it('a served model has a new instance for each client, and after replace', () => {
  using server = new DeviceServer(lamp(), { keepAlive: false, manage: false });
  const seen: string[] = [];
  let instances = 0;
  using _listening = server.onInstance((instance) => {
    const number = ++instances;
    instance.on('lit', (on) => void seen.push(`${number}: ${on}`));
  });
  expect(server.instance).toBe(server.machine.function(BDF).host.model);
  server.instance.write(0, 0, 4, 1);
  server.replace(lamp());
  server.instance.write(0, 0, 4, 0);
  expect(seen).toEqual(['1: true', '2: false']);
});
