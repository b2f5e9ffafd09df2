import { expect, it } from 'vitest';
import { ControllerUnderTest } from '../../../../tests/kit/nvme/controller-under-test.ts';
import { AdminOpcode, NSID_ALL, NvmeReg } from '../../../abi/nvme.ts';
import { Cns, Oacs, Oncs } from '../../../abi/nvme-identify.ts';
import { Status } from '../../../abi/nvme-status.ts';
import { IdentifyController, IdentifyNamespace, PowerState } from '../../../abi/nvme-structs.ts';
import { MemoryStorage } from '../../storage/memory-storage.ts';
import type { NvmeOptions } from '../nvme.ts';

function make(options: Partial<NvmeOptions> = {}) {
  const c = new ControllerUnderTest(options);
  c.enable();
  const page = c.page();
  return {
    c,
    view: new DataView(c.bytes(page, 4096).buffer, c.bytes(page, 4096).byteOffset, 4096),
    bytes: c.bytes(page, 4096),
    identify(cns: number, nsid = 0) {
      c.bytes(page, 4096).fill(0xee);
      return c.admin({ opcode: AdminOpcode.IDENTIFY, nsid, cdw10: cns, prp1: page }).code;
    },
  };
}

it('NVMe 1.4 5.15.2.1 Identify Namespace: size, formats, identifiers', () => {
  const { identify, view } = make({
    namespaces: [
      { storage: new MemoryStorage(2 ** 20) },
      { storage: new MemoryStorage(2 ** 21), blockSize: 4096, nguid: new Uint8Array(16).fill(7), eui64: new Uint8Array(8).fill(9) },
    ],
  });
  expect(identify(Cns.NAMESPACE, 1)).toBe(0);
  const first = IdentifyNamespace.decode(view);
  expect(first).toMatchObject({ nsze: 2048n, ncap: 2048n, nlbaf: 1, flbas: 0 });
  expect(first.lbaf.slice(0, 3).map((f) => (f >>> 16) & 0xff)).toEqual([9, 12, 0]);
  expect(identify(Cns.NAMESPACE, 2)).toBe(0);
  const second = IdentifyNamespace.decode(view);
  expect(second).toMatchObject({ nsze: 512n, flbas: 1 });
  expect([...second.nguid]).toEqual(new Array(16).fill(7));
  expect([...second.eui64]).toEqual(new Array(8).fill(9));
});

it('NVMe 1.4 5.15.2.1 Identify Namespace: identifiers differ between namespaces and disks, and are the same in each life of one', () => {
  const ids = (serial: string, nsid: number) => {
    const { identify, view } = make({
      serial,
      namespaces: [{ storage: new MemoryStorage(2 ** 20) }, { storage: new MemoryStorage(2 ** 20) }],
    });
    identify(Cns.NAMESPACE, nsid);
    const { nguid, eui64 } = IdentifyNamespace.decode(view);
    return `${Buffer.from(nguid).toString('hex')} ${Buffer.from(eui64).toString('hex')}`;
  };
  expect(ids('A', 1)).toBe(ids('A', 1));
  expect(new Set([ids('A', 1), ids('A', 2), ids('B', 1)]).size).toBe(3);
});

it.each([[0], [2], [NSID_ALL], [NSID_ALL - 1]])('NVMe 1.4 5.15.2.1 Identify Namespace %i: Invalid Namespace or Format', (nsid) => {
  const { c, identify, bytes } = make();
  expect(identify(Cns.NAMESPACE, nsid)).toBe(Status.INVALID_NAMESPACE);
  expect(bytes[0]).toBe(0xee);
  expect(c.csts.cfs).toBe(0);
});

it('NVMe 1.4 5.15.2.2 Identify Controller: who it is and what it can', () => {
  const { identify, view } = make({ serial: 'S1', model: 'A disk', firmware: '2.5', mdts: 5 });
  expect(identify(Cns.CONTROLLER)).toBe(0);
  const id = IdentifyController.decode(view);
  expect(id).toMatchObject({ sn: 'S1', mn: 'A disk', fr: '2.5', mdts: 5, ver: 0x1_0400, nn: 1, sqes: 0x66, cqes: 0x44, cntrltype: 1 });
  expect(id.subnqn).toMatch(/^nqn\.2014-08\.org\.nvmexpress:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  expect(id.oacs & (Oacs.FORMAT | Oacs.DOORBELL_BUFFER)).toBe(Oacs.FORMAT | Oacs.DOORBELL_BUFFER);
  expect(id.oacs & (Oacs.NAMESPACE_MANAGEMENT | Oacs.FIRMWARE)).toBe(0);
  expect(id.oncs & (Oncs.WRITE_ZEROES | Oncs.DATASET_MANAGEMENT | Oncs.COMPARE)).toBe(
    Oncs.WRITE_ZEROES | Oncs.DATASET_MANAGEMENT | Oncs.COMPARE,
  );
  expect(id.wctemp).toBeGreaterThan(0x111);
  expect(id.fuses).toBe(0);
  expect(PowerState.mp.get(view, 2048)).toBeGreaterThan(0);
});

it('NVMe 1.4 5.15.2.2 Identify Controller: no doorbell buffers where memory is reached by messages, which Linux would warn of', () => {
  const { c, identify, view } = make();
  c.w(NvmeReg.CC, 0);
  c.host.dma.view = () => null;
  c.enable();
  expect(identify(Cns.CONTROLLER)).toBe(0);
  expect(IdentifyController.decode(view).oacs & (Oacs.FORMAT | Oacs.DOORBELL_BUFFER)).toBe(Oacs.FORMAT);
});

it('NVMe 1.4 5.15.2.2 Identify Controller: a disk without a serial number gets one of its own', () => {
  const of = () => {
    const c = new ControllerUnderTest({ serial: undefined as never });
    c.enable();
    const page = c.page();
    c.admin({ opcode: AdminOpcode.IDENTIFY, cdw10: Cns.CONTROLLER, prp1: page });
    return Buffer.from(c.bytes(page + 4, 20)).toString() + Buffer.from(c.bytes(page + 768, 256)).toString();
  };
  expect(of()).not.toBe(of());
});

it('NVMe 1.4 5.15.2.3 active namespaces: those above NSID, in order', () => {
  const { identify, bytes, view } = make({ namespaces: [1, 2, 3].map(() => ({ storage: new MemoryStorage(2 ** 20) })) });
  expect(identify(Cns.ACTIVE_NAMESPACES)).toBe(0);
  expect([0, 4, 8, 12].map((at) => view.getUint32(at, true))).toEqual([1, 2, 3, 0]);
  expect(identify(Cns.ACTIVE_NAMESPACES, 2)).toBe(0);
  expect([0, 4].map((at) => view.getUint32(at, true))).toEqual([3, 0]);
  expect(bytes.subarray(8).every((b) => b === 0)).toBe(true);
  for (const nsid of [NSID_ALL, NSID_ALL - 1]) expect(identify(Cns.ACTIVE_NAMESPACES, nsid)).toBe(Status.INVALID_NAMESPACE);
});

it('NVMe 1.4 5.15.2.4 namespace identification descriptors: EUI64 and NGUID', () => {
  const { identify, bytes } = make();
  expect(identify(Cns.NAMESPACE_DESCRIPTORS, 1)).toBe(0);
  expect([bytes[0], bytes[1]]).toEqual([1, 8]);
  expect([bytes[12], bytes[13]]).toEqual([2, 16]);
  expect(bytes[32]).toBe(0);
  for (const nsid of [0, 2, NSID_ALL]) expect(identify(Cns.NAMESPACE_DESCRIPTORS, nsid)).toBe(Status.INVALID_NAMESPACE);
});

it.each([0x04, 0x05, 0x06, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0xff])(
  'NVMe 1.4 5.15.1 Identify, CNS %i: Invalid Field in Command, and no data',
  (cns) => {
    const { identify, bytes } = make();
    expect(identify(cns)).toBe(Status.INVALID_FIELD);
    expect(bytes[0]).toBe(0xee);
  },
);

it('NVMe 1.4 4.3, 5.15: data over two pages, from any dword', () => {
  const { c } = make();
  const first = c.page();
  const second = c.page();
  expect(c.admin({ opcode: AdminOpcode.IDENTIFY, cdw10: Cns.CONTROLLER, prp1: first + 0xf00, prp2: second }).code).toBe(0);
  expect(c.u32(first + 0xf00)).toBe(0x1af4_1234);
  expect(Buffer.from(c.bytes(second + 768 - 256, 3)).toString()).toBe('nqn');
});

it.each([
  ['PRP Offset Invalid', 0x10_0001, 0, Status.PRP_OFFSET_INVALID],
  ['PRP Offset Invalid', 0x10_0f00, 0x10_0004, Status.PRP_OFFSET_INVALID],
  ['Data Transfer Error', 0xffff_f000, 0, Status.DATA_TRANSFER_ERROR],
])('NVMe 1.4 4.3: %s', (_, prp1, prp2, status) => {
  const { c } = make();
  expect(c.admin({ opcode: AdminOpcode.IDENTIFY, cdw10: Cns.CONTROLLER, prp1, prp2 }).code).toBe(status);
  expect(c.csts.cfs).toBe(0);
});
