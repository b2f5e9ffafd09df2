import { expect, it } from 'vitest';
import { CriticalWarning } from '../../abi/nvme.ts';
import { Oacs, Oncs } from '../../abi/nvme-identify.ts';
import { IdentifyController, IdentifyNamespace, SmartLog } from '../../abi/nvme-structs.ts';
import { controllerRows, formatOf, namespaceRows } from './describe-identify.ts';
import { listLines } from './describe-list.ts';
import { isCritical, smartRows } from './describe-smart.ts';
import { plain, type Row, rowLines } from './rows.ts';

function decoded<T>(
  of: { layoutSize: number; encode(view: DataView, values: object): void; decode(view: DataView): T },
  values: object,
): T {
  const view = new DataView(new ArrayBuffer(of.layoutSize));
  of.encode(view, values);
  return of.decode(view);
}

const meaning = (rows: readonly Row[], field: string) => rows.find(([name]) => name === field)?.slice(1);

it('5.15.2.2 prints Identify Controller in words', () => {
  const id = decoded(IdentifyController, {
    vid: 0x1b36,
    sn: 'S1',
    mdts: 7,
    ver: 0x0001_0400,
    cntrltype: 1,
    oacs: Oacs.FORMAT | Oacs.DOORBELL_BUFFER,
    oncs: Oncs.COMPARE | 0x8000,
    sqes: 0x66,
    cqes: 0x44,
    wctemp: 343,
    vwc: 1,
    nn: 1,
    ieee: Uint8Array.of(0x54, 0x52, 0x00),
  });
  const rows = controllerRows(id, 2 ** 19);
  expect(meaning(rows, 'vid')).toEqual(['0x1b36', 'PCI vendor']);
  expect(meaning(rows, 'ver')).toEqual(['0x010400', 'NVM Express 1.4.0']);
  expect(meaning(rows, 'mdts')).toEqual(['7', '512 KiB a transfer at most']);
  expect(meaning(rows, 'oacs')).toEqual(['0x0102', 'Format NVM, Doorbell Buffer Config']);
  expect(meaning(rows, 'oncs')).toEqual(['0x8001', 'Compare, bit 15']);
  expect(meaning(rows, 'sqes')).toEqual(['0x66', 'submission queue entries of 64 to 64 bytes']);
  expect(meaning(rows, 'wctemp')).toEqual(['343', 'warns from 70 °C on']);
  expect(meaning(rows, 'cctemp')).toEqual(['0', 'not reported']);
  expect(meaning(rows, 'ieee')).toEqual(['005254', 'vendor (OUI)']);
  expect(meaning(rows, 'nn')).toEqual(['1', '1 namespace']);
  expect(meaning(rows, 'vwc')).toEqual(['0x01', 'volatile write cache: Flush matters']);
});

it('5.15.2.1 prints Identify Namespace in words, with the format that is in use', () => {
  const ns = decoded(IdentifyNamespace, {
    nsze: 262_144n,
    ncap: 262_144n,
    nuse: 1000n,
    nlbaf: 1,
    flbas: 1,
    dlfeat: 9,
    lbaf: [9 << 16, 12 << 16],
    eui64: Uint8Array.of(0x52, 0x54, 0, 0xff, 0xfe, 1, 2, 3),
  });
  expect(formatOf(ns)).toEqual({ data: 4096, metadata: 0 });
  const rows = namespaceRows(ns);
  expect(meaning(rows, 'nsze')).toEqual(['262,144', 'blocks, 1.07 GB']);
  expect(meaning(rows, 'flbas')).toEqual(['0x01', 'format 1: 4096 bytes + 0 of metadata']);
  expect(meaning(rows, 'dlfeat')).toEqual(['0x09', 'deallocated blocks read as zeroes; Write Zeroes can deallocate']);
  expect(meaning(rows, 'eui64')).toEqual(['525400fffe010203', '']);
  expect(meaning(rows, 'nguid')).toEqual(['-', '']);
  expect(rows.filter(([field]) => field.startsWith('lbaf')).map(([, , text]) => text)).toEqual([
    '512 bytes + 0 of metadata, performance best',
    '4096 bytes + 0 of metadata, performance best, in use',
  ]);
});

it('5.14.1.2 prints the SMART log with units', () => {
  const log = decoded(SmartLog, {
    criticalWarning: CriticalWarning.TEMPERATURE,
    compositeTemperature: 323,
    availableSpare: 100,
    dataUnitsWritten: 2_000_000n,
    powerOnHours: 12_345n,
    temperatureSensors: [0, 300],
  });
  const rows = smartRows(log);
  expect(isCritical(log)).toBe(true);
  expect(meaning(rows, 'critical warning')).toEqual(['0x02', 'temperature out of its limits']);
  expect(meaning(rows, 'temperature')).toEqual(['323 K', '50 °C']);
  expect(meaning(rows, 'temperature sensor 1')).toBe(undefined);
  expect(meaning(rows, 'temperature sensor 2')).toEqual(['300 K', '27 °C']);
  expect(meaning(rows, 'data units written')).toEqual(['2,000,000', '1.02 TB']);
  expect(meaning(rows, 'power on')).toEqual(['12,345', 'hours']);
});

it('lists namespaces under one head, in columns', () => {
  const of = (namespace: number, blockSize: number) => ({
    address: 'sim:nvme',
    serial: 'S1',
    model: 'vfio-ts NVMe',
    firmware: '1.0',
    namespace,
    used: 1000 * blockSize,
    size: 262_144 * blockSize,
    blockSize,
    metadataSize: 0,
  });
  expect(listLines([of(1, 4096), of(2, 512)])).toEqual([
    'Address   SN  Model         Namespace  Usage                Format       FW Rev',
    '--------  --  ------------  ---------  -------------------  -----------  ------',
    'sim:nvme  S1  vfio-ts NVMe  0x1         4.10 MB /  1.07 GB  4 KiB + 0 B  1.0',
    'sim:nvme  S1  vfio-ts NVMe  0x2        512.0 kB / 134.2 MB  512 B + 0 B  1.0',
  ]);
});

it('aligns rows, and leaves no room for meanings that are not there', () => {
  expect(
    rowLines([
      ['sn', 'a long serial number', ''],
      ['mdts', '7', '512 KiB'],
    ]),
  ).toEqual(['  sn    a long serial number', '  mdts  7  512 KiB']);
});

it('makes numbers of what JSON can hold, text of what it cannot, and hexadecimal of bytes', () => {
  expect(plain({ a: 1n, b: 2n ** 64n, c: Uint8Array.of(0xc0, 1), d: 'x', e: [1] })).toEqual({
    a: 1,
    b: '18446744073709551616',
    c: 'c001',
    d: 'x',
    e: [1],
  });
});
