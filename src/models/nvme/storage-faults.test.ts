import { describe, expect, it } from 'vitest';
import { ControllerUnderTest } from '../../../tests/kit/nvme/controller-under-test.ts';
import { TestStorage } from '../../../tests/kit/nvme/test-storage.ts';
import { NvmCdw12, NvmOpcode } from '../../abi/nvme.ts';
import { Status } from '../../abi/nvme-status.ts';
import { Errno } from '../../base/errno.ts';

function make() {
  const storage = new TestStorage(2 ** 20);
  storage.immediate = true;
  const c = new ControllerUnderTest({ namespaces: [{ storage }] });
  c.enable();
  c.createPair(1, 16);
  const page = c.page();
  const run = (opcode: number) => c.run(1, { opcode, nsid: 1, prp1: page });
  const said = () => c.host.logged.map(({ level, message }) => `${level} ${message}`);
  return { storage, c, run, said };
}

describe('what a storage suffers from is said at the server', () => {
  it.each([
    [Errno.ENOSPC, NvmOpcode.WRITE, Status.CAPACITY_EXCEEDED, 'ENOSPC: there is no space left'],
    [Errno.EDQUOT, NvmOpcode.WRITE, Status.CAPACITY_EXCEEDED, 'EDQUOT: the disk quota'],
    [Errno.EIO, NvmOpcode.WRITE, Status.WRITE_FAULT, 'EIO: reading or writing it fails'],
    [Errno.EIO, NvmOpcode.READ, Status.UNRECOVERED_READ_ERROR, 'EIO: reading or writing it fails'],
    [Errno.ENOSPC, NvmOpcode.FLUSH, Status.CAPACITY_EXCEEDED, 'ENOSPC: there is no space left'],
    [Errno.EIO, NvmOpcode.WRITE_ZEROES, Status.WRITE_FAULT, 'EIO: reading or writing it fails'],
  ])('errno %i in opcode %i: the host gets status 0x%x, the log a line with the name', (errno, opcode, status, text) => {
    const { storage, run, said } = make();
    storage.error = -errno;
    expect(run(opcode).code).toBe(status);
    expect(said()).toEqual([expect.stringMatching(`^error nvme: a storage of a test: ${text}`)]);
  });

  it('of a write that is queued, too', () => {
    const { storage, c, run, said } = make();
    storage.error = -Errno.ENOSPC;
    expect(c.run(1, { opcode: NvmOpcode.WRITE, nsid: 1, prp1: c.page(), cdw12: NvmCdw12.FUA }).code).toBe(Status.CAPACITY_EXCEEDED);
    expect(said()).toHaveLength(1);
    storage.error = 0;
    expect([run(NvmOpcode.WRITE).code, said().length]).toEqual([Status.SUCCESS, 1]);
  });

  it('one line for each reason, another reason at once', () => {
    const { storage, run, said } = make();
    storage.error = -Errno.ENOSPC;
    for (let i = 0; i < 10; i++) run(NvmOpcode.WRITE);
    storage.error = -Errno.EIO;
    run(NvmOpcode.WRITE);
    expect(said().map((line) => /ENOSPC|EIO/.exec(line)![0])).toEqual(['ENOSPC', 'EIO']);
    storage.error = 0;
    expect(run(NvmOpcode.WRITE).code).toBe(Status.SUCCESS);
    expect(said()).toHaveLength(2);
  });
});
