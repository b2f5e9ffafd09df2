import { expect, it } from 'vitest';
import { Command, ServerRig } from '../../tests/kit/vfio-user-rig.ts';
import { encodeRegionAccess } from './messages.ts';

it('answers VERSION, reads and writes registers', async () => {
  using rig = new ServerRig();
  const { client } = rig.connect();
  await client.hello();
  await client.request(Command.REGION_WRITE, encodeRegionAccess(4n, 7, 2, Uint8Array.of(6, 0)));
  await client.request(Command.REGION_WRITE, encodeRegionAccess(4n, 0, 4, Uint8Array.of(1, 2, 3, 4)));
  const read = await client.request(Command.REGION_READ, encodeRegionAccess(4n, 0, 4));
  expect([...read.payload.subarray(16)]).toEqual([1, 2, 3, 4]);
});
