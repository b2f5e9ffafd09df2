/** Messages that a client might send: sound in their layout, and often in their meaning. */
import { HeaderFlags } from '../../src/abi/vfio-user.ts';
import * as m from '../../src/vfio-user/messages.ts';
import { Command } from '../../src/vfio-user/messages.ts';
import type { Random } from './random.ts';

export interface SoundMessage {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Descriptors that belong to it. */
  readonly takes: 'nothing' | 'memory' | 'eventfd';
  readonly answered: boolean;
}

const PLACES = [0n, 0x1000n, 0x2000n, 0x8000n, 0x10000n, 2n ** 32n, 2n ** 53n, 2n ** 64n - 0x1000n, 2n ** 64n - 1n] as const;
const SIZES = [0x1000n, 0x1000n, 0x2000n, 0x10000n, 0n, 1n, 2n ** 40n, 2n ** 63n] as const;
const OFFSETS = [0n, 4n, 8n, 0x20n, 0x24n, 0x60n, 0x64n, 0x80n, 0xffcn, 0x1000n, 0xfffffn, 2n ** 63n] as const;
const WIDTHS = [1, 2, 4, 4, 4, 8, 16, 64, 4096] as const;

/** Most messages go to addresses in use; a few anywhere. */
const region = (random: Random): number => (random.once(12) ? random.below(300) : random.below(9));
const offset = (random: Random): bigint => (random.once(3) ? BigInt(random.below(0x10000)) : random.pick(OFFSETS));

type Make = (random: Random) => readonly [command: number, payload: Uint8Array, takes?: SoundMessage['takes']];

const write = (address: number, value: number): ReturnType<Make> => {
  const data = new Uint8Array(4);
  new DataView(data.buffer).setUint32(0, value, true);
  return [Command.REGION_WRITE, m.encodeRegionAccess(BigInt(address), 0, 4, data)];
};

const makes: readonly Make[] = [
  (random) => [Command.REGION_READ, m.encodeRegionAccess(offset(random), region(random), random.pick(WIDTHS))],
  (random) => [Command.REGION_READ, m.encodeRegionAccess(BigInt(random.below(256)), 7, random.pick(WIDTHS))],
  (random) => {
    const count = random.pick(WIDTHS);
    return [Command.REGION_WRITE, m.encodeRegionAccess(offset(random), region(random), count, random.bytes(count))];
  },
  (random) => {
    const count = random.pick([1, 2, 4]);
    return [Command.REGION_WRITE, m.encodeRegionAccess(BigInt(random.below(256)), 7, count, random.bytes(count))];
  },
  // Memory decoding and bus mastering on: otherwise every answer is a refusal.
  () => [Command.REGION_WRITE, m.encodeRegionAccess(4n, 7, 2, Uint8Array.of(6, 0))],
  // The educational device's DMA, to or from addresses that may be mapped there.
  (random) => write(0x80, random.pick([0, 0x1000, 0x8000, 0x4_0000])),
  (random) => write(0x88, random.pick([0, 0x1000, 0x8000, 0x4_0000])),
  (random) => write(0x90, random.pick([1, 4, 64, 4096, 5000])),
  (random) => write(0x98, random.below(8)),
  (random) => {
    const writes = Array.from({ length: random.below(5) }, () => ({
      offset: offset(random),
      region: region(random),
      data: random.bytes(random.pick([1, 2, 4, 8])),
    }));
    return [Command.REGION_WRITE_MULTI, m.encodeWriteMulti(writes)];
  },
  (random) => {
    const shared = random.once(2);
    const request = { flags: random.below(4) | (random.once(8) ? random.below(16) : 0), offset: 0n };
    const payload = m.encodeDmaMap({ ...request, address: random.pick(PLACES), size: random.pick(SIZES) });
    return [Command.DMA_MAP, payload, shared ? 'memory' : 'nothing'];
  },
  (random) => [Command.DMA_UNMAP, m.encodeDmaUnmap({ flags: 0, address: random.pick(PLACES), size: random.pick(SIZES) })],
  (random) => {
    const bitmap = { pgsize: random.pick([4096n, 4096n, 1n]), size: BigInt(random.below(64)) };
    return [Command.DMA_UNMAP, m.encodeDmaUnmap({ flags: 1, address: random.pick(PLACES), size: random.pick(SIZES), bitmap })];
  },
  () => [Command.DMA_UNMAP, m.encodeDmaUnmap({ flags: 2, address: 0n, size: 0n })],
  () => [Command.DEVICE_GET_INFO, m.encodeDeviceInfo()],
  (random) => [Command.DEVICE_GET_REGION_INFO, m.encodeRegionInfoRequest(region(random), random.pick([32, 32, 200, 4096]))],
  (random) => [Command.DEVICE_GET_REGION_IO_FDS, m.encodeIoFdsRequest(region(random), random.pick([16, 200, 4096]))],
  (random) => [Command.DEVICE_GET_IRQ_INFO, m.encodeIrqInfo({ index: random.below(7) })],
  (random) => {
    const data = random.pick(['none', 'bool', 'eventfd', 'eventfd'] as const);
    const count = random.once(8) ? random.next() : random.below(4);
    const few = Math.min(count, 16);
    const request = { index: random.below(6), start: random.below(4), count: data === 'bool' ? few : count, data } as const;
    const action = random.pick(['mask', 'unmask', 'trigger', 'trigger'] as const);
    const payload = m.encodeSetIrqs({ ...request, action, ...(data === 'bool' ? { values: random.bytes(few) } : {}) });
    return [Command.DEVICE_SET_IRQS, payload, data === 'eventfd' ? 'eventfd' : 'nothing'];
  },
  () => [Command.DEVICE_RESET, new Uint8Array(0)],
  (random) => {
    const [get, set, probe] = [random.once(2), random.once(2), random.once(3)];
    const data = random.bytes(random.pick([0, 4, 8, 16, 24]));
    return [Command.DEVICE_FEATURE, m.encodeFeature({ feature: random.below(14), get, set, probe, data })];
  },
  (random) => [Command.DIRTY_PAGES, m.encodeDirtyPages({ flags: 1 << random.below(3) })],
  (random) => [Command.MIG_DATA_READ, m.encodeMigData(random.below(4096))],
  (random) => [Command.MIG_DATA_WRITE, m.encodeMigData(8, random.bytes(8))],
  (random) => [random.below(30), random.bytes(random.below(64))],
];

export function soundMessage(random: Random, id: number): SoundMessage {
  const [command, payload, takes = 'nothing'] = random.pick(makes)(random);
  const answered = !random.once(16);
  return { bytes: m.encodeMessage(id, command as Command, payload, answered ? 0 : HeaderFlags.NO_REPLY), takes, answered };
}
