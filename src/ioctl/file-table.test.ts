import { describe, expect, it } from 'vitest';
import { FileTable, OpenFile } from './file-table.ts';

describe('FileTable', () => {
  it('B.4 descriptors are the lowest free numbers', () => {
    const table = new FileTable(16);
    const file = new OpenFile({ kind: 'null' });
    expect([table.install(file, false), table.install(file, false), table.install(file, true)]).toEqual([0, 1, 2]);
    table.close(1);
    expect([table.install(file, true), table.install(file, false)]).toEqual([1, 3]);
    expect([table.closesOnExec(1), table.closesOnExec(3)]).toEqual([true, false]);
  });

  it('B.3 a file is released once, with its last descriptor', () => {
    let released = 0;
    const table = new FileTable(16);
    const file = new OpenFile({ kind: 'null' }, () => released++);
    table.install(file, false);
    table.install(file, false);
    table.close(0);
    expect([released, file.references]).toEqual([0, 1]);
    table.close(1);
    expect([released, file.references]).toEqual([1, 0]);
  });

  it('B.4 a full table is EMFILE and takes nothing', () => {
    const table = new FileTable(1);
    const file = new OpenFile({ kind: 'null' });
    table.install(file, false);
    expect(() => table.reserve()).toThrow(expect.objectContaining({ code: 'EMFILE' }));
    expect(() => table.install(file, false)).toThrow(expect.objectContaining({ code: 'EMFILE' }));
    expect(file.references).toBe(1);
  });

  it.each([-1, 1, 2 ** 31, Number.NaN, 0.5])('B.4 %d is not an open descriptor: EBADF', (fd) => {
    const table = new FileTable(16);
    table.install(new OpenFile({ kind: 'null' }), false);
    expect(() => table.get(fd)).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(() => table.close(fd)).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(table.open).toEqual([0]);
  });
});
