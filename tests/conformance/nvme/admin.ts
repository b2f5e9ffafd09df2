/** Admin commands: Identify, logs, features, events, Format. */
import { expect, it } from 'vitest';
import {
  AdminOpcode,
  CriticalWarning,
  EventSmart,
  FeatureId,
  FeatureSelect,
  NSID_ALL,
  NvmOpcode,
  regField,
} from '../../../src/abi/nvme.ts';
import { Cns } from '../../../src/abi/nvme-identify.ts';
import { Status, StatusBit } from '../../../src/abi/nvme-status.ts';
import { CommandEffects } from '../../../src/abi/nvme-structs.ts';
import type { VfioError } from '../../../src/base/errno.ts';
import { NvmeError } from '../../../src/drivers/nvme/errors.ts';
import type { NvmeEvent } from '../../../src/drivers/nvme/events.ts';
import type { NvmeDriver } from '../../../src/drivers/nvme/nvme-driver.ts';
import { LARGE, LARGE_BYTES, SLOW, SMALL, SMALL_BYTES } from './disk.ts';
import { begin, failure, type OpenNvme, pattern, same } from './subject.ts';

/** The code of an error that must be the controller's answer. */
function code(error: VfioError): number {
  if (error instanceof NvmeError) return error.status & StatusBit.CODE;
  throw error;
}

function nextEvent<K extends NvmeEvent['kind']>(driver: NvmeDriver, kind: K): Promise<Extract<NvmeEvent, { kind: K }>> {
  return new Promise((resolve) => {
    const listening = driver.on((event) => {
      if (event.kind !== kind) return;
      listening[Symbol.dispose]();
      resolve(event as Extract<NvmeEvent, { kind: K }>);
    });
  });
}

export function adminCases(open: OpenNvme): void {
  it('5.15.2.2 Identify Controller: identity and abilities', async () => {
    const { driver, subject } = await begin(open);
    expect([driver.version, driver.controller.serial, driver.controller.mdtsBytes, driver.maxTransfer]).toEqual([
      '1.4.0',
      'CONFORMANCE',
      2 ** 17,
      2 ** 17,
    ]);
    expect(driver.controller.has).toEqual({
      compare: true,
      writeZeroes: true,
      datasetManagement: true,
      verify: true,
      format: true,
      doorbellBuffers: subject.mappedDoorbells !== true,
      volatileWriteCache: driver.controller.has.volatileWriteCache,
    });
    expect(same(await driver.identify(Cns.CONTROLLER), driver.controller.raw)).toBe(true);
    expect(driver.controller.identify.cntrltype).toBe(1);
  });

  it('5.15.2.1 Identify Namespace: sizes and formats', async () => {
    const { driver } = await begin(open);
    expect(driver.namespaces.map(({ id, blockSize, blocks }) => [id, blockSize, blocks])).toEqual([
      [SMALL, 512, SMALL_BYTES / 512],
      [LARGE, 4096, LARGE_BYTES / 4096],
      [SLOW, 4096, 2 ** 20 / 4096],
    ]);
    expect(driver.namespace(LARGE).identify.nsze).toBe(BigInt(LARGE_BYTES / 4096));
  });

  it('5.15.2.3 the list of active namespaces begins after the one that is given', async () => {
    const { driver } = await begin(open);
    const after = new DataView((await driver.identify(Cns.ACTIVE_NAMESPACES, SMALL)).buffer);
    expect([after.getUint32(0, true), after.getUint32(4, true), after.getUint32(8, true)]).toEqual([LARGE, SLOW, 0]);
    expect(code(await failure(driver.identify(Cns.ACTIVE_NAMESPACES, NSID_ALL)))).toBe(Status.INVALID_NAMESPACE);
  });

  it('5.15.2.4 a namespace has descriptors; a namespace that is not there, and an unknown CNS (5.15.1), is refused', async () => {
    const { driver } = await begin(open);
    const descriptors = await driver.identify(Cns.NAMESPACE_DESCRIPTORS, SMALL);
    expect([1, 2, 3]).toContain(descriptors[0]);
    expect(code(await failure(driver.identify(Cns.NAMESPACE, 999)))).toBe(Status.INVALID_NAMESPACE);
    expect(code(await failure(driver.identify(0xee)))).toBe(Status.INVALID_FIELD);
  });

  it('5.14.1.2 SMART counts what is read and written', async () => {
    const { driver } = await begin(open);
    const before = await driver.smart();
    const ns = driver.namespace(SMALL);
    await ns.write(0, pattern(512 * 8, 1));
    await ns.read(0, 4);
    await ns.read(0, 4);
    const after = await driver.smart();
    expect([after.hostReadCommands - before.hostReadCommands, after.hostWriteCommands - before.hostWriteCommands]).toEqual([2n, 1n]);
    expect([after.criticalWarning, after.compositeTemperature > 273]).toEqual([0, true]);
  });

  it('5.14.1.1 the error log lists errors, newest first', async () => {
    const { driver } = await begin(open);
    const had = await driver.errorLog();
    await failure(driver.io({ opcode: NvmOpcode.READ, nsid: SMALL, cdw10: SMALL_BYTES / 512, read: new Uint8Array(512) }));
    await failure(driver.io({ opcode: 0x7f, nsid: LARGE }));
    const [newest, older, ...rest] = await driver.errorLog();
    expect(rest).toHaveLength(Math.min(had.length, driver.controller.errorLogEntries - 2));
    expect([(newest!.status >> 1) & StatusBit.CODE, newest!.nsid]).toEqual([Status.INVALID_OPCODE, LARGE]);
    expect([(older!.status >> 1) & StatusBit.CODE, older!.nsid, older!.sqid, older!.lba]).toEqual([
      Status.LBA_OUT_OF_RANGE,
      SMALL,
      1,
      BigInt(SMALL_BYTES / 512),
    ]);
    expect(newest!.errorCount).toBe(older!.errorCount + 1n);
    expect(await driver.errorLog(1)).toHaveLength(1);
  });

  it('5.14.1.3 firmware slots', async () => {
    const { driver } = await begin(open);
    const log = await driver.firmwareLog();
    expect([log.afi & 7, log.frs1.trim()]).toEqual([1, driver.controller.firmware]);
  });

  it('5.14.1.5 the controller knows the commands that it lists as supported', async () => {
    const { driver } = await begin(open);
    const { admin, io } = await driver.commandsSupported();
    const knows = (dwords: Uint32Array, opcode: number) => regField(dwords[opcode]!, CommandEffects.CSUPP) === 1;
    for (const opcode of [NvmOpcode.FLUSH, NvmOpcode.WRITE, NvmOpcode.READ, NvmOpcode.COMPARE, NvmOpcode.WRITE_ZEROES, NvmOpcode.VERIFY]) {
      expect([opcode, knows(io, opcode)]).toEqual([opcode, true]);
    }
    for (const opcode of [AdminOpcode.IDENTIFY, AdminOpcode.ABORT, AdminOpcode.FORMAT_NVM]) {
      expect([opcode, knows(admin, opcode)]).toEqual([opcode, true]);
    }
    for (const opcode of [0x7f, 0xc5]) {
      expect(knows(admin, opcode)).toBe(false);
      expect(code(await failure(driver.admin({ opcode })))).toBe(Status.INVALID_OPCODE);
    }
  });

  it('5.14 a log page by parts is the same as whole; one that is not there is refused', async () => {
    const { driver } = await begin(open);
    const whole = await driver.log(0x05, 4096);
    const parts = [await driver.log(0x05, 1000), await driver.log(0x05, 3096, { offset: 1000 })];
    expect(same(Buffer.concat(parts), whole)).toBe(true);
    expect(code(await failure(driver.log(0x7e, 512)))).toBe(Status.INVALID_LOG_PAGE);
    expect((await failure(driver.log(0x02, 511))).code).toBe('EINVAL');
  });

  it('5.21.1 features: set, get, default, capabilities', async () => {
    const { driver } = await begin(open);
    const id = FeatureId.ERROR_RECOVERY;
    const standard = (await driver.getFeature(id, { select: FeatureSelect.DEFAULT, nsid: SMALL })).value;
    await driver.setFeature(id, 0x55, { nsid: SMALL });
    expect((await driver.getFeature(id, { nsid: SMALL })).value).toBe(0x55);
    expect((await driver.getFeature(id, { select: FeatureSelect.DEFAULT, nsid: SMALL })).value).toBe(standard);
    const can = (await driver.getFeature(id, { select: FeatureSelect.CAPABILITIES, nsid: SMALL })).value;
    expect(can & 4).toBe(4);
    const queues = (await driver.getFeature(FeatureId.NUMBER_OF_QUEUES)).value;
    expect(queues & 0xffff).toBeGreaterThanOrEqual(0);
    expect(code(await failure(driver.getFeature(0x7f)))).toBe(Status.INVALID_FIELD);
    expect(code(await failure(driver.setFeature(FeatureId.NUMBER_OF_QUEUES, 0x0003_0003)))).toBe(Status.COMMAND_SEQUENCE_ERROR);
  });

  it('5.21.1.14 Timestamp: data goes and comes', async () => {
    const { driver } = await begin(open);
    const data = new Uint8Array(8);
    new DataView(data.buffer).setBigUint64(0, 1_700_000_000_000n, true);
    await driver.setFeature(FeatureId.TIMESTAMP, 0, { data });
    const got = await driver.getFeature(FeatureId.TIMESTAMP, { size: 8 });
    const value = new DataView(got.data.buffer).getBigUint64(0, true);
    expect((value >> 49n) & 7n).toBe(1n);
    expect((value & 0xffff_ffff_ffffn) - 1_700_000_000_000n).toBeGreaterThanOrEqual(0n);
    expect((value & 0xffff_ffff_ffffn) - 1_700_000_000_000n).toBeLessThan(3_600_000n);
  });

  it('5.2 an asynchronous event: a temperature over its threshold is reported, and reported again after the answer', async () => {
    const { driver } = await begin(open);
    for (let i = 0; i < 6; i++) {
      const event = nextEvent(driver, 'smart');
      await driver.setFeature(FeatureId.TEMPERATURE_THRESHOLD, 200);
      const { info, smart } = await event;
      expect([info, smart.criticalWarning & CriticalWarning.TEMPERATURE]).toEqual([
        EventSmart.TEMPERATURE_THRESHOLD,
        CriticalWarning.TEMPERATURE,
      ]);
      await driver.setFeature(FeatureId.TEMPERATURE_THRESHOLD, 500);
    }
    expect((await driver.smart()).criticalWarning).toBe(0);
  });

  it('5.23 Format NVM: other blocks, all empty; the driver knows at once', async () => {
    const { driver } = await begin(open);
    const ns = driver.namespace(SMALL);
    await ns.write(0, pattern(4096, 3));
    const format = ns.identify.lbaf.findIndex((f) => ((f >>> 16) & 0xff) === 12);
    await driver.format(SMALL, { format, secureErase: 1 });
    expect([ns.blockSize, ns.blocks, driver.namespace(SMALL)]).toEqual([4096, SMALL_BYTES / 4096, ns]);
    expect(same(await ns.read(0, 1), new Uint8Array(4096))).toBe(true);
    await ns.write(ns.blocks - 1, pattern(4096, 4));
    expect(same(await ns.read(ns.blocks - 1, 1), pattern(4096, 4))).toBe(true);
    expect((await failure(driver.format(SMALL, { format: 15 }))).code).toBe('EINVAL');
    await driver.format(SMALL, { format: 0 });
    expect(ns.blockSize).toBe(512);
  });

  it('4.6.1 an error states the request and the answer', async () => {
    const { driver } = await begin(open);
    const error = await failure(
      driver.io({ opcode: NvmOpcode.READ, nsid: SMALL, cdw10: 0x7fff_fff0, cdw12: 7, read: new Uint8Array(4096) }),
    );
    expect(error.message).toBe(`Read of LBA 2147483632..2147483639 of namespace 1 on ${driver.dev.name}: LBA Out of Range (0x0080)`);
    expect(error).toMatchObject({ name: 'EIO', code: 'EIO', nsid: 1, opcode: 2 });
    expect(code(await failure(driver.io({ opcode: NvmOpcode.READ, nsid: 77, read: new Uint8Array(512) })))).toBe(Status.INVALID_NAMESPACE);
  });
}
