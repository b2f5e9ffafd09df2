import { describe, expect, it } from 'vitest';
import { parseIdentity, readProcess } from './process-identity.ts';

const status = (caps: string, locked: string): string =>
  `Name:\tqemu\nPid:\t42\nUid:\t1000\t1001\t1001\t1001\n${locked}CapInh:\t00000000ffffffff\nCapEff:\t${caps}\n`;
const limits = (soft: string): string =>
  `Limit                     Soft Limit           Hard Limit           Units     \nMax locked memory         ${soft.padEnd(20)} unlimited            bytes     \n`;

describe('S2-46 process identity', () => {
  it('S2-46 reads uid, limit, effective capabilities and what is locked', () => {
    const identity = parseIdentity(status('0000000000024000', 'VmLck:\t      64 kB\n'), limits('8388608'));
    expect(identity).toEqual({
      name: 'qemu',
      uid: 1000,
      memlockLimit: 8388608,
      capabilities: new Set(['CAP_IPC_LOCK', 'CAP_SYS_RAWIO']),
      lockedBytes: 65536,
    });
  });

  it('S2-46 no limit is Infinity; a process without memory has nothing locked', () => {
    const identity = parseIdentity(status('0000000000000000', ''), limits('unlimited'));
    expect(identity).toEqual({ name: 'qemu', uid: 1000, memlockLimit: Number.POSITIVE_INFINITY, capabilities: new Set(), lockedBytes: 0 });
  });

  it('S2-46 all capabilities, and bits that have no name yet', () => {
    expect(parseIdentity(status('ffffffffffffffff', ''), limits('0')).capabilities.size).toBe(41);
  });

  it('S2-46 files that say nothing give no right and no limit', () => {
    expect(parseIdentity('', '')).toEqual({ name: '', uid: 0, memlockLimit: 0, capabilities: new Set(), lockedBytes: 0 });
  });

  it('S2-46 this process, by default and by pid', () => {
    expect(readProcess()).toEqual(readProcess(process.pid));
    expect(readProcess()).toMatchObject({ pid: process.pid, uid: process.getuid!() });
    expect(readProcess().memlockLimit).toBeGreaterThanOrEqual(0);
  });

  it('S2-46 a process that does not exist is ESRCH, what cannot be one EINVAL', () => {
    expect(() => readProcess(0x7fff_ffff)).toThrow(expect.objectContaining({ code: 'ESRCH' }));
    for (const bad of [-1, 1.5, Number.NaN, 2 ** 31, 2 ** 53])
      expect(() => readProcess(bad)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });
});
