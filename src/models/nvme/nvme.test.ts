import { expect, it } from 'vitest';
import { AdminOpcode, NvmOpcode } from '../../abi/nvme.ts';
import { ControllerUnderTest } from './controller-under-test.ts';

it('writes and reads', () => {
  const c = new ControllerUnderTest();
  c.enable();
  expect(c.csts.rdy).toBe(1);
  expect(c.createPair(1)).toEqual([0, 0]);
  const data = c.page();
  c.bytes(data, 4096).fill(0x5a);
  expect(c.run(1, { opcode: NvmOpcode.WRITE, nsid: 1, prp1: data, cdw10: 8, cdw12: 7 }).code).toBe(0);
  const back = c.page();
  expect(c.run(1, { opcode: NvmOpcode.READ, nsid: 1, prp1: back, cdw10: 8, cdw12: 7 }).code).toBe(0);
  expect(c.bytes(back, 4096).every((b) => b === 0x5a)).toBe(true);
  expect(c.host.irqEvents).toEqual(['trigger 0', 'trigger 0', 'trigger 1', 'trigger 1']);
  const id = c.page();
  expect(c.admin({ opcode: AdminOpcode.IDENTIFY, cdw10: 1, prp1: id }).code).toBe(0);
});
