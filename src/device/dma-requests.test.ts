import { expect, it } from 'vitest';
import { errnoFrom } from '../../tests/kit/errno.ts';
import { Access } from '../abi/memory.ts';
import { U64_MAX } from '../base/check.ts';
import { MemfdMemory } from '../sys/memfd.ts';
import { checkDirtyRange, checkMap, checkMemory, checkNotCut, checkUnmap } from './dma-requests.ts';
import { MappingTable } from './mapping-table.ts';

const PAGE = 4096n;

it('B.6 MAP: refuses numbers before ranges, and ranges before addresses', () => {
  using memory = MemfdMemory.allocate(16384);
  const map = (request: object) => errnoFrom(() => checkMap('MAP_DMA', { iova: 0n, memory, ...request }, PAGE));
  expect(map({ memory: {} })).toBe('EFAULT');
  expect(map({ iova: -1n })).toBe('EINVAL');
  expect(map({ size: 0 })).toBe('EINVAL');
  expect(map({ access: 0 })).toBe('EINVAL');
  expect(map({ iova: U64_MAX - 4094n, size: 8192 })).toBe('EOVERFLOW');
  expect(map({ offset: 100, size: 4096 })).toBe('EINVAL');
  expect(checkMap('MAP_DMA', { iova: 0x10_0000n, memory, offset: 4096 }, PAGE)).toMatchObject({
    bytes: 12288,
    access: Access.READ_WRITE,
    first: 0x100,
    last: 0x102,
  });
});

it('B.6 MAP: EFAULT for memory that is too small, or gone', () => {
  const memory = MemfdMemory.allocate(4096);
  const large = checkMap('MAP_DMA', { iova: 0n, memory, size: 8192 }, PAGE);
  const right = checkMap('MAP_DMA', { iova: 0n, memory }, PAGE);
  expect(errnoFrom(() => checkMemory(large))).toBe('EFAULT');
  expect(errnoFrom(() => checkMemory(right))).toBe('none');
  memory[Symbol.dispose]();
  expect(errnoFrom(() => checkMemory(right))).toBe('EFAULT');
});

it('B.6 UNMAP v2: a range may not end inside a mapping', () => {
  const table = new MappingTable();
  using memory = MemfdMemory.allocate(8192);
  table.add(16, 17, memory, 0, Access.READ);
  const cut = (first: number, last: number) => errnoFrom(() => checkNotCut('UNMAP_DMA', first, last, table));
  expect([cut(16, 16), cut(17, 20), cut(16, 17), cut(0, 30)]).toEqual(['EINVAL', 'EINVAL', 'none', 'none']);
  expect(errnoFrom(() => checkUnmap('UNMAP_DMA', 0n, 100n, PAGE))).toBe('EINVAL');
  table.clear();
});

it('B.6 DIRTY_PAGES: the bitmap has the smallest page and room for the range', () => {
  const check = (pageSize: bigint, bytes: number) =>
    errnoFrom(() => checkDirtyRange('DIRTY_PAGES', { iova: 0n, size: 65n * PAGE, pageSize, into: new Uint8Array(bytes) }, PAGE));
  expect([check(8192n, 16), check(PAGE, 8), check(PAGE, 16)]).toEqual(['EINVAL', 'EINVAL', 'none']);
});
