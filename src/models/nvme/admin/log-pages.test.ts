import { describe, expect, it } from 'vitest';
import { ControllerUnderTest } from '../../../../tests/kit/nvme/controller-under-test.ts';
import { AdminOpcode, FeatureId, FormatCdw10, LogId, NvmeReg, NvmOpcode, regBits } from '../../../abi/nvme.ts';
import { Oaes } from '../../../abi/nvme-identify.ts';
import { Status } from '../../../abi/nvme-status.ts';
import { ErrorLogEntry, FirmwareSlotLog, SmartLog } from '../../../abi/nvme-structs.ts';
import { MemoryStorage } from '../../storage/memory-storage.ts';
import type { NvmeOptions } from '../nvme.ts';

function make(options: Partial<NvmeOptions> = {}) {
  const c = new ControllerUnderTest(options);
  c.enable();
  const page = c.page(2);
  const bytes = c.bytes(page, 8192);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return {
    c,
    bytes,
    view,
    /** @param size  bytes asked for */
    log(lid: number, size: number, { offset = 0, rae = false, nsid = 0xffff_ffff } = {}) {
      bytes.fill(0xee);
      const dwords = size / 4 - 1;
      return c.admin({
        opcode: AdminOpcode.GET_LOG_PAGE,
        nsid,
        prp1: page,
        prp2: page + 4096,
        cdw10: ((dwords << 16) | (rae ? 0x8000 : 0) | lid) >>> 0,
        cdw11: dwords >>> 16,
        cdw12: offset,
        cdw13: 0,
      });
    },
  };
}

describe('NVMe 1.4 5.14.1.1 Error Information', () => {
  it('an entry for each command that failed, the newest first; its completion has More', () => {
    const { c, log, view } = make();
    c.createPair(1);
    log(LogId.ERROR_INFORMATION, 64);
    expect(ErrorLogEntry.errorCount.get(view)).toBe(0n);
    expect(c.admin({ opcode: 0xc5, cid: 77 })).toMatchObject({ code: Status.INVALID_OPCODE, more: true, doNotRetry: true });
    const read = { opcode: NvmOpcode.READ, nsid: 1, cid: 78, cdw10: 0x7fff_0000, cdw11: 1, prp1: c.page() };
    expect(c.run(1, read)).toMatchObject({ code: Status.LBA_OUT_OF_RANGE, more: true });
    log(LogId.ERROR_INFORMATION, 192);
    expect(ErrorLogEntry.decode(view)).toMatchObject({
      errorCount: 2n,
      sqid: 1,
      cid: 78,
      nsid: 1,
      lba: 0x1_7fff_0000n,
      status: (0x6000 | Status.LBA_OUT_OF_RANGE) << 1,
      parameterErrorLocation: 0xffff,
    });
    expect(ErrorLogEntry.decode(view, 64)).toMatchObject({ errorCount: 1n, sqid: 0, cid: 77, lba: 0n });
    expect(ErrorLogEntry.errorCount.get(view, 128)).toBe(0n);
  });

  it('an entry that takes the place of an older one has nothing of it', () => {
    const { c, log, view } = make();
    c.createPair(1);
    c.run(1, { opcode: NvmOpcode.READ, nsid: 1, cdw10: 0x7fff_0000, cdw11: 1, prp1: c.page() });
    for (let i = 0; i < 64; i++) c.admin({ opcode: 0xc5 });
    log(LogId.ERROR_INFORMATION, 64);
    expect(ErrorLogEntry.decode(view)).toMatchObject({ errorCount: 65n, sqid: 0, lba: 0n, nsid: 0 });
  });

  it('holds the last 64, also over a controller reset', () => {
    const { c, log, view } = make();
    for (let i = 0; i < 70; i++) c.admin({ opcode: 0xc5 });
    c.w(NvmeReg.CC, 0);
    c.enable();
    log(LogId.ERROR_INFORMATION, 4096);
    expect([0, 63].map((i) => ErrorLogEntry.errorCount.get(view, i * 64))).toEqual([70n, 7n]);
  });
});

describe('NVMe 1.4 5.14.1.2 SMART / Health Information', () => {
  it('counts what hosts did, over all controllers of a disk', () => {
    const first = make();
    const { c } = first;
    c.createPair(1);
    const data = c.page();
    for (let i = 0; i < 3; i++) c.run(1, { opcode: NvmOpcode.WRITE, nsid: 1, prp1: data, cdw10: 8 * i, cdw12: 7 });
    c.run(1, { opcode: NvmOpcode.READ, nsid: 1, prp1: data, cdw12: 7 });
    c.admin({ opcode: 0xc5 });
    c.host.clock.advance(2 * 3600_000);
    expect(first.log(LogId.SMART, 512).code).toBe(0);
    expect(SmartLog.decode(first.view)).toMatchObject({
      criticalWarning: 0,
      compositeTemperature: 313,
      availableSpare: 100,
      dataUnitsRead: 1n,
      dataUnitsWritten: 1n,
      hostReadCommands: 1n,
      hostWriteCommands: 3n,
      powerCycles: 1n,
      powerOnHours: 2n,
      unsafeShutdowns: 0n,
      mediaErrors: 0n,
      errorLogEntries: 1n,
    });
    c.model.dispose!();
    const host = c.host;
    const again = c.device.create(host);
    again.write(0, NvmeReg.AQA, 4, 0x001f_001f);
    const { sq, cq } = c.pairs.get(0)!;
    c.bytes(sq, 4096).fill(0);
    c.bytes(cq, 4096).fill(0);
    again.write(0, NvmeReg.ASQ, 4, sq);
    again.write(0, NvmeReg.ACQ, 4, cq);
    again.write(0, NvmeReg.CC, 4, 0x0046_0001);
    c.setU32(sq, AdminOpcode.GET_LOG_PAGE);
    c.setU32(sq + 24, data);
    c.setU32(sq + 40, (127 << 16) | LogId.SMART);
    again.write(0, NvmeReg.DOORBELLS, 4, 1);
    const bytes = c.bytes(data, 512);
    const smart = SmartLog.decode(new DataView(bytes.buffer, bytes.byteOffset, 512));
    expect(smart).toMatchObject({ hostWriteCommands: 3n, powerCycles: 2n, unsafeShutdowns: 1n, errorLogEntries: 1n });
  });

  it.each([
    ['never enabled', 0, (_: ControllerUnderTest) => {}],
    ['enabled', 1, (c: ControllerUnderTest) => c.enable()],
    [
      'reset',
      0,
      (c: ControllerUnderTest) => {
        c.enable();
        c.w(NvmeReg.CC, 0);
      },
    ],
    [
      'shut down',
      0,
      (c: ControllerUnderTest) => {
        c.enable();
        c.w(NvmeReg.CC, c.r(NvmeReg.CC) | (1 << 14));
      },
    ],
  ])('a power cycle of a controller that was %s: Unsafe Shutdowns + %i', (_, unsafe, use) => {
    const c = new ControllerUnderTest();
    use(c);
    c.model.dispose!();
    Object.assign(c, { model: c.device.create(c.host) });
    c.enable();
    const page = c.page();
    c.admin({ opcode: AdminOpcode.GET_LOG_PAGE, prp1: page, cdw10: (127 << 16) | LogId.SMART });
    const bytes = c.bytes(page, 512);
    expect(SmartLog.decode(new DataView(bytes.buffer, bytes.byteOffset, 512)).unsafeShutdowns).toBe(BigInt(unsafe));
  });

  it('of a namespace is not offered (LPA): Invalid Field in Command', () => {
    expect(make().log(LogId.SMART, 512, { nsid: 1 }).code).toBe(Status.INVALID_FIELD);
  });
});

it('NVMe 1.4 5.14.1.3 Firmware Slot Information: one slot', () => {
  const { log, view } = make({ firmware: '7.1' });
  expect(log(LogId.FIRMWARE_SLOT, 512).code).toBe(0);
  expect(FirmwareSlotLog.decode(view)).toMatchObject({ afi: 1, frs1: '7.1' });
});

it('NVMe 1.4 5.14.1.4 Changed Namespace List: what a format changed, until it is read; an event when the host asked for it', () => {
  const { c, log, view } = make({ namespaces: [1, 2].map(() => ({ storage: new MemoryStorage(2 ** 20) })) });
  c.admin({ opcode: AdminOpcode.SET_FEATURES, cdw10: FeatureId.ASYNC_EVENT_CONFIGURATION, cdw11: Oaes.NAMESPACE_CHANGED });
  c.submit(0, { opcode: AdminOpcode.ASYNC_EVENT_REQUEST, cid: 900 });
  c.submit(0, { opcode: AdminOpcode.FORMAT_NVM, nsid: 2, cdw10: regBits(FormatCdw10.LBAF, 1) });
  return Promise.resolve().then(() => {
    const ended = c.completions(0);
    expect(ended.find((e) => e.cid === 900)?.result).toBe(2 | (LogId.CHANGED_NAMESPACES << 16));
    expect(ended.filter((e) => e.cid !== 900)).toMatchObject([{ code: 0 }]);
    for (const rae of [true, false]) {
      log(LogId.CHANGED_NAMESPACES, 4096, { rae });
      expect([view.getUint32(0, true), view.getUint32(4, true)]).toEqual([2, 0]);
    }
    log(LogId.CHANGED_NAMESPACES, 4096);
    expect(view.getUint32(0, true)).toBe(0);
  });
});

it('NVMe 1.4 5.14.1.5 Commands Supported and Effects: those that are not there end with Invalid Command Opcode, the others never', () => {
  const { c, log, view } = make();
  c.createPair(1);
  expect(log(LogId.COMMANDS_SUPPORTED, 4096).code).toBe(0);
  const dwords = Array.from({ length: 512 }, (_, i) => view.getUint32(4 * i, true));
  expect(dwords[AdminOpcode.FORMAT_NVM]! & 2).toBe(2);
  expect(dwords[256 + NvmOpcode.WRITE]! & 3).toBe(3);
  expect(dwords[256 + NvmOpcode.READ]! & 3).toBe(1);
  for (let opcode = 0; opcode < 256; opcode++) {
    if (opcode !== AdminOpcode.ASYNC_EVENT_REQUEST && opcode !== AdminOpcode.FORMAT_NVM) {
      const known = c.admin({ opcode, nsid: 0xffff_fff0 }).code !== Status.INVALID_OPCODE;
      expect([opcode, known]).toEqual([opcode, (dwords[opcode]! & 1) === 1]);
    }
    const known = c.run(1, { opcode, nsid: 0xffff_fff0 }).code !== Status.INVALID_OPCODE;
    expect([opcode, known]).toEqual([opcode, (dwords[256 + opcode]! & 1) === 1]);
  }
});

describe('NVMe 1.4 5.14 Get Log Page', () => {
  it.each([0x00, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x70, 0x80, 0x81, 0xc0])(
    'page %i is not there: Invalid Log Page',
    (lid) => {
      const { log, bytes } = make();
      expect(log(lid, 512)).toMatchObject({ code: Status.INVALID_LOG_PAGE, doNotRetry: true });
      expect(bytes[0]).toBe(0xee);
    },
  );

  it('from an offset on; no more than there is and no more than asked for', () => {
    const { c, log, bytes, view } = make();
    c.admin({ opcode: 0xc5, cid: 1 });
    c.admin({ opcode: 0xc5, cid: 2 });
    expect(log(LogId.ERROR_INFORMATION, 8, { offset: 64 + 8 }).code).toBe(0);
    expect(view.getUint16(2, true)).toBe(1);
    expect(bytes[8]).toBe(0xee);
    expect(log(LogId.SMART, 512, { offset: 508 }).code).toBe(0);
    expect([bytes[3], bytes[4]]).toEqual([0, 0xee]);
    expect(log(LogId.SMART, 512, { offset: 512 }).code).toBe(0);
    expect(bytes[0]).toBe(0xee);
  });

  it.each([[513], [516], [2], [0xffff_fffc]])('an offset past the end, or not of a dword (%i): Invalid Field in Command', (offset) => {
    expect(make().log(LogId.SMART, 512, { offset }).code).toBe(Status.INVALID_FIELD);
  });

  it('the upper half of the size counts: 256 KiB and a dword', () => {
    const { log, bytes } = make();
    expect(log(LogId.SMART, 0x4_0000 + 4).code).toBe(0);
    expect([bytes[511], bytes[512]]).toEqual([0, 0xee]);
  });

  it('4 GiB asked for: what there is', () => {
    const { log, bytes } = make();
    expect(log(LogId.SMART, 2 ** 32).code).toBe(0);
    expect([bytes[511], bytes[512]]).toEqual([0, 0xee]);
  });
});
