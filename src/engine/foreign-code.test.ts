/**
 * Foreign code in the engine's hands: it throws, rejects, or is async where the engine takes a
 * function without result, which the type checker allows. Its failure is logged with its name, the
 * call goes on as if it had not failed, and no unhandled rejection is left.
 */

import { expect, it } from 'vitest';
import { errnoFrom } from '../../tests/kit/errno.ts';
import { turn } from '../../tests/kit/event-loop.ts';
import { alone, openAll, testMachine } from '../../tests/kit/machines.ts';
import { unhandledRejections } from '../../tests/kit/unhandled-rejections.ts';
import type { InterruptSink } from '../abi/device.ts';
import type { ModelMigration } from '../abi/device-host.ts';
import type { MediatedDevice } from '../abi/mediator.ts';
import { Feature, IrqIndex, MigrationState } from '../abi/vfio.ts';
import { FeatureMigState } from '../abi/vfio-structs.ts';
import { ManualClock } from '../base/clock.ts';
import { featureBytes } from '../device/feature-bytes.ts';
import { EventStream } from '../events/stream.ts';
import { Mediators } from './mediation/mediators.ts';
import { SyntheticVm } from './vm/synthetic-vm.ts';
import { VfioFileSet } from './vm/vfio-file-set.ts';
import { VmProvider } from './vm/vm-provider.ts';

const BDF = '0000:01:00.0';
const unhandled = unhandledRejections();

const rejects = (text: string) => (async () => Promise.reject(new Error(text))) as never;
function rig(mediators = new Mediators()) {
  const test = testMachine({ devices: [alone('01.0', { at: '00.0', model: 'probe', driver: 'vfio-pci' })] }, { mediators });
  return { ...test, fn: test.machine.function(BDF), open: () => openAll(test.machine, BDF) };
}

/** The lines that name `what`; no other line may be there. */
async function expectLogged(lines: readonly string[], ...parts: readonly string[]): Promise<void> {
  await turn();
  for (const part of parts) expect(lines.filter((line) => line.includes(part))).toHaveLength(1);
  expect(unhandled).toEqual([]);
}

it('house: listeners of a device and of a machine that are async', async () => {
  const { machine, lines, open, clock } = rig();
  const { device } = open();
  const heard: string[] = [];
  machine.on(rejects('in a machine listener'));
  machine.on(({ kind }) => void heard.push(kind));
  device.on(rejects('in a device listener'));
  device.on(({ kind }) => void heard.push(kind));
  const gone = machine.unbind(BDF);
  clock.advance(1);
  device.close();
  await gone;
  await expectLogged(lines, 'in a machine listener', `${BDF}: a listener failed on 'request': Error: in a device listener`);
  expect(heard).toEqual(['request', 'unbind']);
});

it('house: a sink that is async in signal, get and put', async () => {
  const { lines, open } = rig();
  const { device } = open();
  const sink = { signal: rejects('in signal'), get: rejects('in get'), put: rejects('in put') } as InterruptSink;
  const index = IrqIndex.REQ;
  device.setIrqs({ index, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [sink] });
  device.setIrqs({ index, start: 0, count: 1, action: 'trigger', data: 'none' });
  device.close();
  await expectLogged(lines, 'Error: in signal', 'Error: in get', 'Error: in put');
});

it('house: a hypervisor that is async in get, put and at the end of its machine', async () => {
  const { machine, lines, fn } = rig();
  const openWith = (vm: object) => {
    const container = machine.openContainer();
    const group = machine.openGroup(fn.group!.id);
    group.setContainer(container);
    container.setIommu(3);
    group.setVm(vm as never);
    group.openDevice(BDF).close();
    group.close();
    container.close();
  };
  const provider = new VmProvider('kvm');
  openWith({ provider, name: 'a', tryGet: rejects('in get'), put: () => expect.unreachable() });
  openWith({ provider, name: 'b', tryGet: () => true, put: rejects('in put') });
  const vm = new SyntheticVm(provider, 'c', rejects('at its end'));
  const container = machine.openContainer();
  const group = machine.openGroup(fn.group!.id);
  group.setContainer(container);
  container.setIommu(3);
  group.setVm(vm);
  const device = group.openDevice(BDF);
  vm[Symbol.dispose]();
  device.close();
  await expectLogged(lines, 'get of a failed: Error: in get', 'put of b failed: Error: in put', 'put of c failed: Error: at its end');
  expect(provider.pins).toBe(0);
});

it('house: files of a virtual machine that are async', async () => {
  const lines: string[] = [];
  const set = new VfioFileSet(new SyntheticVm(new VmProvider('kvm'), 'vm'), {
    onNoncoherent: rejects('in onNoncoherent'),
    log: { log: (_, message) => void lines.push(message) },
  });
  set.add({ enforcesCoherency: false, setVm: rejects('in setVm') }, { [Symbol.dispose]: rejects('in dispose') });
  set[Symbol.dispose]();
  await turn();
  for (const part of ['in onNoncoherent', 'in setVm', 'in dispose']) expect(lines.some((line) => line.includes(part))).toBe(true);
  expect([unhandled, set.size]).toEqual([[], 0]);
});

it('S0-15 a mediator whose open is async has not accepted: it is refused aloud, and released when it accepts too late', async () => {
  const released: unknown[] = [];
  const mediators = new Mediators();
  mediators.register({ name: 'throws', open: rejects('vendor bug'), release: () => expect.unreachable() });
  mediators.register({ name: 'accepts', open: (async () => ({ handle: 7 })) as never, release: (handle) => void released.push(handle) });
  mediators.register({ name: 'refuses', open: (async () => null) as never, release: () => expect.unreachable() });
  mediators.register({ name: 'last', open: () => ({ handle: 1 }), release: () => {} });
  const { fn, lines, open } = rig(mediators);
  const { device } = open();
  expect(fn.vfio!.mediation!.name).toBe('last');
  device.close();
  await expectLogged(
    lines,
    "mediator 'throws' did not take it: Error: its open is async",
    "mediator 'accepts' did not take it: Error: its open is async",
    'Error: vendor bug',
  );
  expect(released).toEqual([7]);
});

it('S0-08 hooks and release that are async: EIO to the user, logged, and the device closes', async () => {
  const mediators = new Mediators();
  mediators.register({
    name: 'later',
    open: () => ({
      handle: 0,
      regions: { 0: { read: rejects('in read'), write: rejects('in write'), map: rejects('in map') } },
      irqs: { 1: { info: rejects('in info'), set: rejects('in set') } },
      feature: rejects('in feature'),
    }),
    release: rejects('in release'),
  });
  const { fn, lines, open } = rig(mediators);
  const { device } = open();
  device.region(7).write16(4, 2);
  const bar = device.region(0);
  expect([
    errnoFrom(() => bar.read32(4)),
    errnoFrom(() => bar.write32(4, 1)),
    errnoFrom(() => bar.map()),
    errnoFrom(() => device.irq(1)),
    errnoFrom(() => device.setIrqs({ index: 1, start: 0, count: 0, action: 'trigger', data: 'none' })),
    errnoFrom(() => device.lowPower.exit()),
  ]).toEqual(['EIO', 'EIO', 'EIO', 'EIO', 'EIO', 'EIO']);
  device.close();
  await turn();
  expect(lines.filter((line) => line.includes("mediator 'later': release failed: Error: in release"))).toHaveLength(1);
  expect([unhandled, fn.vfio!.mediation]).toEqual([[], null]);
});

it('house: a mediator’s timer that throws or rejects', async () => {
  const mediators = new Mediators();
  let shown: MediatedDevice | null = null;
  mediators.register({
    name: 'timed',
    open: (device) => {
      shown = device;
      return null;
    },
    release: () => {},
  });
  const { clock, lines, open } = rig(mediators);
  open();
  shown!.clock.after(1, () => {
    throw new Error('in a timer');
  });
  shown!.clock.after(2, rejects('later'));
  clock.advance(5);
  await turn();
  expect(clock.nowNs()).toBe(5e6);
  await expectLogged(lines, `${BDF}: its mediator failed in a timer: Error: in a timer`);
});

it.each([
  ['stop', MigrationState.ERROR],
  ['save', MigrationState.STOP_COPY],
] as const)('B.11 a migration whose %s is async has failed: EIO, logged', async (name, state) => {
  const migration: ModelMigration = {
    version: 1,
    stop: () => {},
    start: () => {},
    save: () => new Uint8Array(4),
    load: () => {},
    [name]: rejects(`in ${name}`),
  };
  const mediators = new Mediators();
  mediators.register({ name: 'mover', open: () => ({ handle: 0, migration }), release: () => {} });
  const { fn, lines, open } = rig(mediators);
  const { device } = open();
  const data = new Uint8Array(FeatureMigState.structSize);
  new DataView(data.buffer).setUint32(0, MigrationState.STOP_COPY, true);
  const request = { feature: Feature.MIG_DEVICE_STATE, set: true, data };
  const codes: string[] = [];
  codes.push(
    errnoFrom(() =>
      featureBytes(device, {
        ...request,
        onDataStream: (stream) =>
          codes.push(
            errnoFrom(() => {
              while (stream.read(new Uint8Array(65536)) > 0);
            }),
          ),
      }),
    ),
  );
  expect(codes.filter((each) => each !== 'none')).toEqual(['EIO']);
  expect(fn.vfio!.openState.migration!.state).toBe(state);
  await turn();
  expect(lines.some((line) => line.includes("mediator 'mover'") && line.includes(`migration.${name} is async`))).toBe(true);
  expect(unhandled).toEqual([]);
});

it('house: a model’s write that gives back a thenable, and one whose error has no text', async () => {
  const { fn, lines, clock, open } = rig();
  const { device } = open();
  device.region(7).write16(4, 2);
  // biome-ignore lint/suspicious/noThenProperty: that is the point
  const thenable = { then: (_: unknown, no: (e: unknown) => void) => no(new Error('later')) };
  for (const [write, text] of [
    [() => thenable, 'Error: later'],
    [() => Promise.reject(Object.create(null)), 'a value of type object that has no text'],
  ] as const) {
    Object.assign(fn.host.model!, { write });
    device.region(0).write32(4, 1);
    await turn();
    clock.advance(10_000);
    expect(lines.at(-1)).toContain(`${BDF}: the model probe failed in write: ${text}`);
  }
  expect([fn.host.modelErrors, unhandled]).toEqual([2, []]);
});

it.each<[string, () => void]>([
  [
    'throws',
    () => {
      throw new Error('no disk');
    },
  ],
  ['rejects', rejects('no disk')],
])('S0-08 a logger that %s loses its line, and nothing else', async (_, log) => {
  const events = new EventStream({ log: { log }, clock: new ManualClock() });
  events.source('device').note('error', 'a', 'a line');
  await turn();
  expect(unhandled).toEqual([]);
});
