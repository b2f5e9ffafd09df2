import { describe, expect, it } from 'vitest';
import { errnoFrom } from '../../tests/kit/errno.ts';
import { ManualClock } from '../base/clock.ts';
import { VfioError } from '../base/errno.ts';
import { Process } from '../engine/dma/process.ts';
import { Machine } from '../engine/machine/machine.ts';
import { edu } from '../models/edu/edu.ts';
import { HeapMemory } from '../sys/fake.ts';
import { GroupUses } from './group-use.ts';
import { openForProcess } from './opened-device.ts';

const [FIRST, SECOND] = ['0000:02:01.0', '0000:02:02.0'] as const;

function rig() {
  const function_ = (at: string) => ({ at, model: edu(), driver: 'vfio-pci' });
  const machine = new Machine(
    {
      devices: [
        {
          at: '01.0',
          kind: 'root-port',
          devices: [{ at: '00.0', kind: 'pcie-to-pci-bridge', devices: [function_('01.0'), function_('02.0')] }],
        },
      ],
    },
    { allocate: HeapMemory.allocate, clock: new ManualClock() },
  );
  const groups = new GroupUses();
  const group = machine.function(FIRST).group!;
  const open = (bdf: string, process: Process, mayShare?: () => void) => openForProcess(machine, bdf, process, groups, undefined, mayShare);
  return { machine, groups, group, open, user: (pid: number) => Process.user({ pid, name: 'vm', memlockLimit: 2 ** 20 }) };
}

describe('the use of a group', () => {
  it('S1-04 belongs to one process while any of its connections is open, and so does the group’s node', () => {
    const { machine, groups, group, open, user } = rig();
    const [mine, theirs] = [user(42), user(43)];
    const [a, b] = [open(FIRST, mine), open(SECOND, mine)];
    expect(b.container).toBe(a.container);
    let freed = 0;
    using _listening = groups.onFree(() => void freed++);
    a.close();
    expect([errnoFrom(() => open(FIRST, theirs)), groups.heldBy(group, theirs), groups.heldBy(group, mine), freed]).toEqual([
      'EBUSY',
      'process 42 (vm, uid 1000)',
      null,
      0,
    ]);
    b.close();
    expect([freed, groups.of(group), groups.heldBy(group, theirs)]).toEqual([1, null, null]);
    open(FIRST, theirs).close();
    expect(machine.groups.get(group.id)!.file).toBeNull();
  });

  it('S1-04 a refused open does not change the group', () => {
    const { groups, group, open, user } = rig();
    const mine = user(42);
    expect(errnoFrom(() => open('0000:01:00.0', mine))).toBe('ENODEV');
    expect([groups.of(group), group.file]).toEqual([null, null]);
    using kept = open(FIRST, mine);
    const busy = () => {
      throw new VfioError('EBUSY', 'it is being moved');
    };
    using _moving = open(SECOND, mine, busy);
    expect(errnoFrom(() => open(SECOND, mine))).toBe('EBUSY');
    expect(kept.use.connections).toBe(2);
    expect(errnoFrom(() => kept.use.checkAlone())).toBe('EBUSY');
  });

  it('S1-04 a client that takes over a device that was moved here gets the rest of the group as well', () => {
    const { groups, group, open, user } = rig();
    const [nobody, client] = [user(1), user(42)];
    using arrived = open(FIRST, nobody);
    expect(groups.heldBy(group, client)).toBe('process 1 (vm, uid 1000)');
    arrived.use.user = client;
    using second = open(SECOND, client);
    expect([second.use === arrived.use, errnoFrom(() => open(SECOND, user(43)))]).toEqual([true, 'EBUSY']);
  });

  it('S1-04 a group that lost its devices gets a new use, also while the old connection is open', async () => {
    const { machine, groups, group, open, user } = rig();
    const mine = user(42);
    const old = open(FIRST, mine);
    const gone = [machine.remove(FIRST, { surprise: true }), machine.unbind(SECOND)];
    await Promise.all(gone);
    expect(groups.of(group)).toBeNull();
    machine.bind(SECOND, 'vfio-pci');
    using fresh = open(SECOND, mine);
    old.close();
    expect([groups.of(group) === fresh.use, fresh.use.connections]).toEqual([true, 1]);
  });
});
