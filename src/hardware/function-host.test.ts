import { expect, it } from 'vitest';
import { DeviceRig, plain, resettable } from '../../tests/kit/device-rig.ts';
import { errnoFrom } from '../../tests/kit/errno.ts';
import { Command, Config } from '../abi/pci.ts';
import { Machine } from '../engine/machine/machine.ts';
import { pm } from '../pci/capabilities.ts';
import { HeapMemory } from '../sys/fake.ts';
import type { FunctionHost } from './function-host.ts';

it('S2-37 a function that does not decode its BAR answers ones and hears no write', () => {
  const rig = new DeviceRig(plain);
  const { host, config } = rig.fn;
  host.write(0, 0, 4, 7);
  expect(host.read(0, 0, 4)).toBe(7);
  config.write(Config.COMMAND, 2, Command.IO);
  host.write(0, 0, 4, 8);
  expect([host.read(0, 0, 4), host.read(0, 0, 2), host.read(0, 0, 1), host.read64(0, 0)]).toEqual([
    0xffff_ffff,
    0xffff,
    0xff,
    0xffff_ffff_ffff_ffffn,
  ]);
  config.write(Config.COMMAND, 2, Command.MEMORY);
  expect(host.read(0, 0, 4)).toBe(7);
});

it('S1-10 leaving D3hot without No_Soft_Reset resets the model and its configuration; with it nothing is lost', () => {
  for (const noSoftReset of [true, false]) {
    const rig = new DeviceRig({ ...plain, capabilities: [pm({ noSoftReset })] }, { params: { disableIdleD3: true } });
    const { config, host } = rig.fn;
    const control = config.findCapability(1) + 4;
    config.write(control, 2, 3);
    expect(host.powered).toBe(false);
    config.write(control, 2, 0);
    expect([host.powered, rig.model.resets]).toEqual([true, noSoftReset ? 0 : 1]);
    expect(config.memoryEnabled).toBe(noSoftReset);
    expect(rig.model.powers).toEqual(['D3hot', 'D0']);
  }
});

it('S2-32 the device lock has one holder, named to the next', () => {
  const { host } = new DeviceRig().fn;
  const held = host.lock('a sysfs reset');
  expect(() => host.lock('a driver')).toThrow(/locked by a sysfs reset/);
  expect(errnoFrom(() => host.lock('a driver'))).toBe('EAGAIN');
  held[Symbol.dispose]();
  using again = host.lock('a driver');
  held[Symbol.dispose]();
  expect(host.lockedBy).toBe('a driver');
  again[Symbol.dispose]();
  expect(host.lockedBy).toBe(null);
});

it('S2-30 a removed function releases its BAR memory and its model, once', async () => {
  const made: ReturnType<typeof HeapMemory.allocate>[] = [];
  const rig = new DeviceRig({ ...resettable, bars: [{ index: 0, size: 0x1000, type: 'mem32', backing: 'memory' }] });
  made.push(rig.model.host.barMemory(0));
  const { model, fn } = rig;
  await rig.machine.remove(rig.bdf);
  fn.host.dispose();
  expect([model.disposed, made[0]!.references]).toEqual([1, 0]);
  expect(fn.host.read(0, 0, 4)).toBe(0xffff_ffff);
});

it('S0-08 the same message of a model is logged at most once in five seconds', () => {
  const rig = new DeviceRig();
  for (let i = 0; i < 1000; i++) rig.model.host.log.log('warn', 'ring is full');
  expect(rig.logged).toEqual(['warn: 0000:00:04.0: ring is full']);
  rig.clock.advance(5001);
  rig.model.host.log.log('warn', 'ring is full');
  expect(rig.logged[1]).toBe('warn: 0000:00:04.0: ring is full (999 more since)');
});

const mistakes: readonly [what: string, make: () => unknown][] = [
  [
    'throws',
    () => {
      throw new Error('by mistake');
    },
  ],
  ['rejects', () => Promise.reject(new Error('by mistake'))],
  ['gives back a string', () => 'by mistake'],
  ['gives back nothing', () => undefined],
];

const asked: readonly [method: string, ask: (host: FunctionHost) => unknown, answer: unknown][] = [
  ['read', (host) => [host.read(0, 0, 4), host.read(0, 0, 2), host.read(0, 0, 1)], [0xffff_ffff, 0xffff, 0xff]],
  ['write', (host) => host.write(0, 0, 4, 1), undefined],
  ['read64', (host) => host.read64(0, 0), 0xffff_ffff_ffff_ffffn],
  ['write64', (host) => host.write64(0, 0, 1n), undefined],
  ['reset', (host) => host.functionReset(), undefined],
  ['configWritten', (host) => host.config.write(Config.COMMAND, 2, Command.MEMORY), undefined],
  ['power', (host) => host.config.write(host.config.findCapability(1) + 4, 2, 0), undefined],
  ['dispose', (host) => host.dispose(), undefined],
];

it.each(asked.flatMap(([method, ask, answer]) => mistakes.map(([what, make]) => ({ method, what, make, ask, answer }))))(
  'house: a model whose $method $what ends nowhere but in the log, and reads as all ones',
  async ({ method, what, make, ask, answer }) => {
    const rejections: unknown[] = [];
    const onRejection = (error: unknown) => void rejections.push(error);
    process.on('unhandledRejection', onRejection);
    const rig = new DeviceRig({ ...resettable, capabilities: [...resettable.capabilities!, pm()] });
    const { host } = rig.fn;
    host.config.write(Config.COMMAND, 2, Command.MEMORY);
    Object.assign(rig.model, { [method]: make });
    expect(ask(host)).toEqual(answer);
    await new Promise((resolve) => setImmediate(resolve));
    process.off('unhandledRejection', onRejection);
    const isBug = method.startsWith('read') || what === 'throws' || what === 'rejects';
    expect([rejections, host.modelErrors > 0]).toEqual([[], isBug]);
    expect(rig.logged.some((line) => line.includes(`the model resettable failed in ${method}: `))).toBe(isBug);
  },
);

it('house: a timer of a model that throws does not reach the code that turns the clock', async () => {
  const rig = new DeviceRig();
  const { clock } = rig.model.host;
  clock.after(1, () => {
    throw new Error('in a timer');
  });
  clock.after(1, (async () => {
    throw new Error('later in a timer');
  }) as () => void);
  clock.after(3, () => expect.unreachable())[Symbol.dispose]();
  rig.clock.advance(5);
  await new Promise((resolve) => setImmediate(resolve));
  expect([clock.nowNs(), rig.fn.host.modelErrors]).toEqual([5e6, 2]);
});

it('house: create() that gives back no model is EINVAL, names the declaration, and leaves no machine', () => {
  for (const wrong of [undefined, null, 5, {}, { read: () => 0, write: () => {} }, Promise.resolve({})]) {
    const made: ReturnType<typeof HeapMemory.allocate>[] = [];
    const allocate = (size: number) => made[made.push(HeapMemory.allocate(size)) - 1]!;
    const model = {
      declaration: { ...resettable, bars: [{ index: 0, size: 0x1000, type: 'mem32', backing: 'memory' } as const] },
      create: () => wrong as never,
    };
    expect(() => new Machine({ devices: [{ at: '04.0', model }] }, { allocate })).toThrow(/create\(\) of resettable gave back no model/);
    expect(made.map((memory) => memory.references)).toEqual([0]);
  }
});
