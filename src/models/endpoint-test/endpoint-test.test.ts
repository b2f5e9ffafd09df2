/** The endpoint test function, driven as Linux's pci_endpoint_test drives it. */
import { crc32 } from 'node:zlib';
import { expect, it } from 'vitest';
import {
  EndpointTestCommand as Command,
  ENDPOINT_TEST_IDS,
  EndpointTestRegisters,
  EndpointTestIrq as Irq,
  NO_DOORBELL_BAR,
  EndpointTestStatus as Status,
  subrangeSignature,
} from '../../abi/endpoint-test.ts';
import { open } from '../../api/open.ts';
import { TestHost } from '../kit/test-host.ts';
import { endpointTest } from './endpoint-test.ts';

const MIB = 2 ** 20;

function plug(mode: 'intx' | 'msi' | 'msix' = 'msix', vectors = 2048) {
  const host = new TestHost({ mode, vectors, barSize: MIB, memorySize: 4 * MIB });
  const instance = host.plug(endpointTest());
  const card = host.bar(0, EndpointTestRegisters);
  card.irqType = Irq[mode === 'intx' ? 'INTX' : mode === 'msi' ? 'MSI' : 'MSIX'];
  card.irqNumber = mode === 'intx' ? 0 : 1;
  /** Runs a command to its end, and gives the status. */
  const run = async (command: number): Promise<number> => {
    card.command = command;
    await host.idle();
    return card.status;
  };
  const place = (iova: bigint, which: 'source' | 'destination') => {
    card[`${which}Low`] = Number(iova & 0xffff_ffffn);
    card[`${which}High`] = Number(iova >> 32n);
  };
  return { host, instance, card, run, place };
}

const sum = (bytes: Uint8Array) => ~crc32(bytes) >>> 0;
function pattern(bytes: Uint8Array): void {
  for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 7 + (i >> 8)) & 0xff;
}

it('is a card that pci_endpoint_test binds: ids, six BARs, INTx, 32 MSI, 2048 MSI-X', async () => {
  using dev = await open(endpointTest());
  expect(dev.ids).toBe('104c:b500');
  expect(ENDPOINT_TEST_IDS).toEqual({ vendor: 0x104c, device: 0xb500 });
  expect([0, 1, 2, 3, 4, 5].map((index) => dev.device.region(index).info.size)).toEqual([
    ...Array.from({ length: 5 }, () => 128 * 1024),
    MIB,
  ]);
  expect([dev.intx.count, dev.msi.count, dev.msix.count]).toEqual([1, 32, 2048]);
  const table = dev.config.findCapability(0x11);
  expect([dev.config.read32(table + 4), dev.config.read32(table + 8)]).toEqual([0x8000, 0x1_0000]);
  expect(dev.bar(0, EndpointTestRegisters).capabilities).toBe(0x3f);
});

it('the CRC-32 is the one of Linux: crc32_le(~0, "123456789") is the inverse of 0xcbf43926', async () => {
  const { host, card, run, place } = plug();
  host.memory.set(Buffer.from('123456789'));
  place(host.base, 'source');
  card.size = 9;
  card.checksum = ~0xcbf4_3926 >>> 0;
  expect(await run(Command.READ)).toBe(Status.READ_SUCCESS | Status.IRQ_RAISED);
});

it.each([1, 3, 4096, 65_535, 65_536, 65_537, 1_024_001])('moves %i bytes each way, with checksums', async (size) => {
  const { host, card, run, place } = plug();
  const source = host.memory.subarray(1, 1 + size);
  pattern(source);
  card.size = size;
  place(host.base + 1n, 'source');
  card.checksum = sum(source);
  expect(await run(Command.READ)).toBe(Status.READ_SUCCESS | Status.IRQ_RAISED);
  card.checksum = sum(source) ^ 1;
  expect(await run(Command.READ)).toBe(Status.READ_FAIL | Status.IRQ_RAISED);

  const to = 2 * MIB + 3;
  place(host.base + BigInt(to), 'destination');
  expect(await run(Command.COPY)).toBe(Status.COPY_SUCCESS | Status.IRQ_RAISED);
  expect(Buffer.compare(host.memory.subarray(to, to + size), source)).toBe(0);
  expect([host.memory[to - 1], host.memory[to + size]]).toEqual([0, 0]);

  const before = host.memory.slice(to, to + size);
  expect(await run(Command.WRITE)).toBe(Status.WRITE_SUCCESS | Status.IRQ_RAISED);
  expect(card.checksum).toBe(sum(host.memory.subarray(to, to + size)));
  if (size > 8) expect(Buffer.compare(host.memory.subarray(to, to + size), before)).not.toBe(0);
  expect([host.memory[to - 1], host.memory[to + size]]).toEqual([0, 0]);
  expect(host.irqEvents).toEqual(Array.from({ length: 4 }, () => 'trigger 0'));
});

it('says which side of a transfer faulted', async () => {
  const { host, card, run, place } = plug();
  card.size = 100;
  place(0n, 'source');
  place(host.base, 'destination');
  expect(await run(Command.READ)).toBe(Status.READ_FAIL | Status.SOURCE_INVALID | Status.IRQ_RAISED);
  expect(await run(Command.COPY)).toBe(Status.COPY_FAIL | Status.SOURCE_INVALID | Status.IRQ_RAISED);
  place(host.base, 'source');
  place(2n ** 63n, 'destination');
  expect(await run(Command.COPY)).toBe(Status.COPY_FAIL | Status.DESTINATION_INVALID | Status.IRQ_RAISED);
  expect(await run(Command.WRITE)).toBe(Status.WRITE_FAIL | Status.DESTINATION_INVALID | Status.IRQ_RAISED);
});

it('raises the message that the driver names, each one, and no message that is not there', async () => {
  const { host, card, run } = plug('msix', 2048);
  for (const number of [1, 2, 2047, 2048]) {
    card.irqNumber = number;
    expect(await run(Command.RAISE_MSIX)).toBe(Status.IRQ_RAISED);
  }
  expect(host.irqEvents).toEqual(['trigger 0', 'trigger 1', 'trigger 2046', 'trigger 2047']);
  for (const [type, number] of [
    [Irq.MSIX, 0],
    [Irq.MSIX, 2049],
    [Irq.MSI, 1],
  ] as const) {
    card.irqType = type;
    card.irqNumber = number;
    await run(Command.RAISE_MSIX);
  }
  expect(host.irqEvents).toHaveLength(4);
  expect(host.logged.map(({ message }) => message)).toContain(
    'endpoint-test: there is no msi message 1 to send: the driver has enabled msix',
  );
});

it('INTx is a pulse', async () => {
  const { host, run } = plug('intx');
  expect(await run(Command.RAISE_INTX)).toBe(Status.IRQ_RAISED);
  expect(host.irqEvents).toEqual(['raise', 'lower']);
});

it('commands and interrupt types that do not exist do nothing, and the log names them', async () => {
  const { host, card, run } = plug();
  expect(await run(Command.READ | Command.WRITE)).toBe(0);
  expect(await run(0x8000_0000)).toBe(0);
  card.irqType = 3;
  expect(await run(Command.RAISE_MSIX)).toBe(0);
  expect(host.irqEvents).toEqual([]);
  expect(host.logged.map(({ message }) => message)).toEqual([
    'endpoint-test: there is no command 0x18; nothing was done',
    'endpoint-test: there is no command 0x80000000; nothing was done',
    'endpoint-test: command 0x4 has interrupt type 3, which does not exist; nothing was done',
  ]);
});

it('the doorbell interrupts while it is enabled', async () => {
  const { host, card, run } = plug();
  expect(card.doorbellBar).toBe(NO_DOORBELL_BAR);
  expect(await run(Command.DISABLE_DOORBELL)).toBe(Status.DOORBELL_DISABLE_FAIL | Status.IRQ_RAISED);
  expect(await run(Command.ENABLE_DOORBELL)).toBe(Status.DOORBELL_ENABLE_SUCCESS | Status.IRQ_RAISED);
  const ring = () => host.bar(card.doorbellBar).write32(card.doorbellOffset, card.doorbellData);
  card.status = 0;
  ring();
  expect(card.status).toBe(Status.DOORBELL_SUCCESS | Status.IRQ_RAISED);
  expect(await run(Command.DISABLE_DOORBELL)).toBe(Status.DOORBELL_DISABLE_SUCCESS | Status.IRQ_RAISED);
  card.doorbell = card.doorbellData;
  expect(host.irqEvents).toHaveLength(4);
});

it.each([1, 2, 3, 4, 5])('BAR %i: its halves are exchanged and back', async (bar) => {
  using dev = await open(endpointTest());
  const card = dev.bar(0, EndpointTestRegisters);
  const irq = dev.msix.enable(1);
  const run = async (command: number) => {
    card.irqType = Irq.MSIX;
    card.irqNumber = 1;
    card.size = bar;
    card.command = command;
    await irq.next(0, { timeoutMs: 10_000 });
    return card.status & ~Status.IRQ_RAISED;
  };
  dev.busMaster = true;
  const bytes = dev.bar(bar);
  const half = dev.device.region(bar).info.size / 2;
  expect(await run(Command.SUBRANGE_SETUP)).toBe(Status.SUBRANGE_SETUP_SUCCESS);
  expect([bytes.read8(0), bytes.read8(half - 1), bytes.read8(half), bytes.read8(2 * half - 1)]).toEqual(
    [0, 0, 1, 1].map((part) => subrangeSignature(bar, part)),
  );
  bytes.write8(0, 0xaa);
  bytes.write8(half, 0xbb);
  expect(await run(Command.SUBRANGE_CLEAR)).toBe(Status.SUBRANGE_CLEAR_SUCCESS);
  expect([bytes.read8(0), bytes.read8(half)]).toEqual([0xbb, 0xaa]);
  expect(await run(Command.SUBRANGE_CLEAR)).toBe(Status.SUBRANGE_CLEAR_FAIL);
});

it('the BAR of registers has no halves, and BAR 6 does not exist', async () => {
  const { card, run } = plug();
  for (const bar of [0, 6, 0xffff_ffff]) {
    card.size = bar;
    expect(await run(Command.SUBRANGE_SETUP)).toBe(Status.SUBRANGE_SETUP_FAIL | Status.IRQ_RAISED);
    expect(await run(Command.SUBRANGE_CLEAR)).toBe(Status.SUBRANGE_CLEAR_FAIL | Status.IRQ_RAISED);
  }
});

it('a reset ends a transfer: no interrupt, and no more bytes', async () => {
  const { host, card, place } = plug();
  place(host.base, 'source');
  place(host.base + BigInt(2 * MIB), 'destination');
  card.size = MIB;
  host.memory.fill(1, 0, MIB);
  Object.assign(host.dma, { tryRead: () => 2 });
  host.dmaDelayMs = 1;
  card.command = Command.COPY;
  host.reset();
  await host.advance(100);
  expect([card.status, host.irqEvents, host.memory.subarray(2 * MIB).every((byte) => byte === 0)]).toEqual([0, [], true]);
});

it('a driver moves data through the IOMMU, by MSI-X message 2048', async () => {
  using dev = await open('sim:endpoint-test', { match: '104c:b500' });
  const card = dev.bar(0, EndpointTestRegisters);
  const irq = dev.msix.enable(2048);
  const buffer = dev.dma.alloc(2 * MIB);
  dev.busMaster = true;
  const source = buffer.bytes.subarray(0, MIB - 1);
  pattern(source);
  const write = (which: 'source' | 'destination', at: bigint) => {
    card[`${which}Low`] = Number(at & 0xffff_ffffn);
    card[`${which}High`] = Number(at >> 32n);
  };
  write('source', buffer.iova);
  write('destination', buffer.iova + BigInt(MIB));
  card.size = MIB - 1;
  card.irqType = Irq.MSIX;
  card.irqNumber = 2048;
  card.command = Command.COPY;
  await irq.next(2047, { timeoutMs: 10_000 });
  expect(card.status).toBe(Status.COPY_SUCCESS | Status.IRQ_RAISED);
  expect(Buffer.compare(buffer.bytes.subarray(MIB, 2 * MIB - 1), source)).toBe(0);
  buffer[Symbol.dispose]();
  card.command = Command.COPY;
  await irq.next(2047, { timeoutMs: 10_000 });
  expect(card.status).toBe(Status.COPY_FAIL | Status.SOURCE_INVALID | Status.IRQ_RAISED);
});
