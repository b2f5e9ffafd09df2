/**
 * Moving a served device, message by message (B.11; vfio-user "DEVICE_FEATURE", "MIG_DATA_READ",
 * "MIG_DATA_WRITE").
 */
import { expect, it } from 'vitest';
import { Movable, type MovableModel, type MovableOptions, movable } from '../../tests/kit/movable-model.ts';
import { QEMU_MAX_CAPABILITY_CHARS } from '../../tests/kit/qemu.ts';
import { Command, type RawClient, ServerRig, settle, viewOf } from '../../tests/kit/vfio-user-rig.ts';
import type { DeviceHost } from '../abi/device-host.ts';
import { Feature, FeatureFlags, MigrationState } from '../abi/vfio.ts';
import { FeatureDmaLoggingRange, FeatureMigState, PrecopyInfo } from '../abi/vfio-structs.ts';
import { HeaderFlags } from '../abi/vfio-user.ts';
import { encodeDmaMap, encodeFeature, encodeMigData, MigData, UserDmaLoggingControl, UserDmaLoggingReport, Version } from './messages.ts';

function rig(options: MovableOptions = { bulk: true, p2p: true }): ServerRig & { readonly model: MovableModel } {
  const { declaration, create } = movable(options);
  const made = new ServerRig({ declaration, models: (host: DeviceHost) => create(host) as never });
  return Object.assign(made, { model: made.rig.fn.model as unknown as MovableModel });
}

const state = (client: RawClient, to: number) => {
  const data = new Uint8Array(FeatureMigState.structSize);
  FeatureMigState.device_state.set(viewOf(data), 0, to);
  return client.errnoOf(
    Command.DEVICE_FEATURE,
    encodeFeature({ feature: Feature.MIG_DEVICE_STATE, get: false, set: true, probe: false, data }),
  );
};

async function stateOf(client: RawClient): Promise<number> {
  const data = new Uint8Array(FeatureMigState.structSize);
  const reply = await client.request(
    Command.DEVICE_FEATURE,
    encodeFeature({ feature: Feature.MIG_DEVICE_STATE, get: true, set: false, probe: false, data }),
  );
  return FeatureMigState.device_state.get(viewOf(reply.payload), 8);
}

async function readData(client: RawClient, size: number): Promise<Uint8Array | string> {
  const { error, payload } = await client.request(Command.MIG_DATA_READ, encodeMigData(size));
  if (error !== null) return error;
  const { size: got, argsz } = MigData.decode(viewOf(payload));
  expect([argsz, payload.length]).toEqual([MigData.structSize + got, MigData.structSize + got]);
  return payload.slice(MigData.structSize);
}

it('B.11 VERSION says that it can be moved, to clients that ask and of devices that can; QEMU can take the reply', async () => {
  using movableRig = rig();
  const json = async (r: ServerRig, asked: object) => {
    const { client } = r.connect();
    const { payload } = await client.hello(asked);
    client[Symbol.dispose]();
    await settle();
    return new TextDecoder().decode(payload.subarray(Version.structSize, -1));
  };
  const asked = { maxMsgFds: 8, migration: { pgsize: 4096, maxBitmapSize: 268_435_456 }, writeMultiple: true };
  const told = await json(movableRig, asked);
  expect(JSON.parse(told).capabilities.migration).toEqual({ pgsize: 4096 });
  expect(told.length).toBeLessThanOrEqual(QEMU_MAX_CAPABILITY_CHARS);
  expect(JSON.parse(await json(movableRig, { maxMsgFds: 8 })).capabilities.migration).toBeUndefined();
  using fixed = new ServerRig();
  expect(JSON.parse(await json(fixed, asked)).capabilities.migration).toBeUndefined();
});

it('B.11 a device is read by messages while it runs and when it stands still; no bytes where nothing is left', async () => {
  using served = rig();
  const { client } = await served.attach();
  served.model.store.write(2, new Uint8Array(512).fill(9));
  expect(await readData(client, 100)).toBe('EINVAL');
  expect(await state(client, MigrationState.PRE_COPY)).toBeNull();
  const info = await client.request(Command.MIG_GET_PRECOPY_INFO, new Uint8Array(24).fill(24, 0, 1));
  expect(PrecopyInfo.decode(viewOf(info.payload))).toMatchObject({ argsz: 24, flags: 0, dirty_bytes: 0n });
  let total = 0;
  for (let data = await readData(client, 300); data.length > 0; data = await readData(client, 300)) total += data.length;
  expect(total).toBeGreaterThan(512);
  expect(await readData(client, 300)).toEqual(new Uint8Array(0));
  served.model.store.write(2, new Uint8Array(512).fill(8));
  expect((await readData(client, 4000)).length).toBeGreaterThan(512);
  expect(await state(client, MigrationState.STOP_COPY)).toBeNull();
  expect(await client.errnoOf(Command.MIG_GET_PRECOPY_INFO, new Uint8Array(24).fill(24, 0, 1))).toBe('EINVAL');
  expect((await readData(client, 2 ** 20)).length).toBeGreaterThan(100);
  expect(await readData(client, 300)).toEqual(new Uint8Array(0));
  expect(await client.errnoOf(Command.MIG_DATA_WRITE, encodeMigData(4, new Uint8Array(4)))).toBe('EINVAL');
  expect(await state(client, MigrationState.RUNNING)).toBeNull();
  expect(await readData(client, 300)).toBe('EINVAL');
});

it('B.11 data that is none is EINVAL, the device in ERROR until it is reset', async () => {
  using served = rig();
  const { client } = await served.attach();
  expect(await client.errnoOf(Command.MIG_DATA_WRITE, encodeMigData(4, new Uint8Array(4)))).toBe('EINVAL');
  expect(await state(client, MigrationState.RESUMING)).toBeNull();
  expect(await client.errnoOf(Command.MIG_DATA_WRITE, encodeMigData(40, new Uint8Array(40)))).toBe('EINVAL');
  expect(await stateOf(client)).toBe(MigrationState.ERROR);
  expect(await state(client, MigrationState.RUNNING)).toBe('EINVAL');
  expect(await client.errnoOf(Command.DEVICE_RESET)).toBeNull();
  expect(await stateOf(client)).toBe(MigrationState.RUNNING);
  expect(served.logged.filter((line) => line.startsWith('error'))).toEqual([]);
});

it('B.11 a stop is answered when DMA by message has arrived, and others are answered meanwhile', async () => {
  using served = rig();
  const { client } = await served.attach();
  const map = encodeDmaMap({ flags: 3, offset: 0n, address: 0x10_0000n, size: 0x1_0000n });
  expect(await client.errnoOf(Command.DMA_MAP, map)).toBeNull();
  served.model.write(0, Movable.SEND, 4, 0x10_3000);
  const write = await client.next();
  expect(write.command).toBe(Command.DMA_WRITE);
  const data = new Uint8Array(FeatureMigState.structSize).fill(MigrationState.STOP, 0, 1);
  const id = client.send(
    Command.DEVICE_FEATURE,
    encodeFeature({ feature: Feature.MIG_DEVICE_STATE, get: false, set: true, probe: false, data }),
  );
  await client.silence();
  expect(await client.errnoOf(Command.DEVICE_GET_INFO, new Uint8Array(16).fill(16, 0, 1))).toBeNull();
  client.reply(write, write.payload.slice(0, 16), HeaderFlags.REPLY);
  expect(await client.next()).toMatchObject({ id, command: Command.DEVICE_FEATURE, error: null });
  expect(served.rig.fn.host.dma.faultCount).toBe(0);
  expect(await state(client, MigrationState.STOP_COPY)).toBeNull();
  expect((await readData(client, 2 ** 20)).length).toBeGreaterThan(100);
});

it('B.11 a client that asks for nothing but the end gets it when DMA by message has arrived: EAGAIN until then', async () => {
  using served = rig();
  const { client } = await served.attach();
  await client.errnoOf(Command.DMA_MAP, encodeDmaMap({ flags: 3, offset: 0n, address: 0x10_0000n, size: 0x1_0000n }));
  served.model.write(0, Movable.SEND, 4, 0x10_3000);
  const write = await client.next();
  const data = new Uint8Array(FeatureMigState.structSize).fill(MigrationState.STOP_COPY, 0, 1);
  client.send(Command.DEVICE_FEATURE, encodeFeature({ feature: Feature.MIG_DEVICE_STATE, get: false, set: true, probe: false, data }), {
    flags: HeaderFlags.NO_REPLY,
  });
  const first = await readData(client, 2 ** 20);
  expect(first.length).toBeGreaterThan(100);
  expect(await readData(client, 100)).toBe('EAGAIN');
  client.reply(write, write.payload.slice(0, 16), HeaderFlags.REPLY);
  await settle();
  expect((await readData(client, 2 ** 20)).length).toBeGreaterThan(100);
});

it('B.11 DMA_LOGGING over the wire: ranges and bitmap are in the message', async () => {
  using served = rig();
  const { client } = await served.attach();
  const start = (count: number, ranges: Uint8Array, more = 0) => {
    const data = new Uint8Array(UserDmaLoggingControl.structSize + ranges.length);
    UserDmaLoggingControl.encode(viewOf(data), 0, { page_size: 8192n, num_ranges: count });
    data.set(ranges, UserDmaLoggingControl.structSize);
    const payload = encodeFeature({
      feature: Feature.DMA_LOGGING_START,
      get: false,
      set: true,
      probe: false,
      data,
      argsz: 8 + data.length + more,
    });
    return client.request(Command.DEVICE_FEATURE, payload);
  };
  const report = (length: bigint, room: number) => {
    const data = new Uint8Array(UserDmaLoggingReport.structSize);
    UserDmaLoggingReport.encode(viewOf(data), 0, { iova: 0x10_0000n, length, page_size: 4096n });
    const payload = encodeFeature({
      feature: Feature.DMA_LOGGING_REPORT,
      get: true,
      set: false,
      probe: false,
      data,
      argsz: 8 + data.length + room,
    });
    return client.request(Command.DEVICE_FEATURE, payload);
  };
  const ranges = new Uint8Array(FeatureDmaLoggingRange.structSize);
  FeatureDmaLoggingRange.encode(viewOf(ranges), 0, { iova: 0x10_0000n, length: 0x1_0000n });
  expect([(await start(257, ranges)).error, (await start(2, ranges)).error]).toEqual(['E2BIG', 'EINVAL']);
  expect((await report(0x1_0000n, 8)).error).toBe('EINVAL');
  const started = await start(1, ranges);
  expect([started.error, UserDmaLoggingControl.page_size.get(viewOf(started.payload), 8)]).toEqual([null, 4096n]);
  await client.errnoOf(Command.DMA_MAP, encodeDmaMap({ flags: 3, offset: 0n, address: 0x10_0000n, size: 0x1_0000n }));
  served.model.write(0, Movable.SEND, 4, 0x10_3000);
  const write = await client.next();
  client.reply(write, write.payload.slice(0, 16), HeaderFlags.REPLY);
  await settle();
  expect([(await report(0x1_0000n, 7)).error, (await report(2n ** 60n, 8)).error]).toEqual(['EINVAL', 'EINVAL']);
  const told = await report(0x1_0000n, 8);
  expect([told.payload.length, viewOf(told.payload).getUint32(0, true), [...told.payload.subarray(32)]]).toEqual([
    40,
    40,
    [8, 0, 0, 0, 0, 0, 0, 0],
  ]);
  expect([...(await report(0x1_0000n, 100)).payload.subarray(32)]).toEqual(Array(8).fill(0));
  const stop = encodeFeature({ feature: Feature.DMA_LOGGING_STOP, get: false, set: true, probe: false, data: new Uint8Array(0) });
  expect(await client.errnoOf(Command.DEVICE_FEATURE, stop)).toBeNull();
});

it('B.11 DEVICE_FEATURE: argsz ends the structure, below what it needs is EINVAL and nothing is done, and the reply says what it takes', async () => {
  using served = rig();
  const { client } = await served.attach();
  const word = (value: number, size: number) => new Uint8Array(size).fill(value, 0, 1);
  const control = new Uint8Array(UserDmaLoggingControl.structSize + FeatureDmaLoggingRange.structSize);
  UserDmaLoggingControl.encode(viewOf(control), 0, { page_size: 4096n, num_ranges: 1 });
  FeatureDmaLoggingRange.encode(viewOf(control), UserDmaLoggingControl.structSize, { iova: 0n, length: 0x1_0000n });
  const report = new Uint8Array(UserDmaLoggingReport.structSize);
  UserDmaLoggingReport.encode(viewOf(report), 0, { iova: 0n, length: 0x1_0000n, page_size: 4096n });
  const rows = [
    ['MIG_DEVICE_STATE', 'set', word(MigrationState.STOP, 8), 16],
    ['MIG_DEVICE_STATE', 'get', new Uint8Array(8), 16],
    ['MIG_DATA_SIZE', 'get', new Uint8Array(8), 16],
    ['MIGRATION', 'get', new Uint8Array(8), 16],
    ['DMA_LOGGING_START', 'set', control, 8 + control.length],
    ['DMA_LOGGING_REPORT', 'get', report, 8 + report.length + 8],
    ['DMA_LOGGING_STOP', 'set', new Uint8Array(0), 8],
  ] as const;
  const ask = (name: keyof typeof Feature, op: string, data: Uint8Array, argsz: number) =>
    client.request(
      Command.DEVICE_FEATURE,
      encodeFeature({ feature: Feature[name], get: op === 'get', set: op === 'set', probe: false, data, argsz }),
    );
  const before = await stateOf(client);
  for (const [name, op, data, needed] of rows) {
    for (let argsz = 0; argsz < needed; argsz++)
      expect([name, argsz, (await ask(name, op, data, argsz)).error]).toEqual([name, argsz, 'EINVAL']);
  }
  expect(await stateOf(client)).toBe(before);
  for (const [name, op, data, needed] of rows) {
    for (const argsz of [needed, needed + 48]) {
      const longer = op === 'set' ? Uint8Array.of(...data, ...new Uint8Array(argsz - 8 - data.length)) : data;
      const { error, payload } = await ask(name, op, longer, argsz);
      expect([name, error, payload.length, viewOf(payload).getUint32(0, true)]).toEqual([name, null, needed, needed]);
      if (name === 'DMA_LOGGING_START' && argsz === needed) await ask('DMA_LOGGING_STOP', 'set', new Uint8Array(0), 8);
    }
  }
});

it('B.11 DMA_LOGGING_REPORT: pages of less than 4096 bytes are EINVAL; where nothing is mapped nothing was written', async () => {
  using served = rig();
  const { client } = await served.attach();
  const control = new Uint8Array(UserDmaLoggingControl.structSize);
  UserDmaLoggingControl.encode(viewOf(control), 0, { page_size: 4096n, num_ranges: 0 });
  const on = { get: false, set: true, probe: false };
  expect(
    await client.errnoOf(Command.DEVICE_FEATURE, encodeFeature({ feature: Feature.DMA_LOGGING_START, ...on, data: control })),
  ).toBeNull();
  const report = async (page_size: bigint) => {
    const data = new Uint8Array(UserDmaLoggingReport.structSize);
    UserDmaLoggingReport.encode(viewOf(data), 0, { iova: 0x7000_0000n, length: 0x1_0000n, page_size });
    const feature = { feature: Feature.DMA_LOGGING_REPORT, get: true, set: false, probe: false, data, argsz: 8 + data.length + 64 };
    const { error, payload } = await client.request(Command.DEVICE_FEATURE, encodeFeature(feature));
    return error ?? [...payload.subarray(32)];
  };
  for (const size of [0n, 1n, 512n, 2048n, 4095n, 6144n]) expect(await report(size)).toBe('EINVAL');
  expect(await report(4096n)).toEqual(Array(8).fill(0));
});

it('B.11 DMA_LOGGING over the wire: no ranges are all that there is', async () => {
  using served = rig();
  const { client } = await served.attach();
  const start = (page_size: bigint) => {
    const data = new Uint8Array(UserDmaLoggingControl.structSize);
    UserDmaLoggingControl.encode(viewOf(data), 0, { page_size, num_ranges: 0 });
    const feature = { feature: Feature.DMA_LOGGING_START, get: false, set: true, probe: false, data };
    return client.request(Command.DEVICE_FEATURE, encodeFeature(feature));
  };
  expect([(await start(0n)).error, (await start(6144n)).error, (await start(2048n)).error]).toEqual(['EINVAL', 'EINVAL', 'EINVAL']);
  const { error, payload } = await start(2n ** 40n);
  const { page_size, num_ranges } = UserDmaLoggingControl.decode(viewOf(payload.slice(8)));
  expect([error, page_size, num_ranges]).toEqual([null, 4096n, 0]);
  await client.errnoOf(Command.DMA_MAP, encodeDmaMap({ flags: 3, offset: 0n, address: 0xfff0_0000n, size: 0x1_0000n }));
  served.model.write(0, Movable.SEND, 4, 0xfff0_3000);
  const write = await client.next();
  client.reply(write, write.payload.slice(0, 16), HeaderFlags.REPLY);
  await settle();
  const data = new Uint8Array(UserDmaLoggingReport.structSize);
  UserDmaLoggingReport.encode(viewOf(data), 0, { iova: 0xfff0_0000n, length: 0x1_0000n, page_size: 4096n });
  const feature = { feature: Feature.DMA_LOGGING_REPORT, get: true, set: false, probe: false, data, argsz: 8 + data.length + 8 };
  const told = await client.request(Command.DEVICE_FEATURE, encodeFeature(feature));
  expect([told.error, [...told.payload.subarray(32)]]).toEqual([null, [8, 0, 0, 0, 0, 0, 0, 0]]);
});

it('B.11 a device without migration: ENOTTY for all of it, whatever else is wrong', async () => {
  using served = new ServerRig();
  const { client } = await served.attach();
  for (const feature of [Feature.MIG_DEVICE_STATE, Feature.DMA_LOGGING_START, Feature.DMA_LOGGING_REPORT]) {
    for (const flags of [FeatureFlags.GET, FeatureFlags.SET]) {
      const payload = new Uint8Array(8);
      viewOf(payload).setUint32(0, 8, true);
      viewOf(payload).setUint32(4, feature | flags, true);
      expect(await client.errnoOf(Command.DEVICE_FEATURE, payload)).toBe('ENOTTY');
    }
  }
  expect(await client.errnoOf(Command.MIG_GET_PRECOPY_INFO, new Uint8Array(24).fill(24, 0, 1))).toBe('ENOTTY');
});

it('B.11 a client that goes in the middle of it leaves a device that runs', async () => {
  using served = rig();
  const { client } = await served.attach();
  await state(client, MigrationState.PRE_COPY);
  expect(served.model.store.tracking).toBe(true);
  client[Symbol.dispose]();
  await settle();
  expect(served.model.store.tracking).toBe(false);
  const next = await served.attach();
  expect(await stateOf(next.client)).toBe(MigrationState.RUNNING);
  await state(next.client, MigrationState.RESUMING);
  next.client[Symbol.dispose]();
  await settle();
  expect(await stateOf((await served.attach()).client)).toBe(MigrationState.RUNNING);
});
