/**
 * A client's first message, and requests about the device as a whole. The peer follows a script.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ClientRig, seen, words } from '../../tests/kit/client-rig.ts';
import { errnoFrom } from '../../tests/kit/errno.ts';
import { openDescriptors } from '../../tests/kit/open-descriptors.ts';
import type { PeerScript } from '../../tests/kit/scripted-peer.ts';
import { VfioUserDevice } from './client.ts';
import { Command } from './messages.ts';

let rig: ClientRig;
beforeAll(async () => {
  rig = await ClientRig.start();
});
afterAll(() => rig[Symbol.asyncDispose]());

describe('vfio-user client: VERSION and discovery', () => {
  it('proposes 0.2 with its capabilities first, and asks what device it is', async () => {
    const connected = rig.connect();
    expect(connected.device.info).toEqual({ name: 'peer', flags: 3, numRegions: 9, numIrqs: 5 });
    const [version] = await seen(connected, Command.VERSION);
    expect([...version!.payload.subarray(0, 4)]).toEqual([0, 0, 2, 0]);
    expect(JSON.parse(new TextDecoder().decode(version!.payload.subarray(4, -1)))).toEqual({
      capabilities: {
        max_msg_fds: 16,
        migration: { pgsize: 4096 },
        max_data_xfer_size: 1048576,
        max_dma_maps: 65535,
        pgsizes: 0x40201000,
        twin_socket: { supported: true },
        write_multiple: true,
        vfio_ts_dma_read_bytes: 4194304,
        vfio_ts_reasons: true,
      },
    });
  });

  it('takes an older minor version and no capabilities at all', () => {
    const { device } = rig.connect({ version: [0, 0], json: null });
    using _device = device;
    expect([device.dma.available, device.dma.pageSizes, device.dma.ranges]).toEqual([65535, 4096n, [{ first: 0n, last: 2n ** 64n - 1n }]]);
  });

  it('takes what the server says of DMA', () => {
    using device = rig.connect({ json: '{"capabilities":{"max_dma_maps":7,"pgsizes":2101248}}' }).device;
    expect([device.dma.available, device.dma.pageSizes]).toEqual([7, 0x20_1000n]);
  });

  it.each([
    ['another major version', { version: [1, 0] }],
    ['a minor version above what was proposed', { version: [0, 3] }],
    ['JSON that is none', { json: '{"capabilities":' }],
    ['a capability of the wrong type', { json: '{"capabilities":{"max_msg_fds":"foo"}}' }],
    ['a twin socket that does not come along', { json: '{"capabilities":{"twin_socket":{"supported":true,"fd_index":0}}}' }],
    ['an error', { on: { [Command.VERSION]: [{ do: 'error', errno: 22 }] } }],
    [
      'a payload too short',
      { on: { [Command.VERSION]: [{ do: 'send', bytes: [1, 0, 1, 0, 18, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0] }] } },
    ],
    ['more regions than a device has', { numRegions: 1000 }],
    ['a short GET_INFO', { on: { [Command.DEVICE_GET_INFO]: [{ do: 'resize', by: -4 }] } }],
  ] as [string, PeerScript][])('EPROTO for a server that answers with %s', async (_, script) => {
    await rig.peer.idle();
    const before = openDescriptors();
    const { stream, report } = rig.peer.serve(script);
    expect(errnoFrom(() => VfioUserDevice.connect(stream, { timeoutMs: 60_000 }))).toBe('EPROTO');
    await report;
    expect(openDescriptors()).toBe(before);
  });

  it('ENOENT where no socket is', () => {
    expect(errnoFrom(() => VfioUserDevice.connect('/nonexistent/socket'))).toBe('ENOENT');
  });
});

describe('vfio-user client: other requests', () => {
  it('RESET, FEATURE and HOT_RESET_INFO', async () => {
    const connected = rig.connect({
      on: {
        [Command.DEVICE_FEATURE]: [{ do: 'answer' }, { do: 'send', bytes: [] }],
        [Command.DEVICE_RESET]: [{ do: 'answer' }, { do: 'error', errno: 22 }],
      },
    });
    const { device } = connected;
    expect([errnoFrom(() => device.reset()), errnoFrom(() => device.reset())]).toEqual(['none', 'EINVAL']);
    expect(errnoFrom(() => device.hotResetInfo())).toBe('ENODEV');
    expect(errnoFrom(() => device.lowPower.exit())).toBe('ENOTTY');
    for (const feature of [-1, 65536, 0.5]) expect(errnoFrom(() => device.feature({ feature, data: new Uint8Array(0) }))).toBe('EINVAL');
    expect(errnoFrom(() => device.feature({ feature: 1, data: null as never }))).toBe('EFAULT');
    const [feature] = await seen(connected, Command.DEVICE_FEATURE);
    expect(words(feature!)).toEqual([8, 0x2_0005]);
  });
});
