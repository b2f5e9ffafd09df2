/**
 * A client's work for a server that is the bare device: addresses for BARs, and MSI switched on.
 * The peer follows a script.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ClientRig, seen, words } from '../../tests/kit/client-rig.ts';
import type { PeerScript, SeenMessage } from '../../tests/kit/scripted-peer.ts';
import { IrqIndex, RegionFlags, RegionIndex } from '../abi/vfio.ts';
import { DriverDevice } from '../drivers/kit/driver-device.ts';
import { FakeEventFd } from '../sys/fake.ts';
import { Command } from './messages.ts';

let rig: ClientRig;
beforeAll(async () => {
  rig = await ClientRig.start();
});
afterAll(() => rig[Symbol.asyncDispose]());

const flags = RegionFlags.READ | RegionFlags.WRITE;

/**
 * COMMAND 0, BARs of every kind without an address, MSI at 0x40, MSI-X at 0x50: as after power-on.
 */
function bare(patch: Readonly<Record<number, readonly number[]>> = {}): PeerScript {
  const config = new Uint8Array(256);
  const put = (at: number, bytes: readonly number[]) => config.set(bytes, at);
  put(0, [0x36, 0x1b, 0x10, 0]);
  put(6, [0x10]);
  // 64-bit memory in BAR 0 and 1, I/O ports in 2, memory in 3, 64-bit in 4 and 5, too large for the
  // space below 4 GiB.
  put(0x10, [4]);
  put(0x18, [1]);
  put(0x20, [12]);
  put(0x34, [0x40]);
  put(0x40, [5, 0x50, 0x06, 0]);
  put(0x50, [17, 0, 3, 0x40]);
  for (const [at, bytes] of Object.entries(patch)) put(Number(at), bytes);
  return {
    config: [...config],
    regions: {
      0: { flags, size: 0x4000 },
      2: { flags, size: 0x20 },
      3: { flags, size: 0x3000 },
      4: { flags, size: 2 ** 31 },
      [RegionIndex.CONFIG]: { flags, size: 256 },
    },
  };
}

/** [offset, value] of what was written to config space. */
function writes(messages: readonly SeenMessage[]): number[][] {
  return messages
    .filter((m) => words(m)[2] === RegionIndex.CONFIG)
    .map(({ payload }) => [payload[0]!, Buffer.from(payload.buffer, payload.byteOffset + 16).readUIntLE(0, payload.length - 16)]);
}

describe('vfio-user client: a server that is the bare device', () => {
  it('BARs without an address get one, of their size’s alignment, when memory is first enabled', async () => {
    const connected = rig.connect(bare());
    const dev = DriverDevice.attach(connected.device);
    dev.busMaster = true;
    expect(writes(await seen(connected, Command.REGION_WRITE)).slice(0, 8)).toEqual([
      [4, 3],
      [0x10, 0xc000_0000],
      [0x14, 0],
      [0x18, 0x1000],
      [0x1c, 0xc000_4000],
      [0x20, 0],
      [0x24, 0x100],
      [4, 7],
    ]);
  });

  it('BARs that have addresses keep them', async () => {
    const connected = rig.connect(bare({ 16: [4, 0, 0, 0xfe] }));
    DriverDevice.attach(connected.device);
    expect(writes(await seen(connected, Command.REGION_WRITE))).toEqual([[4, 3]]);
  });

  it('a reset that takes them away is made good when memory is enabled again', async () => {
    const connected = rig.connect(bare({ 4: [2] }));
    const { device } = connected;
    device.region(RegionIndex.CONFIG).write16(4, 4);
    device.reset();
    device.region(RegionIndex.CONFIG).write16(4, 6);
    expect(writes(await seen(connected, Command.REGION_WRITE)).slice(0, 3)).toEqual([
      [4, 4],
      [4, 6],
      [0x10, 0xc000_0000],
    ]);
  });

  it('MSI-X is switched on and its vectors unmasked; off with them; on again after a reset', async () => {
    const connected = rig.connect(bare());
    const { device } = connected;
    const sinks = [new FakeEventFd(), new FakeEventFd(), new FakeEventFd()];
    device.setIrqs({ index: IrqIndex.MSIX, start: 0, count: 3, action: 'trigger', data: 'sinks', sinks });
    // As a reset leaves it.
    device.region(RegionIndex.CONFIG).write16(0x52, 3);
    device.reset();
    device.setIrqs({ index: IrqIndex.MSIX, start: 0, count: 0, action: 'trigger', data: 'none' });
    device.close();
    const { seen: all } = await connected.report;
    expect(writes(all.filter((m) => m.command === Command.REGION_WRITE))).toEqual([
      [0x52, 0x8003],
      [0x52, 3],
      [0x52, 0x8003],
      [0x52, 3],
    ]);
    expect(all.filter((m) => m.command === Command.DEVICE_SET_IRQS).map((m) => words(m).slice(1))).toEqual([
      [0x24, 2, 0, 3],
      [0x11, 2, 0, 3],
      [0x11, 2, 0, 3],
      [0x21, 2, 0, 0],
    ]);
  });

  it('MSI is given as many messages as there are vectors; where the kernel does that, nothing is', async () => {
    for (const [addresses, expected] of [
      [[4], [[0x42, 0x27]]],
      [[4, 0, 0, 0xfe], []],
    ] as const) {
      const connected = rig.connect(bare({ 16: addresses }));
      connected.device.region(RegionIndex.CONFIG).write16(4, 2);
      const sinks = [new FakeEventFd(), new FakeEventFd(), new FakeEventFd()];
      connected.device.setIrqs({ index: IrqIndex.MSI, start: 0, count: 3, action: 'trigger', data: 'sinks', sinks });
      expect(writes(await seen(connected, Command.REGION_WRITE)).filter(([at]) => at === 0x42)).toEqual(expected);
    }
  });

  it('a server that has switched MSI-X on itself is left alone', async () => {
    const connected = rig.connect(bare({ 82: [3, 0x80] }));
    const { device } = connected;
    device.setIrqs({ index: IrqIndex.MSIX, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [new FakeEventFd()] });
    device.reset();
    device.setIrqs({ index: IrqIndex.MSIX, start: 0, count: 0, action: 'trigger', data: 'none' });
    device.close();
    const { seen: all } = await connected.report;
    expect(all.filter((m) => m.command === Command.REGION_WRITE)).toEqual([]);
    expect(all.filter((m) => m.command === Command.DEVICE_SET_IRQS)).toHaveLength(2);
  });

  it('one that knows no unmask signals all the same', async () => {
    const refused: PeerScript = { ...bare(), on: { [Command.DEVICE_SET_IRQS]: [{ do: 'answer' }, { do: 'error', errno: 22 }] } };
    const { device } = rig.connect(refused);
    using _device = device;
    const sinks = [new FakeEventFd()];
    expect(device.setIrqs({ index: IrqIndex.MSIX, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks })).toBe(0);
  });
});
