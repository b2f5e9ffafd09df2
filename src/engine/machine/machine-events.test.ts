/** The events of a machine's life: functions, drivers, groups, containers, and their refusals. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { eventLines } from '../../../tests/kit/event-words.ts';
import { alone, hostDrivers, openAll, testMachine, trio } from '../../../tests/kit/machines.ts';
import { movable } from '../../../tests/kit/movable-model.ts';
import { sriovRig, VF0 } from '../../../tests/kit/sriov-rig.ts';
import { steps, World } from '../../../tests/properties/lifecycle.ts';
import type { EventKind, VfioEvent } from '../../abi/event.ts';
import { MigrationState } from '../../abi/vfio.ts';
import { ManualClock } from '../../base/clock.ts';
import { VfioError } from '../../base/errno.ts';
import { EventStream } from '../../events/stream.ts';
import { HeapMemory } from '../../sys/fake.ts';

const life: readonly EventKind[] = ['plug', 'bind', 'group', 'open', 'dma-map', 'dma-unmap', 'power', 'fault', 'feature'];
const CARD = '0000:01:00.0';

function refused(act: () => unknown): void {
  expect(act).toThrow(VfioError);
}

it('S1-09 S2-41 from power-on to switching off', async () => {
  const events = new EventStream({ clock: new ManualClock() });
  const reader = events.read({ kinds: ['plug', 'bind', 'group', 'dma-map', 'dma-unmap'] });
  const machineReader = events.read({ devices: ['machine'], kinds: ['power'] });
  const lines = () => eventLines(reader.take());
  const { machine } = testMachine({ devices: [alone('01.0')], hostDrivers }, { events });
  expect(lines()).toEqual(['0000:00:01.0: added: root port', '0000:01:00.0: added: probe', '0000:00:01.0: driver pcieport, was none']);
  machine.bind(CARD, 'vfio-pci');
  const { container, group, device } = openAll(machine, CARD);
  device.dma.map({ iova: 0x1000n, memory: HeapMemory.allocate(4096) });
  device.close();
  group.close();
  container.close();
  expect(lines()).toEqual([
    '0000:01:00.0: driver vfio-pci, was none',
    'machine: group 1 opened',
    'container 0: group 1 attached to container 0',
    'container 0: map 0x1000 bytes at IOVA 0x1000, read, write, direct',
    'container 0: group 1 detached from container 0',
    'container 0: unmap 0x1000 bytes at IOVA 0x0 (after 4)',
    'machine: group 1 closed',
  ]);
  await machine.unbind(CARD);
  await machine.remove(CARD);
  machine.add({ at: '00.0', model: 'probe' }, '0000:00:01.0');
  expect(lines()).toEqual(['0000:01:00.0: driver none, was vfio-pci', '0000:01:00.0: removed: probe', '0000:01:00.0: added: probe']);
  machine[Symbol.dispose]();
  expect(lines()).toEqual(['0000:00:01.0: driver none, was pcieport']);
  expect(eventLines(machineReader.take())).toEqual(['machine: power: on', 'machine: power: off']);
});

it('a life between a device’s driver and its machine: bind, open, map, reset, migrate, unbind, unplug', async () => {
  const { machine } = testMachine({ devices: [{ at: '04.0', model: movable(), driver: null }] });
  const bdf = '0000:00:04.0';
  using reader = machine.events({ kinds: [...life, 'reset', 'migration'] });
  machine.bind(bdf, 'vfio-pci');
  const { device } = openAll(machine, bdf);
  device.dma.map({ iova: 0n, memory: HeapMemory.allocate(4096) });
  device.reset();
  device.migration.setState(MigrationState.STOP);
  device.migration.setState(MigrationState.RUNNING);
  device.close();
  await machine.unbind(bdf);
  await machine.remove(bdf);
  const steps = reader.take().map((event) => `${event.kind}${'step' in event ? ` ${event.step}` : ''}`);
  const told = (...kinds: readonly string[]) => steps.filter((step) => kinds.some((kind) => step.startsWith(kind)));
  expect(told('bind', 'plug')).toEqual(['bind', 'bind', 'plug removed']);
  expect(told('group')).toEqual(['group opened', 'group attached', 'group detached', 'group closed']);
  expect(told('open')).toEqual(['open opened', 'open opened', 'open closed']);
  const order = ['bind', 'group opened', 'open opened', 'group attached', 'dma-map', 'migration', 'open closed', 'plug removed'];
  const places = order.map((step) => steps.indexOf(step));
  expect(places).toEqual([...places].sort((a, b) => a - b));
  expect(places).not.toContain(-1);
  expect(told('reset', 'migration').slice(-3)).toEqual(['migration', 'migration', 'reset']);
});

it('S2-41 the users of a function that goes are asked, and asked again', async () => {
  const { machine, clock } = testMachine({ devices: [alone('01.0')] });
  machine.bind(CARD, 'vfio-pci');
  const { device } = openAll(machine, CARD);
  using reader = machine.events({ kinds: ['plug', 'bind'] });
  const unbound = machine.unbind(CARD);
  clock.advance(10_000);
  device.close();
  await unbound;
  expect(eventLines(reader.take())).toEqual([
    '0000:01:00.0: asked to leave',
    '0000:01:00.0: asked to leave',
    '0000:01:00.0: driver none, was vfio-pci',
  ]);
});

it('S1-01 S1-12 a group is viable, or not, because of a driver', () => {
  const { machine } = testMachine({ devices: [trio], hostDrivers });
  using reader = machine.events({ kinds: ['bind', 'group'] });
  machine.bindGroup(machine.function(CARD).group!.id);
  refused(() => machine.bind('0000:01:00.1', 'e1000'));
  expect(eventLines(reader.take())).toEqual([
    '0000:01:00.0: driver vfio-pci, was none',
    '0000:01:00.1: driver none, was e1000',
    '0000:01:00.1: driver vfio-pci, was none',
    '0000:01:00.2: driver none, was snd',
    'machine: group 1 viable (after 3)',
    '0000:01:00.2: driver vfio-pci, was none',
    '0000:01:00.1: driver e1000, was vfio-pci: EBUSY: 0000:01:00.1 is bound to vfio-pci already',
  ]);
});

it('S1-03 S1-04 S1-05 refusals name their errno, and the change that was asked for', () => {
  const { machine } = testMachine({ devices: [trio, alone('02.0')], hostDrivers });
  using reader = machine.events({ kinds: life });
  const { id } = machine.function(CARD).group!;
  refused(() => machine.openGroup(id));
  machine.bind(CARD, 'vfio-pci');
  const file = machine.openGroup(id);
  refused(() => machine.openGroup(id));
  refused(() => machine.openGroup('0' as never));
  refused(() => file.setContainer(machine.openContainer()));
  refused(() => file.unsetContainer());
  refused(() => machine.unbind('0000:02:00.0'));
  refused(() => machine.bind(CARD, 5 as never));
  refused(() => machine.add({ at: '01.0', model: 'probe' }));
  refused(() => machine.setParam('enableSriov', 'perhaps'));
  refused(() => machine.setDriverOverride(CARD, '/'));
  const seen = reader.take().flatMap((event) => ('errno' in event && event.errno !== undefined ? [event] : []));
  expect(seen).toMatchObject([
    { device: 'machine', kind: 'group', step: 'opened', group: id, errno: 'ENOENT' },
    { device: 'machine', kind: 'group', step: 'opened', group: id, errno: 'EBUSY', reason: expect.stringContaining('is open already') },
    { device: 'machine', kind: 'group', step: 'opened', group: -1, errno: 'ENOENT' },
    { device: 'container 0', kind: 'group', step: 'attached', group: id, errno: 'EPERM', reason: expect.stringContaining('not viable') },
    { device: 'machine', kind: 'group', step: 'detached', group: id, errno: 'EINVAL' },
    { device: '0000:02:00.0', kind: 'bind', driver: null, was: null, errno: 'ENODEV' },
    { device: CARD, kind: 'bind', driver: null, was: 'vfio-pci', errno: 'EINVAL' },
    { device: 'machine', kind: 'plug', step: 'added', name: '01.0', errno: 'EEXIST' },
    { device: 'machine', kind: 'feature', name: 'enableSriov', value: 'perhaps', errno: 'EINVAL' },
    { device: CARD, kind: 'feature', name: 'driver_override', value: '/', errno: 'EINVAL' },
  ]);
});

it('S3-15 virtual functions come and go for the number that was written', async () => {
  const { machine } = sriovRig({ machine: { params: { enableSriov: true } } });
  using reader = machine.events({ kinds: ['plug', 'feature'] });
  await machine.setNumVfs(CARD, 1);
  refused(() => machine.setNumVfs(CARD, 2));
  await machine.setNumVfs(CARD, 0);
  expect(eventLines(reader.take())).toEqual([
    `${CARD}: set sriov_numvfs: 1`,
    `${VF0}: added: card VF 0 (after 0)`,
    expect.stringMatching(/set sriov_numvfs: 2: EBUSY: /),
    `${CARD}: set sriov_numvfs: 0`,
    `${VF0}: removed: card VF 0 (after 3)`,
  ]);
});

it('S2-42 the machine’s sleep', async () => {
  const { machine } = testMachine({ devices: [alone('01.0')] });
  using reader = machine.events({ kinds: ['power'], devices: ['machine'] });
  await machine.suspend();
  machine.resume();
  expect(eventLines(reader.take())).toEqual(['machine: power: suspended', 'machine: power: resumed']);
});

it('an injected fault is an event, and so is the refusal that it makes', () => {
  const { machine, faults } = testMachine({ devices: [alone('01.0')] });
  using reader = machine.events({ kinds: ['fault', 'bind'] });
  faults.failNext('bind.register', 'ENOMEM');
  refused(() => machine.bind(CARD, 'vfio-pci'));
  expect(eventLines(reader.take())).toEqual([
    'machine: injected fault at bind.register: ENOMEM',
    "0000:01:00.0: driver vfio-pci, was none: ENOMEM: injected fault at step 'bind.register'",
  ]);
  machine[Symbol.dispose]();
  faults.failNext('bind.register');
  refused(() => faults.step('bind.register'));
});

it('a container is opened and closed by a process', () => {
  const { machine } = testMachine({ devices: [] });
  using reader = machine.events({ kinds: ['open'] });
  machine.openContainer().close();
  const { pid } = machine.process;
  expect(eventLines(reader.take())).toEqual([`container 0: opened by process ${pid}`, `container 0: closed by process ${pid}`]);
});

it('a device’s events are those of its function and its container', () => {
  const { machine } = testMachine({ devices: [alone('01.0'), alone('02.0')] });
  machine.bind(CARD, 'vfio-pci');
  machine.bind('0000:02:00.0', 'vfio-pci');
  const mine = openAll(machine, CARD);
  const other = openAll(machine, '0000:02:00.0');
  using reader = mine.device.events({ kinds: ['dma-map', 'bind'] });
  other.device.dma.map({ iova: 0n, memory: HeapMemory.allocate(4096) });
  mine.device.dma.map({ iova: 0n, memory: HeapMemory.allocate(4096) });
  refused(() => machine.bind(CARD, 'vfio-pci'));
  expect(reader.take().map(({ device, kind }) => [device, kind])).toEqual([
    ['container 0', 'dma-map'],
    [CARD, 'bind'],
  ]);
});

it('a loop over the events of a machine ends with it, and sees its end', async () => {
  const { machine } = testMachine({ devices: [alone('01.0')] });
  const seen: string[] = [];
  const loop = (async () => {
    for await (const event of machine.events({ kinds: ['power'], devices: ['machine'] })) seen.push(...eventLines([event]));
  })();
  await Promise.resolve();
  machine[Symbol.dispose]();
  await loop;
  expect(seen).toEqual(['machine: power: off']);
});

it('two runs of the same random users make equal streams', () => {
  const bare = (events: readonly VfioEvent[]) => events.map(({ hostNs: _, ...event }) => event);
  let most = 0;
  fc.assert(
    fc.property(steps(120), fc.nat(), (run, seed) => {
      const [one, two] = [0, 1].map(() => {
        const world = new World();
        const reader = world.machine.events();
        for (const step of run) world.run(step);
        world.end(seed);
        world.machine[Symbol.dispose]();
        return bare(reader.take());
      });
      most = Math.max(most, one!.length);
      expect(two).toEqual(one);
    }),
    { numRuns: 25 },
  );
  expect(most).toBeGreaterThan(100);
});
