import { expect, it } from 'vitest';
import {
  AdminOpcode,
  Aqa,
  Cap,
  Cc,
  Csts,
  capField,
  cqDoorbell,
  NvmOpcode,
  opcodeName,
  regBits,
  regField,
  sqDoorbell,
  versionText,
} from './nvme.ts';
import { Status, StatusBit, statusName } from './nvme-status.ts';
import { ErrorLogEntry, IdentifyController, IdentifyNamespace, SmartLog } from './nvme-structs.ts';

it('NVMe 1.4 3.1.1 CAP: fields of both halves', () => {
  const low = 0x3f01_03ff;
  const high = 0x0040_0030;
  expect(capField(low, high, Cap.MQES)).toBe(0x3ff);
  expect(capField(low, high, Cap.CQR)).toBe(1);
  expect(capField(low, high, Cap.TO)).toBe(0x3f);
  expect(capField(low, high, Cap.NSSRS)).toBe(1);
  expect(capField(low, high, Cap.CSS)).toBe(1);
  expect(capField(low, high, Cap.MPSMAX)).toBe(4);
});

it('NVMe 1.4 3.1.5, 3.1.6, 3.1.8: fields of 32-bit registers', () => {
  expect(regField(0x0046_0001, Cc.EN)).toBe(1);
  expect(regField(0x0046_0001, Cc.IOSQES)).toBe(6);
  expect(regField(0x0046_0001, Cc.IOCQES)).toBe(4);
  expect(regBits(Csts.SHST, 2)).toBe(8);
  expect(regBits(Aqa.ACQS, 0xfff)).toBe(0x0fff_0000);
  expect(regField(0x0fff_0000, Aqa.ACQS)).toBe(0xfff);
});

it('NVMe 1.4 3.1.24, 3.1.25: doorbells by the stride', () => {
  expect([sqDoorbell(0, 0), cqDoorbell(0, 0), sqDoorbell(1, 0), cqDoorbell(3, 0)]).toEqual([0x1000, 0x1004, 0x1008, 0x101c]);
  expect([sqDoorbell(1, 4), cqDoorbell(1, 4)]).toEqual([0x1000 + 128, 0x1000 + 192]);
});

it('NVMe 1.4 4.6.1: every status has its name, also with More and Do Not Retry', () => {
  expect(statusName(Status.LBA_OUT_OF_RANGE | StatusBit.DO_NOT_RETRY | StatusBit.MORE)).toBe('LBA Out of Range');
  expect(statusName(0x7ff)).toBe('status type 7, code 0xff');
  for (const status of Object.values(Status)) expect(statusName(status)).not.toMatch(/^status type/);
});

it('names of opcodes and versions', () => {
  expect(opcodeName(AdminOpcode.CREATE_SQ, true)).toBe('Create SQ');
  expect(opcodeName(NvmOpcode.WRITE_ZEROES, false)).toBe('Write Zeroes');
  expect(opcodeName(0xc1, true)).toBe('opcode 0xc1');
  expect(versionText(0x0001_0400)).toBe('1.4.0');
});

it('NVMe 1.4 5.15.2, 5.14.1: the structures have the sizes commands carry', () => {
  expect([IdentifyController, IdentifyNamespace, SmartLog, ErrorLogEntry].map((s) => s.layoutSize)).toEqual([4096, 4096, 512, 64]);
});
