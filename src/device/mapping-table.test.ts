import { expect, it } from 'vitest';
import { Access } from '../abi/memory.ts';
import { MemfdMemory } from '../sys/memfd.ts';
import { MappingTable } from './mapping-table.ts';

it('S2-46 holds a reference on the memory of a mapping until it is removed', () => {
  const table = new MappingTable();
  using memory = MemfdMemory.allocate(8192);
  table.add(16, 17, memory, 0, Access.READ);
  expect(memory.references).toBe(2);
  table.remove(16);
  expect(memory.references).toBe(1);
});

it('finds the mapping of a page, and the next one', () => {
  const table = new MappingTable();
  using memory = MemfdMemory.allocate(8192);
  table.add(16, 17, memory, 0, Access.READ);
  expect([table.at(17), table.at(18), table.next(3), table.next(18)]).toEqual([
    { first: 16, last: 17 },
    null,
    { first: 16, last: 17 },
    null,
  ]);
  expect(table.entryAt(17)?.access).toBe(Access.READ);
  table.clear();
  expect([table.size, memory.references]).toEqual([0, 1]);
});
