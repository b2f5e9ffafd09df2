/** BARs of registers of which a client maps areas. */
import { describe, expect, it } from 'vitest';
import { resettable } from '../../tests/kit/device-rig.ts';
import { type RawClient, ServerRig } from '../../tests/kit/vfio-user-rig.ts';
import { RegionFlags } from '../abi/vfio.ts';
import type { PciDeclaration } from '../pci/declaration.ts';
import { MemfdMemory } from '../sys/memfd.ts';
import * as m from './messages.ts';
import { Command } from './messages.ts';

const AREA = { offset: 0x1000, size: 0x1000 };
const areas: PciDeclaration = { ...resettable, bars: [{ index: 0, size: 0x4000, type: 'mem32', sparseAreas: [AREA] }] };

async function info(client: RawClient) {
  const { payload, fds } = await client.request(Command.DEVICE_GET_REGION_INFO, m.encodeRegionInfoRequest(0, 4096));
  return { ...m.decodeRegionInfo(payload), fds };
}

describe('areas of a BAR of registers', () => {
  it('come with a descriptor, and the model sees what the client stores', async () => {
    using rig = new ServerRig({ declaration: areas, allocate: MemfdMemory.allocate });
    const { client } = await rig.attach();
    const { info: region, offset, fds } = await info(client);
    expect(region).toMatchObject({ size: 0x4000, sparseAreas: [AREA] });
    expect([region.flags & RegionFlags.MMAP, offset, fds.length]).toEqual([RegionFlags.MMAP, 0n, 1]);
    const memory = MemfdMemory.fromFd(fds[0]!, Number(offset) + AREA.offset, AREA.size);
    memory.windows[0]![8] = 7;
    expect(rig.rig.model.host.barMemory(0).windows[0]![0x1008]).toBe(7);
    memory[Symbol.dispose]();
  });

  it('a client that takes no descriptors still learns which parts are areas', async () => {
    using rig = new ServerRig({ declaration: areas, allocate: MemfdMemory.allocate, stream: { carriesFds: false } });
    const { client } = await rig.attach();
    const { info: region, fds } = await info(client);
    expect([region.flags & RegionFlags.MMAP, region.sparseAreas, fds]).toEqual([0, [AREA], []]);
  });

  it('a client that is gone cannot reach the memory of the next one', async () => {
    using rig = new ServerRig({ declaration: areas, allocate: MemfdMemory.allocate });
    const first = await rig.attach();
    const memory = MemfdMemory.fromFd((await info(first.client)).fds[0]!, 0, 0x4000);
    first.client[Symbol.dispose]();
    await first.session.ended;
    const second = await rig.attach();
    const next = MemfdMemory.fromFd((await info(second.client)).fds[0]!, 0, 0x4000);
    memory.windows[0]![0x1000] = 9;
    expect([next.windows[0]![0x1000], rig.rig.model.host.barMemory(0).windows[0]![0x1000]]).toEqual([0, 0]);
    for (const each of [memory, next]) each[Symbol.dispose]();
  });
});
